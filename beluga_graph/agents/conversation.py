"""The conversation of one agent call: its state, and what the model is sent of it."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph.context import Context, inside
from beluga_graph.events import Failure
from beluga_graph.models.messages import Message, ToolCall
from beluga_graph.reducers import add, append, merge

__all__ = ["Conversation", "Outcome", "Pending", "View", "as_text", "seen"]


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
    """By position, the calls that nobody has to make: refused ones, and transfers that lost."""
    transfer: int | None
    """Position of the transfer that wins once the other calls have ended."""


@dataclass(frozen=True, slots=True)
class View:
    """What is seen of a conversation after an input filter changed it: `base`, then messages from `start` on."""

    base: tuple[Message, ...]
    start: int


class Conversation(BaseModel):
    """The state of an agent's frame."""

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


def seen(ctx: Context) -> tuple[Message, ...]:
    """Return the messages that the next model call is sent: the session's, then this call's."""
    state = ctx.state
    view = state.view
    if view is None:
        return (*inside(ctx).session_items(), *state.messages)
    return (*view.base, *state.messages[view.start :])


def as_text(value: Any) -> str:
    """Return a value as an agent is told it: text as it is, the results of a parallel flow as sections, else JSON."""
    if isinstance(value, str):
        return value
    if isinstance(value, Failure):
        return f"failed: {value}"
    if isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        return "\n\n".join(f"## {name}\n{as_text(part)}" for name, part in value.items())
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
