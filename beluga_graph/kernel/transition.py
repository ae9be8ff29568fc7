"""The one function that decides everything that ever happens to a run: `advance`.

It is pure: equal shape, snapshot and trigger give an equal patch, in any process, at any time. There is no
I/O, clock, randomness, asyncio or user code below it, so the same function drives a local run, a workflow on
another system, and the simulations of the tests.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from beluga_graph.kernel.patch_builder import PatchBuilder
from beluga_graph.kernel.renames import made_from, rename_op
from beluga_graph.kernel.rules import RUN_TIMER, cannot_reach, delay_ms, limit, signal_of, token_timer
from beluga_graph.kernel.shape import FAN_OUT, FRAME, JOIN, TIMER, WAIT, NodeShape, Shape
from beluga_graph.kernel.snapshot import (
    BROKEN,
    CANCELLED,
    COMPLETED,
    FAILED,
    RETRY,
    RUN,
    RUNNING,
    SLEEP,
    Snapshot,
    Token,
)
from beluga_graph.kernel.snapshot import WAIT as WAITS
from beluga_graph.kernel.triggers import (
    ArmTimer,
    AwaitSignal,
    CancelRequested,
    NodeFailed,
    NodeFinished,
    PlanAdopted,
    RunForked,
    RunNode,
    RunResumed,
    RunStarted,
    RunTakenOver,
    SignalReceived,
    TimerFired,
    TrialBegun,
    TrialBrokenOff,
    Trigger,
    Work,
)
from beluga_graph.kernel.types import FailureFields, Patch, Value

__all__ = ["NOTHING", "Change", "advance", "changes", "work"]

NOTHING = Patch((), (), ())  # what a trigger that came too late changes


def advance(shape: Shape, run: Snapshot, trigger: Trigger) -> Patch:
    """Return what `trigger` changes in `run`; `NOTHING` if it is stale or the run has ended."""
    if run.ended or (run.status == FAILED and type(trigger) not in _REVIVING):
        return NOTHING
    draft = PatchBuilder(shape, run, 0 if isinstance(trigger, PlanAdopted) else trigger.at)
    _DECIDE[type(trigger)](draft, trigger)
    return draft.patch() if draft.ops else NOTHING


def _started(draft: PatchBuilder, trigger: RunStarted) -> None:
    if draft.run.seq:
        return
    draft.event("run_started", "", "", draft.value(draft.run.input))
    if draft.shape.timeout_ms is not None:
        draft.ops.append(("timer", RUN_TIMER, trigger.at + draft.shape.timeout_ms))
    draft.enter("", draft.shape.entry, 0)


def _finished(draft: PatchBuilder, trigger: NodeFinished) -> None:
    token = draft.run.tokens.get(trigger.token)
    if token is None or token.state != RUN or token.attempt != trigger.attempt:
        return
    node = draft.shape.nodes[token.node]
    draft.values.extend(trigger.values)
    if node.kind == FAN_OUT:
        refusal = _refused_width(draft, token, node, len(trigger.branches))
    else:
        refusal = _refused_route(token, node, trigger)
    if refusal is not None:
        draft.fail(token.place, *refusal, token=token)
        return
    place = token.place
    draft.ops.append(("finish",))
    for field, index in trigger.sets:
        draft.ops.append(("set", place, field, index))
    for field, count in trigger.appends:
        draft.ops.append(("append", place, field, count))
    for name, amount in trigger.usage:
        draft.ops.append(("usage", name, amount))
    if trigger.reason:
        draft.ops.append(("reason", trigger.reason))
    draft.events.extend(trigger.events)
    more: dict[str, Any] = {"text": trigger.text} if trigger.text else {}
    if node.routes:
        more["route"] = trigger.route
    output = None if node.kind == FAN_OUT else 0
    draft.events.append(("node_finished", node.name, token.name, more or None, output))
    if node.kind == FAN_OUT:
        draft.open_fan_out(token, node, trigger.branches)
    else:
        draft.drop(token)
        if node.kind == JOIN:
            opened = draft.run.places[place].opened
            assert opened is not None
            draft.close(opened)
        draft.leave(place, node, trigger.route, 0)
    if draft.run.steps + 1 >= limit(draft.shape, draft.run, "max_steps") and draft.status is None:
        _too_many_steps(draft)


def _refused_width(
    draft: PatchBuilder, token: Token, node: NodeShape, width: int
) -> tuple[NodeShape, FailureFields] | None:
    """Return who fails with what if a fan-out has too many branches, or too few for its join."""
    allowed = limit(draft.shape, draft.run, "max_width")
    if width > allowed:
        message = f"fan-out {node.name!r} has {width} branches, more than max_width {allowed}"
        return node, (node.name, "LimitReached", message, token.tried, token.value)
    join = draft.shape.nodes[node.join or ""]
    if join.wait is None or not 0 < width < join.wait or join.collect:
        return None
    failure = cannot_reach(join, f"it has {width} branches", None)
    return (join if node.error is None else node), failure


def _refused_route(token: Token, node: NodeShape, trigger: NodeFinished) -> tuple[NodeShape, FailureFields] | None:
    """Return who fails with what if a node chose a route that its branch does not have."""
    if node.out(trigger.route) is not None:
        return None
    message = f"node {node.name!r} chose the route {trigger.route!r}, which its branch does not have"
    return node, (node.name, "UnknownRoute", message, token.tried, _given(token, node))


def _given(token: Token, node: NodeShape) -> Value | None:
    """Return what a node's body got, as far as the token tells: a join's token carries nothing."""
    return None if node.kind == JOIN else token.value


def _too_many_steps(draft: PatchBuilder) -> None:
    """Stop the run after this step; the step itself counts, so that no finished work is lost."""
    allowed = limit(draft.shape, draft.run, "max_steps")
    message = f"the run made {allowed} steps: raise max_steps and resume, or mend the loop"
    draft.event("error", "", "", None, failure="LimitReached", message=message)
    draft.ops.append(("error", draft.value(("", "LimitReached", message, 1, None))))
    draft.status = FAILED


def _failed(draft: PatchBuilder, trigger: NodeFailed) -> None:
    token = draft.run.tokens.get(trigger.token)
    if token is None or token.state != RUN or token.attempt != trigger.attempt:
        return None
    node = draft.shape.nodes[token.node]
    draft.events.extend(trigger.events)
    if trigger.retryable and node.retry is not None and token.tried < node.retry.attempts:
        pause = delay_ms(node, token.name, token.tried, trigger.retry_after_ms)
        draft.ops.append(("state", token.name, RETRY, token.attempt + 1, token.tried + 1))
        draft.active -= 1
        draft.ops.append(("timer", token_timer(token.name), trigger.at + pause))
        draft.event("retry", node.name, token.name, None, tried=token.tried, delay_ms=pause, message=trigger.message)
        return None
    if node.asks and not trigger.final:
        return _ask_again(draft, token, node, trigger.message)
    value = _given(token, node) if trigger.input is None else trigger.input
    failure: FailureFields = (node.name, trigger.type, trigger.message, token.tried, value)
    return draft.fail(token.place, node, failure, token=token, final=trigger.final)


def _ask_again(draft: PatchBuilder, token: Token, node: NodeShape, message: str) -> None:
    """Put a question anew to which the answer was none: a slip of a person's must not fail the run."""
    draft.active -= 1
    _rearm(draft, token, node)
    draft.event("retry", node.name, token.name, None, tried=token.attempt, delay_ms=0, message=message)
    draft.event("waiting", node.name, token.name, draft.value(token.value), name="approval")


