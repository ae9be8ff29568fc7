"""Handoffs: edges that the model chooses. Each is a tool named `transfer_to_{name}`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeAlias

from beluga_graph.agents.tools import check_tool_name
from beluga_graph.models.messages import Message, ToolSpec

if TYPE_CHECKING:
    from beluga_graph.agents.agent import Agent
    from beluga_graph.flows.flow import Flow

__all__ = ["Handoff", "HandoffInput", "handoff_to", "transfer_name"]


@dataclass(frozen=True, slots=True)
class HandoffInput:
    """What an `input_filter` gets and returns: what the target will see."""

    message: str
    """What the model said with the transfer."""
    history: tuple[Message, ...]
    """The conversation so far; it must stay valid: each tool call with its one result."""
    context: dict[str, Any] = field(default_factory=dict)
    """Added to what the target, and those after it, see as `ctx.context`."""


InputFilter: TypeAlias = Callable[[HandoffInput], HandoffInput | Awaitable[HandoffInput]]


@dataclass(frozen=True, slots=True)
class Handoff:
    """One transfer that an agent may make, or, to a child, one delegation."""

    target: Agent | Flow
    description: str | None = None
    is_enabled: Callable[..., Any] | None = None
    """`f()` or `f(ctx)`, sync or async: whether the tool is offered now; asked again when it is called."""
    on_handoff: Callable[..., Any] | None = None
    """`f()` or `f(ctx)`: runs when the transfer is made, at least once; what it raises refuses the transfer."""
    input_filter: InputFilter | None = None
    """Decides what the target sees; sync or async. A delegation has no history: the message is the task."""

    @property
    def tool_name(self) -> str:
        """The name under which the model sees it."""
        return transfer_name(self.target.name)

    def spec(self, *, delegates: bool) -> ToolSpec:
        """What the model is told."""
        name = self.target.name
        if delegates:
            text = self.description or f"Delegate a task to {name} and get its result."
            about = "The task, with all that is needed to do it."
        else:
            text = self.description or f"Transfer the conversation to {name}."
            about = "What the next agent should know."
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {"message": {"type": "string", "description": about}},
            "additionalProperties": False,
        }
        if delegates:
            schema["required"] = ["message"]
        return ToolSpec(name=self.tool_name, description=text, parameters=schema)


def handoff_to(
    agent: Agent | Flow,
    description: str | None = None,
    *,
    is_enabled: Callable[..., Any] | None = None,
    on_handoff: Callable[..., Any] | None = None,
    input_filter: InputFilter | None = None,
) -> Handoff:
    """Let the model hand the conversation to `agent`, or, if that is a child, delegate a task to it."""
    return Handoff(agent, description, is_enabled, on_handoff, input_filter)


def transfer_name(name: str) -> str:
    """Return the tool name for an agent's name, kept verbatim. Raises `ToolError` if no provider carries it."""
    return check_tool_name(f"transfer_to_{name}")
