"""The results of attempts: what a finished or failed attempt changes, where the run goes on, and what begins again."""

from __future__ import annotations

from typing import Any

from beluga_graph.kernel.join_rule import can_succeed, failure_of
from beluga_graph.kernel.ops import (
    ADD_USAGE,
    ADD_WAIT,
    APPEND_ITEMS,
    ARM_TIMER,
    COUNT_STEP,
    SET_ERROR,
    SET_FIELD,
    SET_REASON,
    SET_STATE,
    SET_TIME,
)
from beluga_graph.kernel.patch_builder import PatchBuilder
from beluga_graph.kernel.renames import split_token_name
from beluga_graph.kernel.rules import get_limit, retry_delay_ms, signal_of
from beluga_graph.kernel.shape import CHOICE, FAN_OUT, FRAME, JOIN, TIMER_NODE, WAIT_NODE, NodeShape
from beluga_graph.kernel.structural_names import RUN_TIMER, scope_timer, token_timer
from beluga_graph.kernel.times import find_due, is_undecided
from beluga_graph.kernel.tokens import AFTER, AT_TIMER, AT_WAIT, FAILED, NEVER, RETRY, RUN, Token
from beluga_graph.kernel.triggers import NodeFailed, NodeFinished, TrialBegun, TrialBrokenOff
from beluga_graph.kernel.types import DecidedTime, FailureFields, Value

__all__ = ["current_token", "fail_node", "finish_node", "rearm", "reopen_frame"]


def finish_node(builder: PatchBuilder, trigger: NodeFinished) -> None:
    token = current_token(builder, trigger)
    if token is None:
        return None
    node = builder.shape.nodes[token.node]
    builder.values.extend(trigger.values)
    if is_undecided(node, token):
        return _begin_at_decided_time(builder, token, node, trigger)
    if node.kind == FAN_OUT:
        refusal = _refuse_width(builder, token, node, len(trigger.branches))
    else:
        refusal = _refuse_route(token, node, trigger)
    if refusal is not None:
        return builder.fail(token.place, *refusal, token=token)
    place = token.place
    _record_results(builder, place, trigger)
    more: dict[str, Any] = {"text": trigger.text} if trigger.text else {}
    if node.routes:
        more["route"] = trigger.route
    output = None if node.kind == FAN_OUT else 0
    builder.events.append(("node_finished", node.name, token.name, more or None, output))
    if node.kind == FAN_OUT:
        builder.open_fan_out(token, node, trigger.branches, trigger.time)
    else:
        builder.remove_token(token)
        if node.kind == JOIN:
            opened = builder.run.places[place].opened
            assert opened is not None
            builder.close_scope(opened)
        builder.leave(place, node, trigger.route, 0)
        if node.kind == CHOICE and trigger.time is not None:
            _arm_deadline(builder, place, trigger.time)
    return _count_to_max_steps(builder)


def _begin_at_decided_time(builder: PatchBuilder, token: Token, node: NodeShape, trigger: NodeFinished) -> None:
    """Begin a wait, a pause or a frame whose time was decided in the attempt that finished."""
    due = find_due(node, builder.at, trigger.time)
    if trigger.time is None or (due is None and node.kind == TIMER_NODE):
        message = f"the attempt at {node.name!r} decided no time"
        return builder.fail(token.place, node, (node.name, "BadTime", message, 1, token.value), token=token)
    _record_results(builder, token.place, trigger)
    if node.kind == FRAME:
        reopen_frame(builder, token, node, trigger.time)
    else:
        builder.active -= 1
        builder.ops.append((SET_TIME, token.name, *trigger.time))
        # Each number of an attempt is used once, and a payload that is checked has an attempt of its own.
        _set_waiting(builder, token, node, token.attempt + node.checked)
        builder.begin_wait(token.name, node, 0, due)
    return _count_to_max_steps(builder)


def _arm_deadline(builder: PatchBuilder, place: str, time: DecidedTime) -> None:
    """Arm the deadline of the frame around a place, or of the run, unless an earlier one is armed."""
    run, scope = builder.run, builder.run.places[place].scope
    if builder.status is not None or scope in builder.removed:
        return
    timer = RUN_TIMER if scope is None else scope_timer(scope)
    kind, ms = time
    begun = run.started_ms if scope is None else builder.at  # a decision opens nothing, so a frame has just begun
    due = begun + ms if kind == AFTER else ms
    if kind != NEVER and due < run.timers.get(timer, due + 1):
        builder.disarm_timer(timer)
        builder.ops.append((ARM_TIMER, timer, due))


def _count_to_max_steps(builder: PatchBuilder) -> None:
    if builder.run.steps + 1 >= get_limit(builder.shape, builder.run, "max_steps") and builder.status is None:
        _stop_after_max_steps(builder)


def current_token(
    builder: PatchBuilder, trigger: NodeFinished | NodeFailed | TrialBegun | TrialBrokenOff
) -> Token | None:
    """Return the token whose attempt the trigger is about; `None` if that attempt is not under way any more."""
    token = builder.run.tokens.get(trigger.token)
    return token if token is not None and token.state == RUN and token.attempt == trigger.attempt else None


