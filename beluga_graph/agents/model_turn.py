"""The nodes of an agent's turn: the answer of the model, the fan-out over its tool calls, and their join.

The step of a turn records its decisions: the answer, the calls, the refused calls, the chosen transfer. Each call
is a step of its own. The join adds every result to the conversation, in the order of the calls. So each call has
exactly one result, whatever crashed, failed or was handed over meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol

from beluga_graph.agents.conversation import Outcome, Pending, as_text, visible_messages
from beluga_graph.agents.handoff_nodes import AGAIN
from beluga_graph.agents.handoffs import Handoff
from beluga_graph.agents.output_type import OutputType
from beluga_graph.agents.persona import Persona
from beluga_graph.agents.tool_calls import (
    answer_of,
    call_back,
    emit_call,
    emit_result,
    outcome_of,
    restore_arguments,
    with_unique_ids,
)
from beluga_graph.agents.tools import Tool, parse_arguments
from beluga_graph.errors import LimitReached, ModelError, ToolError
from beluga_graph.events import Failure
from beluga_graph.execution.context import Context, attempt_of
from beluga_graph.models.base import Model, ask
from beluga_graph.models.messages import Message, Request, ToolCall, ToolSpec, Usage

__all__ = ["ANSWER", "CALLS", "MAX_TURNS", "Speaker", "Turn"]

ANSWER, CALLS = "answer", "calls"
MAX_TURNS = 10  # the default of an agent, and of `Limits`
OUTPUT_RETRIES = 3
LATE = Outcome("not transferred: an earlier transfer of this turn was made", is_error=True)


class Speaker(Protocol):
    """An agent as its turn reads it."""

    name: str
    model: Model
    persona: Persona | None
    instructions: str | Callable[..., Any] | None
    output: OutputType | None
    max_turns: int
    settings: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Turn:
    """The code of one agent's nodes.

    Attributes:
        agent: The agent that takes the turn.
        tools: Its tools, by name.
        transfers: Its handoffs and delegations, by the name of their tool.
        places: The branch of the fan-out for each tool and for each transfer to a child. Other transfers have none.
    """

    agent: Speaker
    tools: Mapping[str, Tool]
    transfers: Mapping[str, Handoff]
    places: Mapping[str, int]

    # The model's turn.

    async def think(self, ctx: Context, value: Any) -> Any:
        """Ask the model once. Return the answer, a call that transfers, or `None` if other turns follow."""
        state, agent = ctx.state, self.agent
        new: list[Message] = []
        if not state.turns:  # the first turn of this call, of any agent
            new.append(Message(role="user", content=as_text(value)))
        made = state.turns.get(agent.name, 0)
        limit = attempt_of(ctx).limit("max_turns")
        if made >= (limit if agent.max_turns == MAX_TURNS else agent.max_turns):
            raise LimitReached("", f"agent {agent.name!r} made {made} model turns without an answer: raise max_turns")
        offered = await self._list_offers(ctx)
        request = Request(
            system=await self._system(ctx),
            messages=(*visible_messages(ctx), *new),
            tools=tuple(offered.values()),
            output_schema=agent.output.schema if agent.output is not None else None,
            settings=dict(agent.settings),
        )
        reply = await ask(agent.model, request, ctx.emit_text)
        calls = with_unique_ids(reply.message.tool_calls)
        message = replace(reply.message, role="assistant", tool_calls=calls, agent=agent.name)
        _count(ctx, reply.usage)
        held = message if any(self._may_ask(call) for call in calls) else None
        said = new if held is not None else [*new, message]
        ctx.update(messages=said, turns={agent.name: made + 1}, active=agent.name)
        if calls:
            return await self._decide_calls(ctx, calls, offered, held)
        if reply.stop_reason == "pause":  # the model continues when it gets its own message back
            attempt_of(ctx).choose_route(AGAIN)
            return None
        return self._accept_answer(ctx, message)

    async def _system(self, ctx: Context) -> str:
        agent = self.agent
        parts = [agent.persona.prompt()] if agent.persona is not None else []
        if callable(agent.instructions):
            parts.append(str(await call_back(agent.instructions, ctx) or ""))
        elif agent.instructions:
            parts.append(agent.instructions)
        return "\n\n".join(part for part in parts if part)

    async def _list_offers(self, ctx: Context) -> dict[str, ToolSpec]:
        """Return the tools that are offered to the model now, by name."""
        offered = {name: found.spec for name, found in self.tools.items()}
        for name, handoff in self.transfers.items():
            if handoff.is_enabled is None or await call_back(handoff.is_enabled, ctx):
                offered[name] = handoff.spec(delegates=name in self.places)
        return offered

    def _accept_answer(self, ctx: Context, message: Message) -> Any:
        output = self.agent.output
        if output is None:
            attempt_of(ctx).choose_route(ANSWER)
            return message.text
        try:
            found = output.parse(message.text)
        except ModelError as error:
            again = ctx.state.asked_again + 1
            if again > OUTPUT_RETRIES:
                raise ModelError(f"agent {self.agent.name!r} gave no valid output in {again} tries: {error}") from error
            correction = f"Your answer does not fit: {error}\nGive the corrected answer, all of it."
            ctx.update(asked_again=again, messages=Message(role="user", content=correction))
            attempt_of(ctx).choose_route(AGAIN)
            return None
        attempt_of(ctx).choose_route(ANSWER)
        return found

    def _may_ask(self, call: ToolCall) -> bool:
        """Return whether a person may have to approve a call, and can change its arguments."""
        found = self.tools.get(call.name)
        return found is not None and found.requires_approval is not False

    async def _decide_calls(
        self, ctx: Context, calls: tuple[ToolCall, ...], offered: dict[str, ToolSpec], held: Message | None
    ) -> Any:
        """Decide each call of a turn: made by a branch, refused, or a transfer, which follows the other calls."""
        settled: dict[int, Outcome] = {}
        transfers: list[int] = []
        for position, call in enumerate(calls):
            emit_call(ctx, call)
            refused = await self._why_refused(ctx, call, offered)
            if refused is not None:
                settled[position] = Outcome(refused, is_error=True)
            elif call.name not in self.places:
                transfers.append(position)
        if ctx.state.asked_again:
            ctx.update(asked_again=0)
        pending = Pending(calls, settled, tuple(transfers), held)
        if len(settled) + len(transfers) == len(calls):
            return await self._settle(ctx, pending, {})
        ctx.update(pending=pending)
        attempt_of(ctx).choose_route(CALLS)
        return None

    async def _why_refused(self, ctx: Context, call: ToolCall, offered: dict[str, ToolSpec]) -> str | None:
        """Return the reason, for the model, why a call is refused; `None` if it is made."""
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
            return f"{call.name} needs a message: the task as text" if delegates else "the message is not text"
        return await self._why_disabled(ctx, call.name) if delegates else None

    async def _why_disabled(self, ctx: Context, name: str) -> str | None:
        is_enabled = self.transfers[name].is_enabled
        try:
            enabled = is_enabled is None or await call_back(is_enabled, ctx)
        except Exception as error:  # noqa: BLE001 - the model has answered, and this answer must not be lost
            return f"{name} is not available now: {type(error).__name__}: {error}"
        return None if enabled else f"{name} is not available now"

    # The calls.

    def branches(self, ctx: Context, value: Any) -> list[tuple[int, Any]]:
        """Return the calls that branches make, each as the number of its branch and the input."""
        del value
        pending: Pending = ctx.state.pending
        found: list[tuple[int, Any]] = []
        for position in _made_positions(pending):
            call = pending.calls[position]
            given: Any = call
            if call.name in self.transfers:
                given = parse_arguments(call.name, call.arguments)["message"]
            found.append((self.places[call.name], given))
        return found

    async def join(self, ctx: Context, results: list[Any]) -> Any:
        """Add the results of the calls to the conversation, in the order of the calls."""
        pending: Pending = ctx.state.pending
        outcomes = {}
        made = list(pending.calls)
        for position, result in zip(_made_positions(pending), results, strict=True):
            call = pending.calls[position]
            if pending.message is not None and self._may_ask(call):
                made[position] = restore_arguments(ctx, call, result)
            outcomes[position] = outcome_of(call.name, result)
            if (
                isinstance(result, Failure) or call.name in self.transfers
            ):  # a tool that succeeds emits its result itself
                emit_result(ctx, call, outcomes[position])
        ctx.update(pending=None)
        if pending.message is not None:
            pending = replace(pending, message=replace(pending.message, tool_calls=tuple(made)))
        return await self._settle(ctx, pending, outcomes)

    async def _settle(self, ctx: Context, pending: Pending, outcomes: Mapping[int, Outcome]) -> Any:
        """Choose the transfer, answer every other call, and continue with the handoff or the next turn."""
        refused = dict(pending.settled)
        winner: int | None = None
        for position in pending.transfers:
            why = None if winner is not None else await self._why_disabled(ctx, pending.calls[position].name)
            if winner is not None:
                refused[position] = LATE
            elif why is not None:
                refused[position] = Outcome(why, is_error=True)
            else:
                winner = position
        said = [] if pending.message is None else [pending.message]
        for position, call in enumerate(pending.calls):
            if position in refused:
                emit_result(ctx, call, refused[position])
            if position != winner:
                said.append(answer_of(call, refused.get(position) or outcomes[position]))
        ctx.update(messages=said)
        if winner is None:
            attempt_of(ctx).choose_route(AGAIN)
            return None
        attempt_of(ctx).choose_route(pending.calls[winner].name)
        return pending.calls[winner]


def _made_positions(pending: Pending) -> list[int]:
    """Return the positions of the calls that branches make."""
    return [i for i in range(len(pending.calls)) if i not in pending.settled and i not in pending.transfers]


def _count(ctx: Context, usage: Usage) -> None:
    more = {"cached_tokens": usage.cached_tokens, "reasoning_tokens": usage.reasoning_tokens}
    attempt_of(ctx).add_usage(
        model_calls=1,
        input_tokens=usage.input_tokens,
        output_tokens=usage.output_tokens,
        **{name: amount for name, amount in more.items() if amount},
    )
