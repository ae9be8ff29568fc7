"""The nodes of an agent's turn: the model's answer, the fan-out over its calls, and their join.

What a turn decides is on record with its step: the answer, the calls, which of them are refused, which
transfer wins. Each call is a step of its own; the join puts every result into the conversation, in call
order, so that each call has exactly one result whatever crashed, failed or was handed on meanwhile.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from beluga_graph.agents.conversation import Outcome, Pending, as_text, seen
from beluga_graph.agents.handoff_nodes import AGAIN
from beluga_graph.agents.handoffs import Handoff
from beluga_graph.agents.tool_calls import answer_of, as_made, called, identified, outcome_of, show_call, show_result
from beluga_graph.agents.tools import Tool, parse_arguments
from beluga_graph.errors import LimitReached, ModelError, ToolError
from beluga_graph.events import Failure
from beluga_graph.execution.context import Context, inside
from beluga_graph.models.base import ask
from beluga_graph.models.messages import Message, Request, ToolCall, ToolSpec, Usage

if TYPE_CHECKING:
    from beluga_graph.agents.agent import Agent

__all__ = ["ANSWER", "CALLS", "Turn"]

ANSWER, CALLS = "answer", "calls"
LATE = Outcome("not transferred: an earlier transfer of this turn was made", is_error=True)


@dataclass(frozen=True, slots=True)
class Turn:
    """The code of one agent's nodes."""

    agent: Agent
    tools: Mapping[str, Tool]
    transfers: Mapping[str, Handoff]
    places: Mapping[str, int]
    """Of tools and of transfers to children: where the fan-out leads each. Other transfers have none."""

    # The model's turn.

    async def think(self, ctx: Context, value: Any) -> Any:
        """Ask the model once. Returns the answer; a call that transfers; or `None` when other turns follow."""
        state, agent = ctx.state, self.agent
        new: list[Message] = []
        if not state.turns:  # the first turn of this call, whoever makes it; later ones find all in the state
            new.append(Message(role="user", content=as_text(value)))
        made = state.turns.get(agent.name, 0)
        if made >= agent.turns_allowed(inside(ctx).limit("max_turns")):
            raise LimitReached("", f"agent {agent.name!r} made {made} model turns without an answer: raise max_turns")
        offered = await self._offered(ctx)
        request = Request(
            system=await self._system(ctx),
            messages=(*seen(ctx), *new),
            tools=tuple(offered.values()),
            output_schema=agent.output.schema if agent.output is not None else None,
            settings=dict(agent.settings),
        )
        reply = await ask(agent.model, request, ctx.emit_text)
        calls = identified(reply.message.tool_calls)
        message = replace(reply.message, role="assistant", tool_calls=calls, agent=agent.name)
        _count(ctx, reply.usage)
        held = message if any(self._may_ask(call) for call in calls) else None
        said = new if held is not None else [*new, message]
        ctx.update(messages=said, turns={agent.name: made + 1}, active=agent.name)
        if calls:
            return await self._called(ctx, calls, offered, held)
        if reply.stop_reason == "pause":  # sent back as it is, the model goes on
            inside(ctx).take(AGAIN)
            return None
        return self._answered(ctx, message)

    async def _system(self, ctx: Context) -> str:
        agent = self.agent
        parts = [agent.persona.prompt()] if agent.persona is not None else []
        if callable(agent.instructions):
            parts.append(str(await called(agent.instructions, ctx) or ""))
        elif agent.instructions:
            parts.append(agent.instructions)
        return "\n\n".join(part for part in parts if part)

    async def _offered(self, ctx: Context) -> dict[str, ToolSpec]:
        """Return the tools that the model is offered now, by name."""
        offered = {name: found.spec for name, found in self.tools.items()}
        for name, handoff in self.transfers.items():
            if handoff.is_enabled is None or await called(handoff.is_enabled, ctx):
                offered[name] = handoff.spec(delegates=name in self.places)
        return offered

    def _answered(self, ctx: Context, message: Message) -> Any:
        output = self.agent.output
        if output is None:
            inside(ctx).take(ANSWER)
            return message.text
        try:
            found = output.parse(message.text)
        except ModelError as error:
            again = ctx.state.asked_again + 1
            if again > self.agent.output_retries:
                raise ModelError(f"agent {self.agent.name!r} gave no valid output in {again} tries: {error}") from error
            correction = f"Your answer does not fit: {error}\nGive the corrected answer, all of it."
            ctx.update(asked_again=again, messages=Message(role="user", content=correction))
            inside(ctx).take(AGAIN)
            return None
        inside(ctx).take(ANSWER)
        return found

    def _may_ask(self, call: ToolCall) -> bool:
        """Whether a person may be asked about a call, and give it other arguments."""
        found = self.tools.get(call.name)
        return found is not None and found.requires_approval is not False

    async def _called(
        self, ctx: Context, calls: tuple[ToolCall, ...], offered: dict[str, ToolSpec], held: Message | None
    ) -> Any:
        """Decide each call of a turn: made by a branch, refused, or left for after the others as a transfer."""
        settled: dict[int, Outcome] = {}
        transfers: list[int] = []
        for position, call in enumerate(calls):
            show_call(ctx, call)
            refused = await self._refused(ctx, call, offered)
            if refused is not None:
                settled[position] = Outcome(refused, is_error=True)
            elif call.name not in self.places:
                transfers.append(position)
        if ctx.state.asked_again:
            ctx.update(asked_again=0)
        pending = Pending(calls, settled, tuple(transfers), held)
        if len(settled) + len(transfers) == len(calls):
            return await self._settled(ctx, pending, {})
        ctx.update(pending=pending)
        inside(ctx).take(CALLS)
        return None

    async def _refused(self, ctx: Context, call: ToolCall, offered: dict[str, ToolSpec]) -> str | None:
        """Return why a call is not made, as the model is told; `None` if it is."""
        if call.name in self.tools:
            return None
        if call.name not in self.transfers:
            return f"there is no tool {call.name!r}; the tools are: {', '.join(offered) or 'none'}"
        try:
            message = parse_arguments(call.name, call.arguments).get("message", "")
        except ToolError as error:
            return str(error)
        delegates = call.name in self.places
        if not isinstance(message, str) or (delegates and not message.strip()):
            return f"{call.name} needs a message: the task as text" if delegates else "the message is no text"
        return await self._disabled(ctx, call.name) if delegates else None

    async def _disabled(self, ctx: Context, name: str) -> str | None:
        is_enabled = self.transfers[name].is_enabled
        try:
            enabled = is_enabled is None or await called(is_enabled, ctx)
        except Exception as error:  # noqa: BLE001 - the model has answered: that it asked for this must not cost the answer
            return f"{name} is not available now: {type(error).__name__}: {error}"
        return None if enabled else f"{name} is not available now"

    # The calls.

    def branches(self, ctx: Context, value: Any) -> list[tuple[int, Any]]:
        """Return the calls that branches make: where each leads, and what it is given."""
        del value
        pending: Pending = ctx.state.pending
        found: list[tuple[int, Any]] = []
        for position in _made(pending):
            call = pending.calls[position]
            given: Any = call
            if call.name in self.transfers:
                given = parse_arguments(call.name, call.arguments)["message"]
            found.append((self.places[call.name], given))
        return found

    async def join(self, ctx: Context, results: list[Any]) -> Any:
        """Put the results of a turn's calls into the conversation, in call order."""
        pending: Pending = ctx.state.pending
        outcomes = {}
        made = list(pending.calls)
        for position, result in zip(_made(pending), results, strict=True):
            call = pending.calls[position]
            if pending.message is not None and self._may_ask(call):
                made[position] = as_made(ctx, call, result)
            outcomes[position] = outcome_of(call.name, result)
            if isinstance(result, Failure) or call.name in self.transfers:  # else the tool itself has shown it
                show_result(ctx, call, outcomes[position])
        ctx.update(pending=None)
        if pending.message is not None:
            pending = replace(pending, message=replace(pending.message, tool_calls=tuple(made)))
        return await self._settled(ctx, pending, outcomes)

    async def _settled(self, ctx: Context, pending: Pending, outcomes: Mapping[int, Outcome]) -> Any:
        """Choose the transfer, answer every other call, and go on: to the handoff, or to the next turn."""
        refused = dict(pending.settled)
        winner: int | None = None
        for position in pending.transfers:
            why = None if winner is not None else await self._disabled(ctx, pending.calls[position].name)
            if winner is not None:
                refused[position] = LATE
            elif why is not None:
                refused[position] = Outcome(why, is_error=True)
            else:
                winner = position
        said = [] if pending.message is None else [pending.message]
        for position, call in enumerate(pending.calls):
            if position in refused:
                show_result(ctx, call, refused[position])
            if position != winner:
                said.append(answer_of(call, refused.get(position) or outcomes[position]))
        ctx.update(messages=said)
        if winner is None:
            inside(ctx).take(AGAIN)
            return None
        inside(ctx).take(pending.calls[winner].name)
        return pending.calls[winner]


def _made(pending: Pending) -> list[int]:
    """Return the positions of the calls that branches make."""
    return [i for i in range(len(pending.calls)) if i not in pending.settled and i not in pending.transfers]


def _count(ctx: Context, usage: Usage) -> None:
    more = {"cached_tokens": usage.cached_tokens, "reasoning_tokens": usage.reasoning_tokens}
    inside(ctx).add_usage(
        model_calls=1,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        **{name: amount for name, amount in more.items() if amount},
    )
