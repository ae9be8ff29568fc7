"""`advance`: the one function that decides everything that happens to a run.

It is pure: equal shape, snapshot and trigger give an equal patch, in any process, at any time. It uses no I/O,
clock, randomness, asyncio or user code, so the same function drives a local run, a workflow on another system, and
the simulations in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beluga_graph.kernel.join_rule import can_succeed, failure_of
from beluga_graph.kernel.ops import (
    ADD_USAGE,
    ADD_WAIT,
    APPEND_ITEMS,
    ARM_TIMER,
    COUNT_INTERRUPTION,
    COUNT_STEP,
    RECEIVE_ANSWER,
    RECEIVE_PAYLOAD,
    REMOVE_WAIT,
    SET_CONSUMED,
    SET_ERROR,
    SET_FIELD,
    SET_LIMIT,
    SET_PLAN,
    SET_REASON,
    SET_STATE,
)
from beluga_graph.kernel.patch_builder import PatchBuilder
from beluga_graph.kernel.renames import rename_op, split_token_name
from beluga_graph.kernel.rules import get_limit, retry_delay_ms, signal_of
from beluga_graph.kernel.shape import FAN_OUT, FRAME, JOIN, TIMER_NODE, WAIT_NODE, NodeShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.structural_names import RUN_TIMER, TOKEN_TIMER, branch_place, split_timer, token_timer
from beluga_graph.kernel.tokens import AT_TIMER, AT_WAIT, CANCELLED, FAILED, FAILED_TOKEN, RETRY, RUN, RUNNING, Token
from beluga_graph.kernel.triggers import (
    CancelRequested,
    NodeFailed,
    NodeFinished,
    PlanAdopted,
    RunForked,
    RunResumed,
    RunStarted,
    RunTakenOver,
    SignalReceived,
    TimerFired,
    TrialBegun,
    TrialBrokenOff,
    Trigger,
)
from beluga_graph.kernel.types import FailureFields, Patch, Value

__all__ = ["EMPTY_PATCH", "advance"]

EMPTY_PATCH = Patch((), (), ())  # the change that a stale trigger makes


def advance(shape: Shape, run: Snapshot, trigger: Trigger) -> Patch:
    """Return the change that `trigger` makes to `run`; `EMPTY_PATCH` if it is stale or the run has ended."""
    if run.ended or (run.status == FAILED and type(trigger) not in _ACCEPTED_AFTER_FAILURE):
        return EMPTY_PATCH
    builder = PatchBuilder(shape, run, 0 if isinstance(trigger, PlanAdopted) else trigger.at)
    _DECIDE[type(trigger)](builder, trigger)
    return builder.build() if builder.ops else EMPTY_PATCH


def _start_run(builder: PatchBuilder, trigger: RunStarted) -> None:
    if builder.run.seq:
        return
    builder.add_event("run_started", "", "", builder.add_value(builder.run.input))
    if builder.shape.timeout_ms is not None:
        builder.ops.append((ARM_TIMER, RUN_TIMER, trigger.at + builder.shape.timeout_ms))
    builder.enter("", builder.shape.entry, 0)


# Nodes.


def _finish_node(builder: PatchBuilder, trigger: NodeFinished) -> None:
    token = _current_token(builder, trigger)
    if token is None:
        return
    node = builder.shape.nodes[token.node]
    builder.values.extend(trigger.values)
    if node.kind == FAN_OUT:
        refusal = _refuse_width(builder, token, node, len(trigger.branches))
    else:
        refusal = _refuse_route(token, node, trigger)
    if refusal is not None:
        builder.fail(token.place, *refusal, token=token)
        return
    place = token.place
    _record_results(builder, place, trigger)
    more: dict[str, Any] = {"text": trigger.text} if trigger.text else {}
    if node.routes:
        more["route"] = trigger.route
    output = None if node.kind == FAN_OUT else 0
    builder.events.append(("node_finished", node.name, token.name, more or None, output))
    if node.kind == FAN_OUT:
        builder.open_fan_out(token, node, trigger.branches)
    else:
        builder.remove_token(token)
        if node.kind == JOIN:
            opened = builder.run.places[place].opened
            assert opened is not None
            builder.close_scope(opened)
        builder.leave(place, node, trigger.route, 0)
    if builder.run.steps + 1 >= get_limit(builder.shape, builder.run, "max_steps") and builder.status is None:
        _stop_after_max_steps(builder)


def _current_token(
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


def _fail_node(builder: PatchBuilder, trigger: NodeFailed) -> None:
    token = _current_token(builder, trigger)
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
    _rearm(builder, token, node)
    builder.add_event("retry", node.name, token.name, None, tried=token.attempt, delay_ms=0, message=message)
    builder.add_event("waiting", node.name, token.name, builder.add_value(token.value), name="approval")


# Timers and signals.


def _fire_timer(builder: PatchBuilder, trigger: TimerFired) -> None:
    run = builder.run
    if run.timers.get(trigger.timer) != trigger.due:
        return None
    kind, name = split_timer(trigger.timer)
    if kind == TOKEN_TIMER:
        return _fire_token_timer(builder, run.tokens[name], trigger.timer)
    if trigger.timer == RUN_TIMER:
        message = f"the run passed its deadline of {(builder.shape.timeout_ms or 0) / 1000:g} s"
        builder.add_event("error", "", "", None, failure="Timeout", message=message)
        builder.ops.append((SET_ERROR, builder.add_value(("", "Timeout", message, 1, run.input))))
        builder.status = FAILED
        return None
    scope = run.scopes[name]
    if not scope.frame:
        builder.add_event("timer", scope.node, name)
        return builder.fire_join(name)
    node = builder.shape.nodes[scope.node]
    message = f"{node.name!r} passed its deadline of {(node.timeout_ms or 0) / 1000:g} s"
    failure: FailureFields = (node.name, "Timeout", message, scope.attempt, scope.value)
    return builder.fail(branch_place(name, 0), node, failure, own=False)


def _fire_token_timer(builder: PatchBuilder, token: Token, timer: str) -> None:
    node = builder.shape.nodes[token.node]
    if token.state == RETRY:
        if node.kind == FRAME:
            return _reopen_frame(builder, token, node)
        builder.disarm_timer(timer)
        builder.ops.append((SET_STATE, token.name, RUN, token.attempt, token.attempts_since_armed))
        builder.active += 1
        return None
    builder.add_event("timer", node.name, token.name)
    if token.state == AT_TIMER:
        builder.remove_token(token)
        return builder.leave(token.place, node, None, builder.add_value(token.value))
    if node.default is not None:
        builder.remove_token(token)
        return builder.leave(token.place, node, None, builder.add_value(node.default))
    message = f"no signal {node.signal!r} came within {(node.timeout_ms or 0) / 1000:g} s"
    failure: FailureFields = (node.name, "SignalTimeout", message, token.attempts_since_armed, token.value)
    return builder.fail(token.place, node, failure, token=token)


def _reopen_frame(builder: PatchBuilder, token: Token, node: NodeShape) -> None:
    """Begin a frame again in place of the token that waited for its retry."""
    local_and_visit = split_token_name(token.name, token.place)
    builder.remove_token(token)
    index = builder.add_value(token.value)
    place, entry = builder.open_frame(token.place, node, local_and_visit, index, attempt=token.attempts_since_armed)
    builder.enter(place, entry, index)


def _serve_signal(builder: PatchBuilder, trigger: SignalReceived) -> None:
    run, signal = builder.run, trigger.signal
    waiting = run.waits.get(signal)
    if not waiting or run.inbox.get(signal, 0) != trigger.position:
        return None
    token = run.tokens[waiting[0]]
    node = builder.shape.nodes[token.node]
    index = builder.add_value(trigger.value)
    builder.ops.append((SET_CONSUMED, signal, trigger.position + 1))
    builder.add_event("signal", node.name, token.name, index, name="approval" if node.asks else signal)
    if not node.checked:
        builder.remove_token(token)
        return builder.leave(token.place, node, None, index)
    builder.ops.append((REMOVE_WAIT, signal, token.name))
    builder.disarm_timer(token_timer(token.name))
    builder.ops.append((RECEIVE_ANSWER if node.asks else RECEIVE_PAYLOAD, token.name, index))
    builder.active += 1
    return None


# The run itself.


def _cancel_run(builder: PatchBuilder, trigger: CancelRequested) -> None:
    builder.add_event("error", "", "", None, failure="RunCancelled", message="the run was cancelled")
    builder.ops.append((SET_ERROR, builder.add_value(("", "RunCancelled", "the run was cancelled", 1, None))))
    builder.status = CANCELLED


def _resume_run(builder: PatchBuilder, trigger: RunResumed) -> None:
    for name, value in trigger.limits:
        builder.ops.append((SET_LIMIT, name, value))
    if builder.run.status == FAILED:
        _revive(builder)


def _revive(builder: PatchBuilder) -> None:
    """Let a failed run go on: arm its failed nodes again."""
    builder.ops.append((SET_ERROR, None))
    builder.status = RUNNING
    for token in builder.run.tokens.values():
        if token.state == FAILED_TOKEN:
            _rearm(builder, token, builder.shape.nodes[token.node])


def _start_fork(builder: PatchBuilder, trigger: RunForked) -> None:
    if builder.run.seq:
        return
    builder.add_event("run_started", "", "", builder.add_value(builder.run.input))
    _revive(builder)


def _rearm(builder: PatchBuilder, token: Token, node: NodeShape) -> None:
    """Let a failed node run again, with all the attempts of its policy."""
    attempt = token.attempt + 1  # an attempt's number is used once: a late result of the failed one must not count
    if node.kind == FRAME:
        return _reopen_frame(builder, token, node)
    if node.kind == WAIT_NODE:
        builder.ops.append((SET_STATE, token.name, AT_WAIT, attempt, 1))
        builder.ops.append((ADD_WAIT, signal_of(node, token.name), token.name))
        due = node.timeout_ms
    elif node.kind == TIMER_NODE:
        builder.ops.append((SET_STATE, token.name, AT_TIMER, attempt, 1))
        due = node.delay_ms
    else:
        builder.ops.append((SET_STATE, token.name, RUN, attempt, 1))
        builder.active += 1
        due = None
    if due is not None:
        builder.ops.append((ARM_TIMER, token_timer(token.name), builder.at + due))
    return None


def _take_over_run(builder: PatchBuilder, trigger: RunTakenOver) -> None:
    if trigger.counts is not None:
        builder.ops += [(COUNT_INTERRUPTION, name, count) for name, count in trigger.counts]
        return
    for token in builder.run.tokens.values():
        if token.state == RUN:
            builder.ops.append((COUNT_INTERRUPTION, token.name))


def _count_trial(builder: PatchBuilder, trigger: TrialBegun | TrialBrokenOff) -> None:
    token = _current_token(builder, trigger)
    if token is not None:
        more = 1 if isinstance(trigger, TrialBegun) else -1
        builder.ops.append((COUNT_INTERRUPTION, token.name, token.interruptions + more))


def _adopt_plan(builder: PatchBuilder, trigger: PlanAdopted) -> None:
    builder.ops.append((SET_PLAN, trigger.fingerprint))
    if trigger.rename:
        builder.ops.append(rename_op(builder.run, trigger.rename))
    if builder.run.status == FAILED:
        builder.status = FAILED


_DECIDE: dict[type, Callable[[PatchBuilder, Any], None]] = {
    RunStarted: _start_run,
    NodeFinished: _finish_node,
    NodeFailed: _fail_node,
    TimerFired: _fire_timer,
    SignalReceived: _serve_signal,
    CancelRequested: _cancel_run,
    RunResumed: _resume_run,
    RunForked: _start_fork,
    RunTakenOver: _take_over_run,
    TrialBegun: _count_trial,
    TrialBrokenOff: _count_trial,
    PlanAdopted: _adopt_plan,
}
_ACCEPTED_AFTER_FAILURE = frozenset((RunResumed, RunForked, CancelRequested, PlanAdopted))
