"""A model that says what a test tells it to, and remembers what it was asked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from beluga_graph.models import messages as wire
from beluga_graph.models.messages import Message, Reply, Request, Usage

__all__ = ["ScriptedModel", "ToolCall"]


@dataclass(frozen=True)
class ToolCall:
    """A tool call in a script. `arguments` are a dict, or raw text where a test wants broken JSON."""

    name: str
    arguments: dict[str, Any] | str = field(default_factory=dict)
    id: str | None = None
    """By default the number of the request and of the call in it: the same in every run."""


Part: TypeAlias = "str | ToolCall"
Answer: TypeAlias = "Part | Sequence[Part] | BaseException | Reply"


class ScriptedModel:
    """A `Model` that answers from a script, one entry a request, in order.

    An entry is a text, a `ToolCall`, a list of both (one turn with several calls), an exception to raise, or a
    function of the `Request` that returns one of these; instead of a list of entries one function may answer
    every request. `requests` holds every request: `.messages`, `.tools`, `.system`. A text is streamed word by
    word. Beyond the script it raises `AssertionError`, which fails the test's node.
    """

    def __init__(
        self,
        script: Iterable[Answer | Callable[[Request], Answer]] | Callable[[Request], Answer] = (),
        *,
        name: str = "scripted",
    ) -> None:
        self.name = name
        self.requests: list[Request] = []
        self._function = script if callable(script) else None
        self._script = [] if callable(script) else [script] if isinstance(script, str) else list(script)

    async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
        """Yield the next entry's text in pieces, then the reply."""
        number = len(self.requests)
        self.requests.append(request)
        answer = self._answer(number, request)
        if isinstance(answer, BaseException):
            raise answer
        if isinstance(answer, Reply):
            yield answer
            return
        parts: Sequence[Part] = [answer] if isinstance(answer, str | ToolCall) else answer
        text = "".join(part for part in parts if isinstance(part, str))
        for piece in _pieces(text):
            yield piece
        calls = tuple(
            wire.ToolCall(
                id=part.id or f"call_{number + 1}_{place}",
                name=part.name,
                arguments=part.arguments if isinstance(part.arguments, str) else json.dumps(part.arguments),
            )
            for place, part in enumerate((part for part in parts if isinstance(part, ToolCall)), 1)
        )
        message = Message(role="assistant", content=text, tool_calls=calls)
        usage = Usage(input_tokens=_words(request), output_tokens=len(text.split()))
        yield Reply(message=message, usage=usage, stop_reason="tool_calls" if calls else "end", model=self.name)

    def _answer(self, number: int, request: Request) -> Answer:
        if self._function is not None:
            return self._function(request)
        if number >= len(self._script):
            last = request.messages[-1].content if request.messages else ""
            msg = f"the script of model {self.name!r} has {len(self._script)} entries; request {number + 1}: {last!r}"
            raise AssertionError(msg)
        entry = self._script[number]
        return entry(request) if callable(entry) else entry


def _pieces(text: str) -> Iterable[str]:
    words = text.split(" ")
    for place, word in enumerate(words):
        piece = word if place == len(words) - 1 else word + " "
        if piece:
            yield piece


def _words(request: Request) -> int:
    return sum(len(str(message.content).split()) for message in request.messages)
