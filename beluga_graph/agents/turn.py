"""The nodes of an agent: a model turn, a tool call, the join of a turn's calls, a handoff.

What a turn decides is on record with its step: the answer, the calls, which of them are refused, which
transfer wins. Each call is a step of its own; the join puts every result into the conversation, in call
order, so that each call has exactly one result whatever crashed, failed or was handed on meanwhile.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from beluga_graph.agents.conversation import Outcome, Pending, View, as_text, seen
from beluga_graph.agents.handoffs import Handoff, HandoffInput
from beluga_graph.agents.tools import Tool, parse_arguments
from beluga_graph.context import Context, inside
from beluga_graph.errors import LimitReached, ModelError, ToolError
from beluga_graph.events import Failure
from beluga_graph.models.base import Model
from beluga_graph.models.messages import Message, Reply, Request, ToolCall, ToolSpec

if TYPE_CHECKING:
    from beluga_graph.agents.agent import Agent

__all__ = ["AGAIN", "ANSWER", "CALLS", "Turn"]

ANSWER, AGAIN, CALLS = "answer", "again", "calls"
RESULT_BYTES_MAX = 10 * 1024 * 1024  # of one tool result as the model sees it


@dataclass(frozen=True, slots=True)
class Turn:
    """The code of one agent's nodes."""

    agent: Agent
    model: Model
    tools: dict[str, Tool]
    transfers: dict[str, Handoff]
    children: dict[str, int]
    """Of transfers to children: where the fan-out leads each."""
    targets: dict[str, int]
    """Of tools: where the fan-out leads each."""

    # The model's turn.

    async def think(self, ctx: Context, value: Any) -> Any:
        """Ask the model once. Returns the answer; a call that transfers; or `None` when other turns follow."""
        state, agent = ctx.state, self.agent
        new: list[Message] = []
        if not state.turns:  # the first turn of this call, whoever makes it; later ones find all in the state
            new.append(Message(role="user", content=as_text(value)))
        made = state.turns.get(agent.name, 0)
        allowed = min(agent.max_turns, inside(ctx).limit("max_turns")) if agent.max_turns == 10 else agent.max_turns
        if made >= allowed:
            raise LimitReached("", f"agent {agent.name!r} made {made} model turns without an answer: raise max_turns")
        offered = await self._offered(ctx)
        request = Request(
            system=await self._system(ctx),
            messages=(*seen(ctx), *new),
            tools=tuple(offered.values()),
            output_schema=agent.output_schema,
            settings=dict(agent.settings),
        )
        reply = await self._asked(ctx, request)
        inside(ctx).add_usage(
            input_tokens=reply.usage.input_tokens, output_tokens=reply.usage.output_tokens, model_calls=1
        )
        ctx.update(messages=[*new, reply.message], turns={agent.name: made + 1}, active=agent.name)
        if reply.message.tool_calls:
            return await self._called(ctx, reply.message.tool_calls, offered)
        return self._answered(ctx, reply)

    async def _asked(self, ctx: Context, request: Request) -> Reply:
        reply = None
        stream = self.model.stream(request)
        try:
            async for piece in stream:
                if isinstance(piece, str):
                    ctx.emit_text(piece)
                else:
                    reply = piece
        finally:
            close = getattr(stream, "aclose", None)
            if close is not None:
                await close()
        if reply is None:
            raise ModelError(f"model {self.model.name!r} ended its stream without a reply", retryable=True)
        return reply

    async def _system(self, ctx: Context) -> str:
        agent = self.agent
        parts = [agent.persona.prompt()] if agent.persona is not None else []
        if callable(agent.instructions):
            parts.append(str(await called(agent.instructions, ctx)))
        elif agent.instructions:
            parts.append(agent.instructions)
        return "\n\n".join(part for part in parts if part)

    async def _offered(self, ctx: Context) -> dict[str, ToolSpec]:
        """Return the tools that the model is offered now, by name."""
        offered = {name: found.spec for name, found in self.tools.items()}
        for name, handoff in self.transfers.items():
            if handoff.is_enabled is None or await called(handoff.is_enabled, ctx):
                offered[name] = handoff.spec(delegates=name in self.children)
        return offered

    def _answered(self, ctx: Context, reply: Reply) -> Any:
        message = reply.message
        if self.agent.output_type is None:
            inside(ctx).take(ANSWER)
            return as_text(message.content) if isinstance(message.content, str) else message.text
        try:
            output = self.agent.parse_output(message.text)
        except ValueError as error:
            again = ctx.state.asked_again + 1
            if again > self.agent.output_retries:
                raise ToolError(f"agent {self.agent.name!r} gave no valid output in {again} tries: {error}") from error
            ctx.update(
                asked_again=again,
                messages=Message(role="user", content=f"Your answer does not fit: {error}\nGive the corrected answer."),
            )
            inside(ctx).take(AGAIN)
            return None
        inside(ctx).take(ANSWER)
        return output

    async def _called(self, ctx: Context, calls: tuple[ToolCall, ...], offered: dict[str, ToolSpec]) -> Any:
        """Decide each call of a turn: made by a branch, refused, or the transfer."""
        settled: dict[int, Outcome] = {}
        transfer: int | None = None
        ordinary = False
        for position, call in enumerate(calls):
            inside(ctx).emit("tool_call", name=call.name, arguments=_shown(call.arguments), call_id=call.id)
            refused = await self._refused(ctx, call, offered)
            if refused is not None:
                settled[position] = Outcome(refused, is_error=True)
            elif call.name in self.transfers and call.name not in self.children:
                if transfer is None:
                    transfer = position
                else:
                    settled[position] = Outcome(
                        "not transferred: an earlier transfer of this turn was made", is_error=True
                    )
            else:
                ordinary = True
        pending = Pending(calls, settled, transfer)
        if ordinary:
            ctx.update(pending=pending)
            inside(ctx).take(CALLS)
            return None
        return self._settle(ctx, pending, {})

    async def _refused(self, ctx: Context, call: ToolCall, offered: dict[str, ToolSpec]) -> str | None:
        """Return why a call is not made, as the model is told; `None` if it is."""
        if call.name not in offered and call.name not in self.transfers:
            known = ", ".join(offered) or "none"
            return f"there is no tool {call.name!r}; the tools are: {known}"
        if call.name not in self.transfers:
            return None
        handoff = self.transfers[call.name]
        if handoff.is_enabled is not None and not await called(handoff.is_enabled, ctx):
            return f"{call.name} is not available now"
        try:
            message = parse_arguments(call.name, call.arguments).get("message", "")
        except ToolError as error:
            return str(error)
        if not isinstance(message, str) or (call.name in self.children and not message.strip()):
            return f"{call.name} needs a message: the task as text"
        return None

    # The calls.

    def branches(self, ctx: Context, value: Any) -> list[tuple[int, Any]]:
        """Return the calls that branches make: where each leads, and what it is given."""
        del value
        pending: Pending = ctx.state.pending
        found: list[tuple[int, Any]] = []
        for position, call in enumerate(pending.calls):
            if position in pending.settled or position == pending.transfer:
                continue
            if call.name in self.children:
                found.append((self.children[call.name], parse_arguments(call.name, call.arguments)["message"]))
            else:
                found.append((self.targets[call.name], call))
        return found

    def join(self, ctx: Context, results: list[Any]) -> Any:
        """Put the results of a turn's calls into the conversation, in call order."""
        pending: Pending = ctx.state.pending
        made = [i for i in range(len(pending.calls)) if i not in pending.settled and i != pending.transfer]
        outcomes = {}
        for position, result in zip(made, results, strict=True):
            outcomes[position] = outcome_of(result)
            call = pending.calls[position]
            if isinstance(result, Failure) or call.name in self.children:
                outcome = outcomes[position]
                show_result(ctx, call, outcome)
        ctx.update(pending=None)
        return self._settle(ctx, pending, outcomes)

    def _settle(self, ctx: Context, pending: Pending, outcomes: dict[int, Outcome]) -> Any:
        """Answer every call but the winning transfer, and go on: to the handoff, or to the next turn."""
        messages = []
        for position, call in enumerate(pending.calls):
            outcome = pending.settled.get(position) or outcomes.get(position)
            if outcome is None:
                continue
            if position in pending.settled:
                show_result(ctx, call, outcome)
            messages.append(
                Message(role="tool", content=outcome.text, call_id=call.id, name=call.name, is_error=outcome.is_error)
            )
        if messages:
            ctx.update(messages=messages)
        if pending.transfer is None:
            inside(ctx).take(AGAIN)
            return None
        call = pending.calls[pending.transfer]
        inside(ctx).take(call.name)
        return call

    # The handoff.

    def handoff(self, name: str) -> Callable[..., Any]:
        """Return the body of a handoff node: makes the transfer, or refuses it."""
        made = self.transfers[name]

        async def hand_over(ctx: Context, call: ToolCall) -> None:
            hops = ctx.state.handoffs + 1
            if hops > inside(ctx).limit("max_handoffs"):
                raise LimitReached("", f"{hops - 1} handoffs in one agent call: raise max_handoffs, or mend the circle")
            message = parse_arguments(call.name, call.arguments).get("message", "")
            refused = await self._not_handed(ctx, made)
            if refused is not None:
                answer_call(ctx, call, Outcome(refused, is_error=True))
                inside(ctx).take(AGAIN)
                return None
            note = f"transferred to {made.target.name}" + (f": {message}" if message else "")
            result = answer_call(ctx, call, Outcome(note))
            ctx.update(handoffs=1, active=made.target.name)
            if made.input_filter is not None:
                await self._filter(ctx, made, message, result)
            inside(ctx).emit("handoff", source=self.agent.name, target=made.target.name, agent=made.target.name)
            inside(ctx).take(name)
            return None

        hand_over.__doc__ = f"Hand the conversation to {made.target.name}."
        return hand_over

    async def _not_handed(self, ctx: Context, made: Handoff) -> str | None:
        if made.on_handoff is None:
            return None
        try:
            await called(made.on_handoff, ctx)
        except Exception as error:  # noqa: BLE001 - a callback that raises refuses the transfer, and the model is told
            return f"not transferred: {type(error).__name__}: {error}"
        return None

    async def _filter(self, ctx: Context, made: Handoff, message: str, result: Message) -> None:
        assert made.input_filter is not None
        del result
        history = seen(ctx)
        given = HandoffInput(message=message, history=history, context=dict(ctx.context))
        filtered = made.input_filter(given)
        if inspect.isawaitable(filtered):
            filtered = await filtered
        if not isinstance(filtered, HandoffInput):
            raise ToolError(
                f"the input_filter of {made.tool_name} returned {type(filtered).__name__}: return a HandoffInput"
            )
        base = tuple(filtered.history)
        if filtered.message != message:
            base = (*base, Message(role="user", content=filtered.message))
        if base != history:
            ctx.update(view=View(base, len(ctx.state.messages)))
        if filtered.context != given.context:
            ctx.update(context=dict(filtered.context))


