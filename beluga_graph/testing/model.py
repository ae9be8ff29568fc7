"""A model that answers from a script and records its requests."""

from __future__ import annotations

import inspect
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from beluga_graph.models import messages as wire
from beluga_graph.models.messages import Message, Reply, Request, Usage

__all__ = ["ScriptedModel", "ToolCall"]


@dataclass(frozen=True)
class ToolCall:
    """A tool call in a script.

    Attributes:
        name: The name of the tool.
        arguments: A dict, or raw text for a test of broken JSON.
        id: By default made of the number of messages and the position of the call: the same in every run.
    """

    name: str
    arguments: dict[str, Any] | str = field(default_factory=dict)
    id: str | None = None


Part: TypeAlias = "str | ToolCall | BaseException"
Answer: TypeAlias = "Part | Sequence[Part] | Reply"
Entry: TypeAlias = "Answer | Callable[[Request], Answer | Awaitable[Answer]]"


class ScriptedModel:
    """A `Model` that answers from a script, one entry per request, in order.

    An entry is a text, a `ToolCall`, an exception to raise, a list of these (one turn; an exception ends the stream
    after the text before it), or a function of the `Request`, sync or async, that returns one of them. A function
    instead of the list answers every request. Then answers do not depend on earlier requests, as tests need that kill
    an engine or run several agents at once. A text is streamed word by word. A request beyond the script raises
    `AssertionError`, which fails the node.

    ```python
    model = ScriptedModel([ToolCall("search", {"query": "rain"}), "It rains."])
    assert run_sync(Agent("weather", model=model, tools=[search]), "Is it dry?") == "It rains."
    assert model.requests[1].messages[-1].role == "tool"
    ```

    Attributes:
        name: The name of the model.
        requests: Every `Request` so far: `.messages`, `.tools`, `.system`.
    """

    def __init__(
        self,
        script: Iterable[Entry] | Callable[[Request], Answer | Awaitable[Answer]] = (),
        *,
        name: str = "scripted",
    ) -> None:
        self.name = name
        self.requests: list[Request] = []
        self._function = script if callable(script) else None
        self._script = [] if callable(script) else [script] if isinstance(script, str) else list(script)

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """Yield the text of the next entry in pieces, then the reply."""
        number = len(self.requests)
        self.requests.append(request)
        answer = self._answer(number, request)
        if inspect.isawaitable(answer):
            answer = await answer
        if isinstance(answer, Reply):
            yield answer
            return
        parts = [answer] if isinstance(answer, str | ToolCall | BaseException) else list(answer)
        text = ""
        for part in parts:
            if isinstance(part, BaseException):
                raise part
            if isinstance(part, str):
                text += part
                for piece in _pieces(part):
                    yield piece
        yield _reply(self.name, request, text, [part for part in parts if isinstance(part, ToolCall)])

    def _answer(self, number: int, request: Request) -> Answer | Awaitable[Answer]:
        if self._function is not None:
            return self._function(request)
        if number >= len(self._script):
            last = request.messages[-1].content if request.messages else ""
            msg = f"the script of model {self.name!r} has {len(self._script)} entries; request {number + 1}: {last!r}"
            raise AssertionError(msg)
        entry = self._script[number]
        return entry(request) if callable(entry) else entry


def _reply(model: str, request: Request, text: str, calls: Sequence[ToolCall]) -> Reply:
    made = tuple(
        wire.ToolCall(
            id=call.id or f"call_{len(request.messages)}_{place}",
            name=call.name,
            arguments=call.arguments if isinstance(call.arguments, str) else json.dumps(call.arguments),
        )
        for place, call in enumerate(calls, 1)
    )
    message = Message(role="assistant", content=text, tool_calls=made)
    usage = Usage(input_tokens=_words(request), output_tokens=len(text.split()))
    return Reply(message=message, usage=usage, stop_reason="tool_calls" if made else "end", model=model)


def _pieces(text: str) -> Iterable[str]:
    words = text.split(" ")
    for place, word in enumerate(words):
        piece = word if place == len(words) - 1 else word + " "
        if piece:
            yield piece


def _words(request: Request) -> int:
    return sum(len(str(message.content).split()) for message in request.messages)