def _timer_fired(draft: PatchBuilder, trigger: TimerFired) -> None:
    run = draft.run
    if run.timers.get(trigger.timer) != trigger.due:
        return None
    kind, name = trigger.timer[:2], trigger.timer[2:]
    if kind == "t:":
        return _token_due(draft, run.tokens[name], trigger.timer)
    if not name:
        message = f"the run passed its deadline of {(draft.shape.timeout_ms or 0) / 1000:g} s"
        draft.event("error", "", "", None, failure="Timeout", message=message)
        draft.ops.append(("error", draft.value(("", "Timeout", message, 1, run.input))))
        draft.status = FAILED
        return None
    scope = run.scopes[name]
    if not scope.frame:
        draft.event("timer", scope.node, name)
        return draft.fire(name)
    node = draft.shape.nodes[scope.node]
    message = f"{node.name!r} passed its deadline of {(node.timeout_ms or 0) / 1000:g} s"
    failure: FailureFields = (node.name, "Timeout", message, scope.tried, scope.value)
    return draft.fail(f"{name}[0]/", node, failure, own=False)


def _token_due(draft: PatchBuilder, token: Token, timer: str) -> None:
    node = draft.shape.nodes[token.node]
    if token.state == RETRY:
        if node.kind == FRAME:
            return _open_again(draft, token, node)
        draft.untimer(timer)
        draft.ops.append(("state", token.name, RUN, token.attempt, token.tried))
        draft.active += 1
        return None
    draft.event("timer", node.name, token.name)
    if token.state == SLEEP:
        draft.drop(token)
        return draft.leave(token.place, node, None, draft.value(token.value))
    if node.default is not None:
        draft.drop(token)
        return draft.leave(token.place, node, None, draft.value(node.default))
    message = f"no signal {node.signal!r} came within {(node.timeout_ms or 0) / 1000:g} s"
    failure: FailureFields = (node.name, "SignalTimeout", message, token.tried, token.value)
    return draft.fail(token.place, node, failure, token=token)