def _record_results(builder: PatchBuilder, place: str, trigger: NodeFinished) -> None:
    builder.ops.append((COUNT_STEP,))
    for field, index in trigger.sets:
        builder.ops.append((SET_FIELD, place, field, index))
    for field, count in trigger.appends:
        builder.ops.append((APPEND_ITEMS, place, field, count))
    for name, amount in trigger.usage:
        builder.ops.append((ADD_USAGE, name, amount))
    if trigger.reason:
        builder.ops.append((SET_REASON, trigger.reason))
    builder.events.extend(trigger.events)


def _refuse_width(
    builder: PatchBuilder, token: Token, node: NodeShape, width: int
) -> tuple[NodeShape, FailureFields] | None:
    """Return the node that fails, and its failure, if a fan-out has too many branches, or too few for its join."""
    allowed = get_limit(builder.shape, builder.run, "max_width")
    if width > allowed:
        message = f"fan-out {node.name!r} has {width} branches, more than max_width {allowed}"
        return node, (node.name, "LimitReached", message, token.attempts_since_armed, token.value)
    join = builder.shape.nodes[node.join or ""]
    if can_succeed(join, width, failed=0):
        return None
    return (join if node.error is None else node), failure_of(join, width, 0, None)


def _refuse_route(token: Token, node: NodeShape, trigger: NodeFinished) -> tuple[NodeShape, FailureFields] | None:
    """Return the node that fails, and its failure, if it chose a route that its branch does not have."""
    if node.out(trigger.route) is not None:
        return None
    message = f"node {node.name!r} chose the route {trigger.route!r}, which its branch does not have"
    return node, (node.name, "UnknownRoute", message, token.attempts_since_armed, _known_input(token, node))


def _known_input(token: Token, node: NodeShape) -> Value | None:
    """Return the input of a node's body if its token carries it; the token of a join carries nothing."""
    return None if node.kind == JOIN else token.value


def _stop_after_max_steps(builder: PatchBuilder) -> None:
    """Fail the run after this step. The step itself counts, so that no finished work is lost."""
    allowed = get_limit(builder.shape, builder.run, "max_steps")
    message = f"the run made {allowed} steps: raise max_steps and resume, or mend the loop"
    builder.add_event("error", "", "", None, failure="LimitReached", message=message)
    builder.ops.append((SET_ERROR, builder.add_value(("", "LimitReached", message, 1, None))))
    builder.status = FAILED


def fail_node(builder: PatchBuilder, trigger: NodeFailed) -> None:
    token = current_token(builder, trigger)
    if token is None:
        return None
    node, attempts = builder.shape.nodes[token.node], token.attempts_since_armed
    builder.events.extend(trigger.events)
    if trigger.retryable and node.retry is not None and attempts < node.retry.attempts:
        pause = retry_delay_ms(node, token.name, attempts, trigger.retry_after_ms)
        builder.ops.append((SET_STATE, token.name, RETRY, token.attempt + 1, attempts + 1))
        builder.active -= 1
        builder.ops.append((ARM_TIMER, token_timer(token.name), trigger.at + pause))
        builder.add_event("retry", node.name, token.name, None, tried=attempts, delay_ms=pause, message=trigger.message)
        return None
    if node.asks and not trigger.final:
        return _ask_again(builder, token, node, trigger.message)
    value = _known_input(token, node) if trigger.input is None else trigger.input
    failure: FailureFields = (node.name, trigger.type, trigger.message, attempts, value)
    return builder.fail(token.place, node, failure, token=token, final=trigger.final)


def _ask_again(builder: PatchBuilder, token: Token, node: NodeShape, message: str) -> None:
    """Ask a question again after an invalid answer: a person's slip must not fail the run."""
    builder.active -= 1
    rearm(builder, token, node)
    builder.add_event("retry", node.name, token.name, None, tried=token.attempt, delay_ms=0, message=message)
    builder.add_event("waiting", node.name, token.name, builder.add_value(token.value), name="approval")


# Nodes that begin again.


def rearm(builder: PatchBuilder, token: Token, node: NodeShape) -> None:
    """Let a failed node run again, with all the attempts of its policy."""
    attempt = token.attempt + 1  # an attempt's number is used once: a late result of the failed one must not count
    if node.kind not in (WAIT_NODE, TIMER_NODE, FRAME) or is_undecided(node, token):
        builder.ops.append((SET_STATE, token.name, RUN, attempt, 1))
        builder.active += 1
        return None
    if node.kind == FRAME:
        return reopen_frame(builder, token, node)
    _set_waiting(builder, token, node, attempt)
    if node.kind == WAIT_NODE:
        builder.ops.append((ADD_WAIT, signal_of(node, token.name), token.name))
    due = find_due(node, builder.at, token.time)
    if due is not None:
        builder.ops.append((ARM_TIMER, token_timer(token.name), due))
    return None


def _set_waiting(builder: PatchBuilder, token: Token, node: NodeShape, attempt: int) -> None:
    state = AT_TIMER if node.kind == TIMER_NODE else AT_WAIT
    builder.ops.append((SET_STATE, token.name, state, attempt, 1))


def reopen_frame(builder: PatchBuilder, token: Token, node: NodeShape, time: DecidedTime | None = None) -> None:
    """Begin a frame in place of the token that waited for its retry, or that decided its deadline."""
    local_and_visit = split_token_name(token.name, token.place)
    builder.remove_token(token)
    index = builder.add_value(token.value)
    place, entry = builder.open_frame(
        token.place, node, local_and_visit, index, attempt=token.attempts_since_armed, time=time
    )
    builder.enter(place, entry, index)
