"""The conversation of one agent call: its state, and what the model is sent of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel

from beluga_graph.attempt import Attempt
from beluga_graph.codec import is_fixed
from beluga_graph.context import Context, inside
from beluga_graph.events import Failure
from beluga_graph.kernel.words import Value
from beluga_graph.models.messages import Message, ToolCall
from beluga_graph.reducers import add, append, merge

__all__ = ["Conversation", "Outcome", "Pending", "View", "as_json", "as_text", "revision_key", "seen"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """How one tool call ended, as the model sees it."""

    text: str
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class Pending:
    """A turn whose tool calls are being made."""

    calls: tuple[ToolCall, ...]
    settled: dict[int, Outcome]
    """By position, the calls that nobody has to make: those that were refused."""
    transfers: tuple[int, ...]
    """Positions of the transfers, of which one is made once the other calls have ended."""
    message: Message | None = None
    """The model's message, if a person may be asked about one of its calls: it joins the conversation with their
    results, with the arguments that were used. `None`: it is in the conversation already."""


@dataclass(frozen=True, slots=True)
class View:
    """What is seen of a conversation after an input filter changed it: `base`, then messages from `start` on."""

    base: tuple[Message, ...]
    start: int


def forgotten(current: Any, update: Any) -> dict[str, Any]:
    """Return nothing: a branch's update, which is read where it lies, ends with the branch."""
    del current, update
    return {}


class Conversation(BaseModel):
    """The state of an agent's frame."""

    adds_to_context: ClassVar[tuple[str, ...]] = ("context", "lent")
    keeps_session: ClassVar[bool] = True

    messages: Annotated[list[Message], append] = []
    pending: Pending | None = None
    view: View | None = None
    active: str = ""
    """The agent that answers next."""
    turns: Annotated[dict[str, int], merge] = {}
    handoffs: Annotated[int, add] = 0
    asked_again: int = 0
    """How often in a row an answer did not fit the output type."""
    context: Annotated[dict[str, Any], merge] = {}
    """What input filters have added to `ctx.context`."""
    revised: Annotated[dict[str, str], merge] = {}
    """The arguments that a person gave calls instead of the model's; see `revision_key`."""
    lent: Annotated[dict[str, Any], forgotten] = {}
    """In the branch of a delegation: what its input filter has added for the worker."""


def revision_key(ctx: Context, call: ToolCall) -> str:
    """Return what tells a call from all others of the conversation: models give one id in several turns."""
    return f"{len(ctx.state.messages)}:{call.id}"


def seen(ctx: Context) -> tuple[Message, ...]:
    """Return the messages that the next model call is sent: the session's, then this call's.

    What is on record never changes, so what came before this call is decoded once while the run stays in this
    process, as the call's own messages are: else a turn would pay for the length of the conversation.
    """
    attempt, state = inside(ctx), ctx.state
    known = _Known.of(attempt)
    stored = attempt.run.places[attempt.token.place]
    own = tuple(state.messages)
    if "view" not in stored.fields:
        return (*known.of_session(attempt), *own)
    view = known.of_view(state, stored.fields["view"])
    return (*view.base, *own[view.start :])


class _Known:
    """What is known of the conversation before one agent call."""

    def __init__(self) -> None:
        self.session: tuple[Message, ...] | None = None
        self.view: tuple[Value, View] | None = None

    @classmethod
    def of(cls, attempt: Attempt) -> _Known:
        memo, place = attempt.memory.memo, attempt.token.place
        if place not in memo:
            for ended in [other for other in memo if other not in attempt.run.places]:
                del memo[ended]
            memo[place] = cls()
        known: _Known = memo[place]
        return known

    def of_session(self, attempt: Attempt) -> tuple[Message, ...]:
        """Return the session's messages."""
        if self.session is not None:
            return self.session
        found = tuple(attempt.session_items())
        if is_fixed(found):
            self.session = found
        return found

    def of_view(self, state: Any, stored: Value) -> View:
        """Return the view that a filter left; `stored` tells one from another."""
        if self.view is not None and self.view[0] == stored:
            return self.view[1]
        found: View = state.view
        if is_fixed(found.base):
            self.view = (stored, found)
        return found


def as_text(value: Any) -> str:
    """Return a value as an agent is told it: text as it is, a dict as a section per key, all else as JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Failure):
        return f"failed: {value}"
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        return "\n\n".join(f"## {name}\n{as_text(part)}" for name, part in value.items())
    return as_json(value)


def as_json(value: Any) -> str:
    """Return a value as a tool's result is told: text as it is, all else as JSON."""
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
