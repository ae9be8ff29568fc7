"""`advance`: the one function that decides everything that happens to a run.

It is pure: equal shape, snapshot and trigger give an equal patch, in any process, at any time. It uses no I/O,
clock, randomness, asyncio or user code, so the same function drives a local run, a workflow on another system, and
the simulations in the tests.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beluga_graph.kernel.attempt_results import current_token, fail_node, finish_node, rearm, reopen_frame
from beluga_graph.kernel.listener_list import is_listener, list_listeners
from beluga_graph.kernel.listeners import pick_receiver
from beluga_graph.kernel.ops import (
    ADD_LISTENER,
    ARM_TIMER,
    COUNT_INTERRUPTION,
    RECEIVE_ANSWER,
    RECEIVE_PAYLOAD,
    REMOVE_LISTENER,
    REMOVE_WAIT,
    SET_CONSUMED,
    SET_ERROR,
    SET_LIMIT,
    SET_PLAN,
    SET_STATE,
    SET_TIME,
)
from beluga_graph.kernel.patch_builder import PatchBuilder
from beluga_graph.kernel.renames import rename_op
from beluga_graph.kernel.shape import FRAME, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.structural_names import (
    RUN_TIMER,
    TOKEN_TIMER,
    branch_place,
    split_timer,
    token_timer,
)
from beluga_graph.kernel.times import describe_deadline, describe_limit, find_due, is_undecided
from beluga_graph.kernel.tokens import AT_TIMER, CANCELLED, FAILED, FAILED_TOKEN, NEVER, RETRY, RUN, RUNNING, Token
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
from beluga_graph.kernel.types import FailureFields, Patch

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
    due = find_due(builder.shape, trigger.at)
    if due is not None:
        builder.ops.append((ARM_TIMER, RUN_TIMER, due))
    builder.enter("", builder.shape.entry, 0)


# Timers and signals.


def _fire_timer(builder: PatchBuilder, trigger: TimerFired) -> None:
    run = builder.run
    if run.timers.get(trigger.timer) != trigger.due:
        return None
    kind, name = split_timer(trigger.timer)
    if kind == TOKEN_TIMER:
        return _fire_token_timer(builder, run.tokens[name], trigger)
    if trigger.timer == RUN_TIMER:
        message = f"the run passed {describe_deadline(builder.shape, builder.shape, trigger.due)}"
        builder.add_event("error", "", "", None, failure="Timeout", message=message)
        builder.ops.append((SET_ERROR, builder.add_value(("", "Timeout", message, 1, run.input))))
        builder.status = FAILED
        return None
    scope = run.scopes[name]
    if not scope.frame:
        builder.add_event("timer", scope.node, name)
        return builder.fire_join(name)
    node = builder.shape.nodes[scope.node]
    message = f"{node.name!r} passed {describe_deadline(builder.shape, node, trigger.due)}"
    failure: FailureFields = (node.name, "Timeout", message, scope.attempt, scope.value)
    return builder.fail(branch_place(name, 0), node, failure, own=False)


def _fire_token_timer(builder: PatchBuilder, token: Token, trigger: TimerFired) -> None:
    node = builder.shape.nodes[token.node]
    if token.state == RETRY:
        if node.kind == FRAME and not node.decides_time:
            return reopen_frame(builder, token, node)
        builder.disarm_timer(trigger.timer)
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
    message = f"no signal {node.signal!r} came {describe_limit(node, trigger.due, token.time)}"
    failure: FailureFields = (node.name, "SignalTimeout", message, token.attempts_since_armed, token.value)
    return builder.fail(token.place, node, failure, token=token)


def _serve_signal(builder: PatchBuilder, trigger: SignalReceived) -> None:
    run, signal = builder.run, trigger.signal
    if signal not in run.waits or run.inbox.get(signal, 0) != trigger.position:
        return None
    name = pick_receiver(run, signal)
    index = builder.add_value(trigger.value)
    builder.ops.append((SET_CONSUMED, signal, trigger.position + 1))
    if is_listener(builder.shape, run, signal, name):
        return builder.interrupt(name, signal, index)
    token = run.tokens[name]
    node = builder.shape.nodes[token.node]
    builder.add_event("signal", node.name, token.name, index, name="approval" if node.asks else signal)
    if not node.checked:
        builder.remove_token(token)
        return builder.leave(token.place, node, None, index)
    if is_undecided(node, token):  # the token came when the graph had a constant: its time is not asked any more
        builder.ops.append((SET_TIME, token.name, NEVER, 0))
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
            rearm(builder, token, builder.shape.nodes[token.node])


def _start_fork(builder: PatchBuilder, trigger: RunForked) -> None:
    if builder.run.seq:
        return
    builder.add_event("run_started", "", "", builder.add_value(builder.run.input))
    _revive(builder)


def _take_over_run(builder: PatchBuilder, trigger: RunTakenOver) -> None:
    if trigger.counts is not None:
        builder.ops += [(COUNT_INTERRUPTION, name, count) for name, count in trigger.counts]
        return
    for token in builder.run.tokens.values():
        if token.state == RUN:
            builder.ops.append((COUNT_INTERRUPTION, token.name))


def _count_trial(builder: PatchBuilder, trigger: TrialBegun | TrialBrokenOff) -> None:
    token = current_token(builder, trigger)
    if token is not None:
        more = 1 if isinstance(trigger, TrialBegun) else -1
        builder.ops.append((COUNT_INTERRUPTION, token.name, token.interruptions + more))


def _adopt_plan(builder: PatchBuilder, trigger: PlanAdopted) -> None:
    builder.ops.append((SET_PLAN, trigger.fingerprint))
    if trigger.rename:
        builder.ops.append(rename_op(builder.run, trigger.rename))
    _adopt_listeners(builder, trigger)
    if builder.run.status == FAILED:
        builder.status = FAILED


def _adopt_listeners(builder: PatchBuilder, trigger: PlanAdopted) -> None:
    """Let the interrupting edges of the changed graph count from now on."""
    run, shape = builder.run, builder.shape
    wanted = dict.fromkeys(list_listeners(shape, run, trigger.rename))
    known = dict.fromkeys(
        (signal, name)
        for signal, names in run.waits.items()
        for name in names
        if is_listener(shape, run, signal, name, trigger.rename)
    )
    builder.ops += [(REMOVE_LISTENER, *listener) for listener in known if listener not in wanted]
    builder.ops += [(ADD_LISTENER, *listener) for listener in wanted if listener not in known]


_DECIDE: dict[type, Callable[[PatchBuilder, Any], None]] = {
    RunStarted: _start_run,
    NodeFinished: finish_node,
    NodeFailed: fail_node,
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
