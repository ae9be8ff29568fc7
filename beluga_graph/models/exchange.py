"""One exchange with a provider, whichever it is: open the stream, read it to its end, tell what went wrong."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from beluga_graph.errors import ModelError
from beluga_graph.models.messages import Reply
from beluga_graph.models.pace import Pace

__all__ = ["Answer", "Phase", "converse", "usable_key"]

Event = TypeVar("Event")
EventIn = TypeVar("EventIn", contravariant=True)
EventOut = TypeVar("EventOut", covariant=True)
Phase: TypeAlias = Literal["asking", "reading"]


class Answer(Protocol[EventIn]):
    """Gathers the events of one stream."""

    def take(self, event: EventIn, /) -> Iterator[str]:
        """Take the next event; yield the text in it."""
        ...

    def end(self) -> Iterator[str | Reply]:
        """Yield the last of the text, and the reply. Raises `Truncated` if the stream ended early."""
        ...


class _Stream(Protocol[EventOut]):
    def __aiter__(self) -> AsyncIterator[EventOut]: ...

    async def close(self) -> None: ...


async def converse(
    begin: Callable[[], Awaitable[_Stream[Event]]],
    answer: Answer[Event],
    fault: Callable[[Exception, Phase], ModelError],
) -> AsyncGenerator[str | Reply, None]:
    """Yield the pieces of text as they come, and last the reply.

    The stream is closed before the reply is given, and also when the generator is closed early. `fault` makes
    the `ModelError` to raise from an error, its cause set; it is told whether the answer had begun.
    """
    try:
        stream = await begin()
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - SDKs raise anything, and each of it is told as one error
        failure = fault(error, "asking")
        raise failure from failure.__cause__
    pace = Pace()
    try:
        try:
            async for event in stream:
                for piece in answer.take(event):
                    if piece:
                        yield piece
                if pace.is_due:  # events without text, such as the arguments of a call, come in bursts, too
                    await pace.turn()
        finally:
            await stream.close()
        last = list(answer.end())
    except Exception as error:  # noqa: BLE001 - a server can make the SDK, and us, stumble in any way
        failure = fault(error, "reading")
        raise failure from failure.__cause__
    for piece_or_reply in last:
        if piece_or_reply:
            yield piece_or_reply


def usable_key(key: Any, variable: str) -> None:
    """Raise `ModelError` if a key cannot stand in a header; the transport's own error would show it."""
    if isinstance(key, str) and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ModelError(f"the API key (api_key or {variable}) holds white space or characters that no key has")
