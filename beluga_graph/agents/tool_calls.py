"""The tool calls of a turn: how one is made, and how its result gets to the model and to watchers."""

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
from beluga_graph.execution.context import Context, inside
from beluga_graph.models.messages import Message, ToolCall
from beluga_graph.plan import Body
from beluga_graph.plan.declared import Approval
from beluga_graph.plan.plan import positional, wants_context

__all__ = [
    "answer_of",
    "approval_of",
    "as_made",
    "called",
    "identified",
    "outcome_of",
    "revision_of",
    "show_call",
    "show_result",
    "tool_body",
]

RESULT_BYTES_MAX = 10 * 1024 * 1024  # of one tool result as the model sees it


def tool_body(found: Tool) -> Callable[..., Any]:
    """Return the body of a tool node: validates the arguments, calls the function, shows the result.

    Where a person gave other arguments than the model, they are kept for the conversation.
    """

    async def call_tool(ctx: Context, call: ToolCall) -> str:
        arguments = found.parse(call.arguments)
        args = (ctx,) if found.body.takes_context else ()
        if found.body.is_async:
            result = await found.function(*args, **arguments)
        else:
            result = await inside(ctx).in_thread(found.function, *args, **arguments)
            if inspect.isawaitable(result):
                result = await result
        text = _bounded(found.name, as_json(result))
        if found.requires_approval is not False and call not in ctx.state.pending.calls:
            ctx.update(revised={revision_key(ctx, call): call.arguments})
        show_result(ctx, call, Outcome(text))
        return text

    call_tool.__doc__ = found.description
    return call_tool


def approval_of(found: Tool) -> Approval:
    """Return what decides whether a person is asked before a call: never about one that cannot be made."""
    wanted = found.requires_approval
    if wanted is False:
        return False
    decides = None if wanted is True else Body.of(wanted)

    async def asks(ctx: Context, call: ToolCall) -> Any:
        try:
            arguments = found.parse(call.arguments)
        except ToolError:  # the call itself will tell the model
            return False
        if decides is None:
            return True
        args = (ctx,) if decides.takes_context else ()
        result = decides.call(*args, arguments) if decides.takes_value else decides.call(*args)
        return await result if inspect.isawaitable(result) else result

    return asks


def revision_of(found: Tool) -> Callable[[ToolCall, Any], ToolCall]:
    """Return what makes of a call one with the other arguments that a person gave. Raises `ToolError`."""

    def revise(call: ToolCall, arguments: Any) -> ToolCall:
        try:
            text = json.dumps(arguments)
        except (TypeError, ValueError) as error:
            raise ToolError(f"the arguments of {found.name} are not JSON: {error}") from error
        found.parse(text)
        return replace(call, arguments=text)

    return revise


def as_made(ctx: Context, call: ToolCall, result: Any) -> ToolCall:
    """Return a call of a turn with the arguments that it was made with, which a person may have given."""
    if isinstance(result, Failure) and isinstance(result.input, ToolCall):  # its node kept nothing
        return result.input
    return replace(call, arguments=ctx.state.revised.get(revision_key(ctx, call), call.arguments))


def outcome_of(name: str, result: Any) -> Outcome:
    """Return a branch's result as the model sees it: of a tool, a child, or a failure."""
    if isinstance(result, Failure) and result.type == Rejected.__name__:
        return Outcome(f"rejected: {result.message}", is_error=True)
    if isinstance(result, Failure):
        return Outcome(f"{result.type}: {result.message}", is_error=True)
    try:
        return Outcome(_bounded(name, as_text(result)))
    except (ToolError, TypeError, ValueError, RecursionError) as error:
        return Outcome(f"the result of {name} cannot be told: {error}", is_error=True)


def _bounded(name: str, text: str) -> str:
    # A character is at most four bytes, so a short text need not be encoded to know that it fits.
    if len(text) * 4 > RESULT_BYTES_MAX and len(text.encode("utf-8", "surrogatepass")) > RESULT_BYTES_MAX:
        raise ToolError(f"{name} returned more than {RESULT_BYTES_MAX} bytes: return a part of it")
    return text


def answer_of(call: ToolCall, outcome: Outcome) -> Message:
    """Return the message that answers a call."""
    return Message(role="tool", content=outcome.text, call_id=call.id, name=call.name, is_error=outcome.is_error)


def identified(calls: tuple[ToolCall, ...]) -> tuple[ToolCall, ...]:
    """Return a turn's calls with an id each of their own, whatever the model gave."""
    found: dict[str, ToolCall] = {}
    for number, call in enumerate(calls, 1):
        name = call.id or f"call_{number}"
        while name in found:
            name = f"{name}_{number}"
        found[name] = call if name == call.id else ToolCall(name, call.name, call.arguments)
    return tuple(found.values())


def show_call(ctx: Context, call: ToolCall) -> None:
    """Tell watchers what the model wants called; arguments that are no JSON object are shown as their text."""
    try:
        arguments: Any = parse_arguments(call.name, call.arguments)
    except ToolError:
        arguments = call.arguments
    inside(ctx).emit("tool_call", name=call.name, arguments=arguments, call_id=call.id)


def show_result(ctx: Context, call: ToolCall, outcome: Outcome) -> None:
    """Tell watchers how a call ended."""
    output, error = ("", outcome.text) if outcome.is_error else (outcome.text, "")
    inside(ctx).emit("tool_result", name=call.name, call_id=call.id, output=output, error=error)


async def called(function: Callable[..., Any], ctx: Context) -> Any:
    """Call a user's callback, `f()` or `f(ctx)`, and await it if it is async.

    A first parameter with a default is the function's own, unless it asks for the context.
    """
    parameters = positional(function)
    first = parameters[0] if parameters else None
    takes = first is not None and (first.default is first.empty or wants_context(first))
    takes = takes and (first is None or first.kind is not first.VAR_POSITIONAL)
    result = function(ctx) if takes else function()
    return await result if inspect.isawaitable(result) else result