def tool_body(found: Tool) -> Callable[..., Any]:
    """Return the body of a tool node: validates the arguments, calls the function, shows the result."""

    async def call_tool(ctx: Context, call: ToolCall) -> str:
        arguments = found.parse(call.arguments)
        args = (ctx,) if found.body.takes_context else ()
        if found.body.is_async:
            result = await found.function(*args, **arguments)
        else:
            result = await inside(ctx).in_thread(found.function, *args, **arguments)
            if inspect.isawaitable(result):
                result = await result
        text = as_text(result)
        if len(text.encode("utf-8", "surrogatepass")) > RESULT_BYTES_MAX:
            raise ToolError(f"tool {found.name!r} returned more than {RESULT_BYTES_MAX} bytes: return a part of it")
        show_result(ctx, call, Outcome(text))
        return text

    call_tool.__doc__ = found.description
    return call_tool


def outcome_of(result: Any) -> Outcome:
    """Return a branch's result as the model sees it: of a tool, a child, or a failure."""
    if isinstance(result, Failure):
        return Outcome(f"{result.type}: {result.message}", is_error=True)
    return Outcome(as_text(result))


def answer_call(ctx: Context, call: ToolCall, outcome: Outcome) -> Message:
    """Put a call's result into the conversation."""
    message = Message(role="tool", content=outcome.text, call_id=call.id, name=call.name, is_error=outcome.is_error)
    ctx.update(messages=message)
    show_result(ctx, call, outcome)
    return message


def show_result(ctx: Context, call: ToolCall, outcome: Outcome) -> None:
    """Tell watchers how a call ended."""
    output, error = ("", outcome.text) if outcome.is_error else (outcome.text, "")
    inside(ctx).emit("tool_result", name=call.name, call_id=call.id, output=output, error=error)


async def called(function: Callable[..., Any], ctx: Context) -> Any:
    """Call a user's callback with the context if it takes one; await it if it is async."""
    result = function(ctx) if inspect.signature(function).parameters else function()
    return await result if inspect.isawaitable(result) else result


def _shown(arguments: str) -> Any:
    try:
        return parse_arguments("", arguments)
    except ToolError:
        return arguments
