"""The nodes of a handoff: one that gives the conversation away, one that delegates a task to a child."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from beluga_graph.agents.conversation import FilteredHistory, Outcome, visible_messages
from beluga_graph.agents.handoffs import Handoff, HandoffInput
from beluga_graph.agents.tool_calls import answer_of, call_back, emit_result
from beluga_graph.agents.tools import parse_arguments
from beluga_graph.errors import LimitReached, ModelError, ToolError
from beluga_graph.execution.context import Context, attempt_of
from beluga_graph.models.conversation import check_conversation
from beluga_graph.models.messages import Message, ToolCall

__all__ = ["AGAIN", "delegate", "transfer"]

AGAIN = "again"


def transfer(source: str, made: Handoff) -> Callable[..., Any]:
    """Return the body of a handoff node. It makes the transfer, or refuses it and goes back to the model."""
    target, tool = made.target.name, made.tool_name

    async def hand_over(ctx: Context, call: ToolCall) -> None:
        hops = ctx.state.handoffs + 1
        if hops > attempt_of(ctx).limit("max_handoffs"):
            raise LimitReached("", f"{hops - 1} handoffs in one agent call: raise max_handoffs, or mend the circle")
        message = parse_arguments(tool, call.arguments).get("message", "")
        refused = await _call_on_handoff(ctx, made)
        outcome = refused or Outcome(f"transferred to {target}" + (f": {message}" if message else ""))
        ctx.update(messages=answer_of(call, outcome))
        emit_result(ctx, call, outcome)
        if refused is not None:
            attempt_of(ctx).choose_route(AGAIN)
            return
        ctx.update(handoffs=1, active=target)
        if made.input_filter is not None:
            history = visible_messages(ctx)
            filtered = await _apply_filter(made, HandoffInput(message, history, _context_of(ctx)))
            base = _base_of(tool, filtered, message)
            if base != history:
                ctx.update(view=FilteredHistory(base, len(ctx.state.messages)))
            ctx.update(context=dict(filtered.context))
        attempt_of(ctx).emit("handoff", source=source, target=target, agent=target)
        attempt_of(ctx).choose_route(tool)

    hand_over.__doc__ = f"Hand the conversation to {target}."
    return hand_over


def delegate(made: Handoff) -> Callable[..., Any]:
    """Return the body of the node before a child. It calls the callbacks of the delegation and passes the task on."""

    async def hand_task(ctx: Context, task: str) -> str:
        refused = await _call_on_handoff(ctx, made)
        if refused is not None:
            raise ToolError(refused.text)
        if made.input_filter is None:
            return task
        filtered = await _apply_filter(made, HandoffInput(task, (), _context_of(ctx)))
        ctx.update(lent=dict(filtered.context))
        return filtered.message

    hand_task.__doc__ = f"Delegate a task to {made.target.name}."
    return hand_task


async def _call_on_handoff(ctx: Context, made: Handoff) -> Outcome | None:
    if made.on_handoff is None:
        return None
    try:
        await call_back(made.on_handoff, ctx)
    except Exception as error:  # noqa: BLE001 - the exception of a callback refuses the transfer, and the model gets its text
        return Outcome(f"not transferred: {type(error).__name__}: {error}", is_error=True)
    return None


async def _apply_filter(made: Handoff, given: HandoffInput) -> HandoffInput:
    assert made.input_filter is not None
    filtered: Any = made.input_filter(given)
    if inspect.isawaitable(filtered):
        filtered = await filtered
    if not isinstance(filtered, HandoffInput):
        kind = type(filtered).__name__
        raise ToolError(f"the input_filter of {made.tool_name} returned {kind}: return a HandoffInput")
    return filtered


def _base_of(tool: str, filtered: HandoffInput, message: str) -> tuple[Message, ...]:
    """Return the messages that the target sees, with the message of the filter if it is new or the only one."""
    base = tuple(filtered.history)
    if filtered.message and (filtered.message != message or not base):
        base = (*base, Message(role="user", content=filtered.message))
    try:
        check_conversation(base)
    except ModelError as error:
        raise ToolError(
            f"the input_filter of {tool} returned a history that cannot be sent to a model: {error}"
        ) from error
    return base


def _context_of(ctx: Context) -> dict[str, Any]:
    return dict(ctx.context) if isinstance(ctx.context, dict) else {}
