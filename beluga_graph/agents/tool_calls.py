"""The tool calls of a turn: the node of a call, and its result for the model and for watchers."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from beluga_graph.agents.conversation import Outcome, as_json, as_text, revision_key
from beluga_graph.agents.tools import Tool, parse_arguments
from beluga_graph.errors import Rejected, ToolError
from beluga_graph.events import Failure
from beluga_graph.execution.context import Context, attempt_of
from beluga_graph.models.messages import Message, ToolCall
from beluga_graph.plan.declared import Approval
from beluga_graph.plan.plan import Body, positional_parameters, wants_context

__all__ = [
    "answer_of",
    "approval_of",
    "call_back",
    "emit_call",
    "emit_result",
    "outcome_of",
    "restore_arguments",
    "revision_of",
    "tool_body",
    "with_unique_ids",
]

RESULT_BYTES_MAX = 10 * 1024 * 1024  # the limit of one tool result for the model


def tool_body(found: Tool) -> Callable[..., Any]:
    """Return the body of a tool node. It validates the arguments, calls the function and emits the result.

    If a person changed the arguments, they are kept for the conversation.
    """

    async def call_tool(ctx: Context, call: ToolCall) -> str:
        arguments = found.parse(call.arguments)
        args = (ctx,) if found.body.takes_context else ()
        if found.body.is_async:
            result = await found.function(*args, **arguments)
        else:
            result = await attempt_of(ctx).in_thread(found.function, *args, **arguments)
            if inspect.isawaitable(result):
                result = await result
        text = _check_size(found.name, as_json(result))
        if found.requires_approval is not False and call not in ctx.state.pending.calls:
            ctx.update(revised={revision_key(ctx, call): call.arguments})
        emit_result(ctx, call, Outcome(text))
        return text

    call_tool.__doc__ = found.description
    return call_tool


def approval_of(found: Tool) -> Approval:
    """Return the function that decides whether a person must approve a call; never one with bad arguments."""
    wanted = found.requires_approval
    if wanted is False:
        return False
    decides = None if wanted is True else Body.of(wanted)

    async def asks(ctx: Context, call: ToolCall) -> Any:
        try:
            arguments = found.parse(call.arguments)
        except ToolError:  # the call itself reports it to the model
            return False
        if decides is None:
            return True
        args = (ctx,) if decides.takes_context else ()
        result = decides.call(*args, arguments) if decides.takes_value else decides.call(*args)
        return await result if inspect.isawaitable(result) else result

    return asks


def revision_of(found: Tool) -> Callable[[ToolCall, Any], ToolCall]:
    """Return the function that replaces the arguments of a call by those of a person. It raises `ToolError`."""

    def revise(call: ToolCall, arguments: Any) -> ToolCall:
        try:
            text = json.dumps(arguments)
        except (TypeError, ValueError) as error:
            raise ToolError(f"the arguments of {found.name} are not JSON: {error}") from error
        found.parse(text)
        return replace(call, arguments=text)

    return revise


def restore_arguments(ctx: Context, call: ToolCall, result: Any) -> ToolCall:
    """Return a call with the arguments that were used, which a person may have changed."""
    if isinstance(result, Failure) and isinstance(result.input, ToolCall):  # a failed node committed no update
        return result.input
    return replace(call, arguments=ctx.state.revised.get(revision_key(ctx, call), call.arguments))


def outcome_of(name: str, result: Any) -> Outcome:
    """Return the result of a branch (a tool, a child or a failure) as the model sees it."""
    if isinstance(result, Failure) and result.type == Rejected.__name__:
        return Outcome(f"rejected: {result.message}", is_error=True)
    if isinstance(result, Failure):
        return Outcome(f"{result.type}: {result.message}", is_error=True)
    try:
        return Outcome(_check_size(name, as_text(result)))
    except (ToolError, TypeError, ValueError, RecursionError) as error:
        return Outcome(f"the result of {name} cannot be shown as text: {error}", is_error=True)


def _check_size(name: str, text: str) -> str:
    # A character has at most four bytes, so a short text fits without being encoded.
    if len(text) * 4 > RESULT_BYTES_MAX and len(text.encode("utf-8", "surrogatepass")) > RESULT_BYTES_MAX:
        raise ToolError(f"{name} returned more than {RESULT_BYTES_MAX} bytes: return a part of it")
    return text


def answer_of(call: ToolCall, outcome: Outcome) -> Message:
    """Return the message that answers a call."""
    return Message(role="tool", content=outcome.text, call_id=call.id, name=call.name, is_error=outcome.is_error)


def with_unique_ids(calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
    """Return the calls of a turn with unique ids; ids that the model repeats or omits are replaced."""
    found: dict[str, ToolCall] = {}
    for number, call in enumerate(calls, 1):
        name = call.id or f"call_{number}"
        while name in found:
            name = f"{name}_{number}"
        found[name] = call if name == call.id else ToolCall(name, call.name, call.arguments)
    return tuple(found.values())


def emit_call(ctx: Context, call: ToolCall) -> None:
    """Emit a `tool_call` event. Arguments that are not a JSON object are shown as text."""
    try:
        arguments: Any = parse_arguments(call.name, call.arguments)
    except ToolError:
        arguments = call.arguments
    attempt_of(ctx).emit("tool_call", name=call.name, arguments=arguments, call_id=call.id)


def emit_result(ctx: Context, call: ToolCall, outcome: Outcome) -> None:
    """Emit a `tool_result` event."""
    output, error = ("", outcome.text) if outcome.is_error else (outcome.text, "")
    attempt_of(ctx).emit("tool_result", name=call.name, call_id=call.id, output=output, error=error)


async def call_back(function: Callable[..., Any], ctx: Context) -> Any:
    """Call a user's callback, `f()` or `f(ctx)`, and await it if it is async.

    A first parameter with a default belongs to the function, unless it is annotated as the context.
    """
    parameters = positional_parameters(function)
    first = parameters[0] if parameters else None
    takes = first is not None and (first.default is first.empty or wants_context(first))
    takes = takes and (first is None or first.kind is not first.VAR_POSITIONAL)
    result = function(ctx) if takes else function()
    return await result if inspect.isawaitable(result) else result