def _open_again(draft: PatchBuilder, token: Token, node: NodeShape) -> None:
    made = made_from(token.name, token.place)
    draft.drop(token)
    index = draft.value(token.value)
    place, entry = draft.open_frame(token.place, node, made, index, tried=token.tried)
    draft.enter(place, entry, index)


def _signal(draft: PatchBuilder, trigger: SignalReceived) -> None:
    run, signal = draft.run, trigger.signal
    waiting = run.waits.get(signal)
    if not waiting or run.inbox.get(signal, 0) != trigger.position:
        return None
    token = run.tokens[waiting[0]]
    node = draft.shape.nodes[token.node]
    index = draft.value(trigger.value)
    draft.ops.append(("inbox", signal, trigger.position + 1))
    draft.event("signal", node.name, token.name, index, name="approval" if node.asks else signal)
    if not node.checked:
        draft.drop(token)
        return draft.leave(token.place, node, None, index)
    draft.ops.append(("unwait", signal, token.name))
    draft.untimer(token_timer(token.name))
    draft.ops.append(("answer" if node.asks else "receive", token.name, index))
    draft.active += 1
    return None


def _cancelled(draft: PatchBuilder, trigger: CancelRequested) -> None:
    draft.event("error", "", "", None, failure="RunCancelled", message="the run was cancelled")
    draft.ops.append(("error", draft.value(("", "RunCancelled", "the run was cancelled", 1, None))))
    draft.status = CANCELLED


def _resumed(draft: PatchBuilder, trigger: RunResumed) -> None:
    for name, value in trigger.limits:
        draft.ops.append(("limit", name, value))
    if draft.run.status == FAILED:
        _revive(draft)


def _revive(draft: PatchBuilder) -> None:
    draft.ops.append(("error", None))
    draft.status = RUNNING
    for token in draft.run.tokens.values():
        if token.state == BROKEN:
            _rearm(draft, token, draft.shape.nodes[token.node])


def _forked(draft: PatchBuilder, trigger: RunForked) -> None:
    if draft.run.seq:
        return
    draft.event("run_started", "", "", draft.value(draft.run.input))
    _revive(draft)


def _rearm(draft: PatchBuilder, token: Token, node: NodeShape) -> None:
    """Let a failed node try again, with all the attempts of its policy."""
    attempt = token.attempt + 1  # never an attempt's number twice: a late result of the old one must not count
    if node.kind == FRAME:
        return _open_again(draft, token, node)
    if node.kind == WAIT:
        draft.ops.append(("state", token.name, WAITS, attempt, 1))
        draft.ops.append(("wait", signal_of(node, token.name), token.name))
        due = node.timeout_ms
    elif node.kind == TIMER:
        draft.ops.append(("state", token.name, SLEEP, attempt, 1))
        due = node.delay_ms
    else:
        draft.ops.append(("state", token.name, RUN, attempt, 1))
        draft.active += 1
        due = None
    if due is not None:
        draft.ops.append(("timer", token_timer(token.name), draft.at + due))
    return None


