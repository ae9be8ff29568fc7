"""Handoffs: edges that the model chooses. Each is a tool named `transfer_to_{name}`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeAlias

from beluga_graph.agents.tools import check_tool_name
from beluga_graph.flows.flow import Flow
from beluga_graph.models.messages import Message, ToolSpec

__all__ = ["Handoff", "HandoffInput", "handoff_to", "transfer_name"]


@dataclass(frozen=True, slots=True)
class HandoffInput:
    """The input and output of an `input_filter`: the part of a conversation that the target of a handoff sees.

    Attributes:
        message: The message that the model wrote with the transfer; for a delegation, the task.
        history: The conversation so far; empty for a delegation. It must stay valid: one result for each tool call.
        context: Values added to `ctx.context` of the target and of later agents.
    """

    message: str
    history: tuple[Message, ...]
    context: dict[str, Any] = field(default_factory=dict)


InputFilter: TypeAlias = Callable[[HandoffInput], HandoffInput | Awaitable[HandoffInput]]


@dataclass(frozen=True, slots=True)
class Handoff:
    """One transfer that an agent can make, or, if the target is a child, one delegation. `handoff_to` builds it.

    Attributes:
        target: The agent that gets the conversation, or the child that gets the task.
        description: The description of the tool for the model; a standard text by default.
        is_enabled: `f()` or `f(ctx)`, sync or async. The tool is offered if it returns a true value; it is called
            again when the model calls the tool.
        on_handoff: `f()` or `f(ctx)`, sync or async. Called at least once when the transfer is made; an exception
            refuses the transfer, and the model gets its text.
        input_filter: `f(HandoffInput) -> HandoffInput`, sync or async. Decides what the target sees.
    """

    target: Flow
    description: str | None = None
    is_enabled: Callable[..., Any] | None = None
    on_handoff: Callable[..., Any] | None = None
    input_filter: InputFilter | None = None

    @property
    def tool_name(self) -> str:
        """The name of the tool, `transfer_to_{name}`."""
        return transfer_name(self.target.name)

    def spec(self, *, delegates: bool) -> ToolSpec:
        """Return the tool as it is offered to the model."""
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
    agent: Flow,
    description: str | None = None,
    *,
    is_enabled: Callable[..., Any] | None = None,
    on_handoff: Callable[..., Any] | None = None,
    input_filter: InputFilter | None = None,
) -> Handoff:
    """Return a handoff: the model hands the conversation to `agent`, or delegates a task to it if it is a child.

    `is_enabled` and `on_handoff` receive the context, or nothing: `f(ctx)` or `f()`. `input_filter` receives a
    `HandoffInput` and returns one. All three may be async. See the attributes of `Handoff`.

    ```python
    def only_the_last(given: HandoffInput) -> HandoffInput:
        return replace(given, history=given.history[-2:])

    triage = Agent("triage", model=model, handoffs=[handoff_to(billing, input_filter=only_the_last)])
    ```
    """
    return Handoff(agent, description, is_enabled, on_handoff, input_filter)


def transfer_name(name: str) -> str:
    """Return the name of the tool for an agent's name, unchanged. Raises `ToolError` if providers do not accept it."""
    return check_tool_name(f"transfer_to_{name}")
