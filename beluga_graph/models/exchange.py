"""One exchange with a provider: open the stream, read it to its end, report errors."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from beluga_graph.errors import ModelError
from beluga_graph.models.messages import Reply
from beluga_graph.models.pace import Pace

__all__ = ["Answer", "Phase", "check_key", "converse"]

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
        """Yield the rest of the text, and the reply. Raises `Truncated` if the stream ended early."""
        ...


class _Stream(Protocol[EventOut]):
    def __aiter__(self) -> AsyncIterator[EventOut]: ...

    async def close(self) -> None: ...


async def converse(
    begin: Callable[[], Awaitable[_Stream[Event]]],
    answer: Answer[Event],
    fault: Callable[[Exception, Phase], ModelError],
) -> AsyncGenerator[str | Reply, None]:
    """Yield pieces of text as they arrive, and last the reply.

    The stream is closed before the reply is yielded, and also when the generator is closed early. `fault` converts an
    error to a `ModelError` with its cause; its second argument says whether the answer had begun.
    """
    try:
        stream = await begin()
    except ModelError:
        raise
    except Exception as error:  # noqa: BLE001 - SDKs raise errors of any type, and all are reported as one
        failure = fault(error, "asking")
        raise failure from failure.__cause__
    pace = Pace()
    try:
        try:
            async for event in stream:
                for piece in filter(None, answer.take(event)):
                    yield piece
                if pace.is_due:  # events without text, such as the arguments of a call, come in bursts, too
                    await pace.turn()
        finally:
            await stream.close()
        last = list(answer.end())
    except Exception as error:  # noqa: BLE001 - a bad answer can raise any error in the SDK or here
        failure = fault(error, "reading")
        raise failure from failure.__cause__
    for piece_or_reply in last:
        if piece_or_reply:
            yield piece_or_reply


def check_key(key: Any, variable: str) -> None:
    """Raise `ModelError` if a key cannot be sent in a header. The error of the transport would show the key."""
    if isinstance(key, str) and not (key.isascii() and key.isprintable() and key == key.strip()):
        raise ModelError(
            f"the API key (api_key or {variable}) contains white space or characters that a key cannot have"
        )