def _taken_over(draft: PatchBuilder, trigger: RunTakenOver) -> None:
    if trigger.counts is not None:
        draft.ops += [("interrupt", name, count) for name, count in trigger.counts]
        return
    for token in draft.run.tokens.values():
        if token.state == RUN:
            draft.ops.append(("interrupt", token.name))


def _trial(draft: PatchBuilder, trigger: TrialBegun | TrialBrokenOff) -> None:
    token = draft.run.tokens.get(trigger.token)
    if token is None or token.state != RUN or token.attempt != trigger.attempt:
        return
    more = 1 if isinstance(trigger, TrialBegun) else -1
    draft.ops.append(("interrupt", token.name, token.interruptions + more))


def _adopted(draft: PatchBuilder, trigger: PlanAdopted) -> None:
    draft.ops.append(("plan", trigger.fingerprint))
    if trigger.rename:
        draft.ops.append(rename_op(draft.run, trigger.rename))
    if draft.run.status == FAILED:
        draft.status = FAILED


_DECIDE: dict[type, Any] = {
    RunStarted: _started,
    NodeFinished: _finished,
    NodeFailed: _failed,
    TimerFired: _timer_fired,
    SignalReceived: _signal,
    CancelRequested: _cancelled,
    RunResumed: _resumed,
    RunForked: _forked,
    RunTakenOver: _taken_over,
    TrialBegun: _trial,
    TrialBrokenOff: _trial,
    PlanAdopted: _adopted,
}
_REVIVING = frozenset((RunResumed, RunForked, CancelRequested, PlanAdopted))  # what a failed run still listens to


def work(shape: Shape, run: Snapshot) -> list[Work]:
    """Return all that a live run must be doing: what a resume begins with."""
    if run.ended or run.status == FAILED:
        return []
    found: list[Work] = [ArmTimer(timer, due) for timer, due in run.timers.items()]
    for token in run.tokens.values():
        if token.state == RUN:
            found.append(RunNode(token.name, token.attempt))
        elif token.state == WAITS:
            found.append(AwaitSignal(token.name, signal_of(shape.nodes[token.node], token.name) or ""))
    return found


class Change(NamedTuple):
    """What a patch means for a live run: which tokens and timers are over, and the work that is new."""

    tokens: tuple[str, ...]
    timers: tuple[str, ...]
    new: tuple[Work, ...]
    whole: bool  # the run ended, failed or was revived: all work ends, and `new` is all there is


def changes(shape: Shape, run: Snapshot, patch: Patch) -> Change:
    """Return the change of work that `patch` makes to `run`, which it was applied to.

    work(before) - ended + new == work(after), for every patch; its cost is the size of the patch.
    """
    tokens: list[str] = []
    timers: list[str] = []
    new: dict[tuple[str, str], Work] = {}
    for op in patch.ops:
        kind = op[0]
        if kind == "token":
            name, state = f"{op[1]}{op[3]}#{op[4]}", op[6]
            if state == RUN:
                new["token", name] = RunNode(name, 1)
            elif state == WAITS:
                new["token", name] = AwaitSignal(name, signal_of(shape.nodes[op[2]], name) or "")
        elif kind == "drop":
            tokens.append(op[1])
        elif kind == "state":
            tokens.append(op[1])
            if op[2] == RUN:
                new["token", op[1]] = RunNode(op[1], op[3])
            elif op[2] == WAITS:
                new["token", op[1]] = AwaitSignal(op[1], signal_of(shape.nodes[run.tokens[op[1]].node], op[1]) or "")
        elif kind in ("receive", "answer"):
            tokens.append(op[1])
            new["token", op[1]] = RunNode(op[1], run.tokens[op[1]].attempt)
        elif kind == "timer":
            new["timer", op[1]] = ArmTimer(op[1], op[2])
        elif kind == "untimer":
            timers.append(op[1])
        elif kind == "status" and op[1] in (COMPLETED, FAILED, CANCELLED):
            return Change((), (), (), whole=True)
        elif kind == "error" and op[1] is None:  # the run was revived
            return Change((), (), tuple(work(shape, run)), whole=True)
    return Change(tuple(tokens), tuple(timers), tuple(new.values()), whole=False)
