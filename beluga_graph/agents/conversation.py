"""The conversation of one agent call: its state, and the messages that are sent to the model."""

from __future__ import annotations

import copy
import dataclasses
import json
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import takewhile
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel

from beluga_graph.events import Failure
from beluga_graph.execution.attempt import Attempt
from beluga_graph.execution.context import Context, attempt_of
from beluga_graph.kernel.types import Value
from beluga_graph.models.messages import Echo, Message, ToolCall
from beluga_graph.reducers import add, append, merge

__all__ = [
    "Conversation",
    "FilteredHistory",
    "Outcome",
    "Pending",
    "as_json",
    "as_text",
    "revision_key",
    "visible_messages",
]


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of one tool call, as the model sees it."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """A turn whose tool calls are being made."""

    calls: tuple[ToolCall, ...]
    settled: dict[int, Outcome]
    """The results of refused calls, by position."""
    transfers: tuple[int, ...]
    """Positions of the transfers. One of them is made when the other calls have ended."""
    message: Message | None = None
    """The model's message, if a person may have to approve one of its calls. It joins the conversation with the results
    and with the arguments that were used. `None`: it is in the conversation already."""


@dataclass(frozen=True, slots=True)
class FilteredHistory:
    """The visible part of a conversation after an input filter: `base`, then the messages from `start` on."""

    base: tuple[Message, ...]
    start: int


def forgotten(current: Any, update: Any) -> dict[str, Any]:
    """Return an empty dict: the update is visible inside its branch only, and ends with it."""
    # The name of a reducer is part of stored graphs: do not rename this function.
    del current, update
    return {}


class Conversation(BaseModel):
    """The state of an agent's frame."""

    adds_to_context: ClassVar[tuple[str, ...]] = ("context", "lent")
    keeps_session: ClassVar[bool] = True

    messages: Annotated[list[Message], append] = []
    pending: Pending | None = None
    view: FilteredHistory | None = None
    active: str = ""
    """The agent that answers next."""
    turns: Annotated[dict[str, int], merge] = {}
    handoffs: Annotated[int, add] = 0
    asked_again: int = 0
    """The number of answers in a row that did not fit the output type."""
    context: Annotated[dict[str, Any], merge] = {}
    """The values that input filters added to `ctx.context`."""
    revised: Annotated[dict[str, str], merge] = {}
    """The arguments of calls that a person changed, by `revision_key`."""
    lent: Annotated[dict[str, Any], forgotten] = {}
    """In the branch of a delegation: the values that its input filter added for the child."""


def revision_key(ctx: Context, call: ToolCall) -> str:
    """Return a key that is unique in the conversation: models use one call id in several turns."""
    return f"{len(ctx.state.messages)}:{call.id}"


def visible_messages(ctx: Context) -> tuple[Message, ...]:
    """Return the messages for the next model call: those of the session, then those of this agent call.

    Stored messages never change, so an engine decodes each one once. Otherwise a turn would cost the length of the
    conversation, and a run the length of its session. Mutable parts of a message are copied for each call.
    """
    attempt, state = attempt_of(ctx), ctx.state
    known = _Known.of(attempt)
    stored = attempt.run.places[attempt.token.place]
    known.take(attempt, stored.lengths.get("messages", 0))
    own = [*known.own.fresh(), *attempt.state.read_own_items("messages")]
    if "view" not in stored.fields:
        return (*_of_session(attempt), *own)
    base, start = known.of_view(state, stored.fields["view"])
    return (*base, *own[start:])


class _Row:
    """Messages that are decoded once. `fresh` copies the messages that could be changed."""

    def __init__(self, messages: Iterable[Message] = ()) -> None:
        self._messages: list[Message] = []
        self._loose: list[int] = []  # positions of messages with mutable parts
        for message in messages:
            self.add(message)

    def __len__(self) -> int:
        return len(self._messages)

    def add(self, message: Message) -> None:
        if message.echo is not None or not isinstance(message.content, str):
            self._loose.append(len(self._messages))
        self._messages.append(message)

    def fresh(self, length: int | None = None) -> list[Message]:
        """Return the first `length` messages, by default all. Only messages with mutable parts are copied."""
        found = self._messages[:length]
        for position in takewhile(lambda position: position < len(found), self._loose):
            message = found[position]
            echo, content = _copy(message.echo), _copy(message.content)
            found[position] = dataclasses.replace(message, echo=echo, content=content)
        return found


class _Known:
    """The decoded part of the conversation of one agent call."""

    def __init__(self) -> None:
        self.own = _Row()
        self._view: tuple[Value, _Row, int] | None = None

    @classmethod
    def of(cls, attempt: Attempt) -> _Known:
        cache, place = attempt.values.source.decoded_cache, attempt.token.place
        if place not in cache:
            for ended in [other for other in cache if other not in attempt.run.places]:
                del cache[ended]
            cache[place] = cls()
        known: _Known = cache[place]
        return known

    def take(self, attempt: Attempt, length: int) -> None:
        """Decode the messages that were committed since the last call."""
        for item in attempt.read_items(attempt.token.place, "messages", len(self.own), length):
            self.own.add(attempt.decode(item))

    def of_view(self, state: Any, stored: Value) -> tuple[list[Message], int]:
        """Return the messages of an input filter, and the position from which own messages follow.

        `stored` identifies the result of the filter.
        """
        if self._view is None or self._view[0] != stored:
            found: FilteredHistory = state.view
            self._view = (stored, _Row(found.base), found.start)
        return self._view[1].fresh(), self._view[2]


def _of_session(attempt: Attempt) -> list[Message]:
    """Return the messages that the session had when the run began. The engine keeps decoded ones between runs."""
    session = attempt.session
    if session is None:
        return []
    cache = attempt.resources.shared_cache
    key = (session.flow, session.id, session.generation)
    row: _Row = cache.get_or_create(key, _Row)
    if len(row) < session.length:
        for whole in attempt.read_session_items(len(row)):
            row.add(attempt.decode(whole))
            cache.add_size(key, len(whole))
    return row.fresh(session.length)


def _copy(value: Any) -> Any:
    """Return a copy of a part of a message. Parts from a provider are JSON, for which `deepcopy` is slow."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool, bytes):
        return value
    if kind is dict:
        return {key: _copy(part) for key, part in value.items()}
    if kind is list or kind is tuple:
        return kind(map(_copy, value))
    if kind is Echo:
        return Echo(value.api, value.model, _copy(value.items))
    return copy.deepcopy(value)


def as_text(value: Any) -> str:
    """Return a value as text for an agent: text unchanged, a dict as one section per key, any other value as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Failure):
        return f"failed: {value}"
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        return "\n\n".join(f"## {name}\n{as_text(part)}" for name, part in value.items())
    return as_json(value)


def as_json(value: Any) -> str:
    """Return a value as the text of a tool's result: text unchanged, any other value as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, BaseModel):
        return value.model_dump_json()
    return json.dumps(value, ensure_ascii=False, default=_plain)


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return dataclasses.asdict(value)
    if isinstance(value, set | frozenset):
        return sorted(value, key=repr)
    return str(value)
