"""`explain`: why a run does not go on, computed from its snapshot and from the circumstances around it.

`kernel.work.list_work` says what a live run must be doing now, and this module only describes that work: each piece of
work is a trigger that would move the run, or is about to come. The function is pure, and both engines use it. They
differ in the circumstances, above all in who drives the run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from beluga_graph.inspection.commands import Commands
from beluga_graph.inspection.entered import Entered
from beluga_graph.inspection.moments import Moments
from beluga_graph.inspection.unread import find_served
from beluga_graph.inspection.views import RunStatus
from beluga_graph.inspection.why import AwaitedTrigger, Reason, ReasonKind, Why
from beluga_graph.kernel.failure_handlers import find_handler
from beluga_graph.kernel.listener_list import is_listener
from beluga_graph.kernel.listeners import describe_listener, pick_receiver
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.kernel.shape import NodeShape, Shape
from beluga_graph.kernel.snapshot import FAILED, Snapshot
from beluga_graph.kernel.structural_names import RUN_TIMER, SCOPE_TIMER, branch_place, split_timer, token_timer
from beluga_graph.kernel.tokens import AT_TIMER, AT_WAIT, FAILED_TOKEN, RETRY, RUN, Token
from beluga_graph.kernel.triggers import ArmTimer, AwaitInterrupt, AwaitSignal, RunNode
from beluga_graph.kernel.types import FailureFields
from beluga_graph.kernel.work import list_work

__all__ = ["AttemptState", "Circumstances", "Driving", "explain"]


@dataclass(frozen=True, slots=True)
class AttemptState:
    """The state of one attempt, as its engine knows it."""

    text: str
    """The state, such as `is under way in this process`."""
    is_queued: bool = False
    """Whether the attempt waits for a place among those that the engine makes at a time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Driving:
    """Who drives a run."""

    place: str = ""
    """Where its attempts are made, such as `in this process`; empty if nothing drives it."""
    problem: str = ""
    """Why nothing drives it; empty if something does, or if nothing has to."""
    is_queued: bool = False
    """Whether the problem is that the engine has no place for the run yet."""
    moved_to: str = ""
    """The place where it goes on that has left this store."""
    attempts: Mapping[str, AttemptState] = field(default_factory=dict)
    """By token, attempts of which more is known than the place."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """All that an explanation needs and the snapshot of the run does not have."""

    now_ms: int
    changed_ms: int
    """When the run's status changed last."""
    unread: Mapping[str, int]
    """By name of a signal: how many have arrived that the run has not read."""
    entered: Mapping[str, Entered]
    """By token: when it came into its state."""
    driving: Driving
    commands: Commands


def explain(shape: Shape, run: Snapshot, around: Circumstances) -> Why:
    """Return why a run does not go on. `shape` is that of the run's own graph."""
    explanation = _Explanation(shape, run, around)
    return Why(
        run_id=run.run_id,
        flow=shape.name,
        status=RunStatus(run.status),
        reasons=tuple(explanation.reasons()),
        triggers=tuple(explanation.triggers()),
        at_ms=around.now_ms,
    )


class _Explanation:
    """The explanation of one run, in parts."""

    def __init__(self, shape: Shape, run: Snapshot, around: Circumstances) -> None:
        self._shape, self._run, self._around = shape, run, around
        self._moments = Moments(around.now_ms)
        self._work = list_work(shape, run)
        self._served = find_served(shape, run, around.unread)

    # Reasons.

    def reasons(self) -> Iterator[Reason]:
        """Yield the reasons of the whole run, then one for each token, then one for each fan-out with a queue."""
        run, around = self._run, self._around
        if run.ended:
            text = f"it ended {self._moments.at(around.changed_ms)}"
            yield Reason(kind="ended", text=text, since_ms=around.changed_ms)
            return
        if around.driving.moved_to:
            text = f"it has left this store and goes on at {around.driving.moved_to}: ask there"
            yield Reason(kind="owner", text=text)
            return
        if run.status == FAILED:
            yield from self._failure()
            return
        if around.driving.is_queued:
            yield Reason(kind="concurrency", text=around.driving.problem)
        elif around.driving.problem:
            yield Reason(kind="owner", text=around.driving.problem, command=around.commands.drive())
        for token in run.tokens.values():
            yield self._reason(token)
        yield from self._queued_branches()

    def _reason(self, token: Token) -> Reason:
        if token.state == RUN:
            return self._attempt(token)
        if token.state == AT_WAIT:
            return self._wait(token)
        due = self._run.timers[token_timer(token.name)]
        is_due, at = due <= self._around.now_ms, self._moments.at(due)
        if token.state == RETRY:
            entered = self._around.entered.get(token.name)
            after = f", after the error: {entered.error}" if entered is not None and entered.error else ""
            attempt = f"attempt {_number_of(token)} {'was due' if is_due else 'begins'}"
            return self._make("retry", token, f"{attempt} {at}{after}")
        assert token.state == AT_TIMER
        pause = "its pause was due to end" if is_due else "its pause ends"
        return self._make("timer", token, f"{pause} {at}")

    def _attempt(self, token: Token) -> Reason:
        driving, entered = self._around.driving, self._around.entered.get(token.name)
        state = driving.attempts.get(token.name)
        if state is None and driving.place:
            state = AttemptState(f"is under way {driving.place}")
        if state is not None:
            text = f"{state.text}{self._since(token)}"
        elif entered is not None:
            text = f"began {self._moments.at(entered.since_ms)} and has not ended"
        else:
            text = "has not ended"
        if token.interruptions:
            text += f"; it was interrupted {_times(token.interruptions)} by the end of its process"
        kind: ReasonKind = "concurrency" if state is not None and state.is_queued else "attempt"
        return self._make(kind, token, f"attempt {_number_of(token)} {text}")

    def _wait(self, token: Token) -> Reason:
        node, commands, run_id = self._shape.nodes[token.node], self._around.commands, self._run.run_id
        since = self._since(token)
        if token.name in self._served:
            arrived = "the answer has arrived" if node.asks else f"signal {node.signal!r} has arrived"
            return self._make("answer" if node.asks else "signal", token, f"{arrived}, and is not read yet{since}")
        if node.asks:
            what = f"tool {node.target!r} may be called" if node.asks == "tool" else f"step {node.target!r} may run"
            command = commands.answer(run_id, token.name)
            return self._make("answer", token, f"waits for a person to decide whether {what}{since}", command)
        command = commands.signal(run_id, node.signal or "", is_typed=node.checked)
        return self._make("signal", token, f"waits for signal {_named(node)}{since}", command)

    def _queued_branches(self) -> Iterator[Reason]:
        for name, scope in self._run.scopes.items():
            if not scope.queue:
                continue
            most = self._shape.nodes[scope.node].max_concurrency
            limit = f"; max_concurrency is {most}" if most is not None else ""
            branches = f"{len(scope.queue):,} of {scope.width:,} branches wait for a place{limit}"
            yield Reason(kind="concurrency", node=scope.node, token=name, text=branches)

    def _failure(self) -> Iterator[Reason]:
        """Yield the failure of a failed run, at the token that failed if one did, and the reasons of other tokens."""
        run, around = self._run, self._around
        assert isinstance(run.error, tuple)
        node, kind, message, attempts, _ = run.error
        where = f"failed after {_times(attempts, 'attempt')}" if node else "failed"
        text = f"{where} {self._moments.at(around.changed_ms)}: {kind}: {message}"
        if late := self._find_late():
            text, command = f"{text}; {late} is over, also for a resume: start a new run", ""
        else:
            text, command = f"{text}; a resume tries again", around.commands.resume(run.run_id)
        failed = next((token for token in run.tokens.values() if token.state == FAILED_TOKEN), None)
        if failed is None or failed.node != node:
            text = f"node {node!r} {text}" if node else f"it {text}"
            yield Reason(kind="failed", node=node, text=text, command=command, since_ms=around.changed_ms)
        else:
            yield self._make("failed", failed, text, command)
        for token in run.tokens.values():
            if token is not failed:
                yield self._make("failed", token, "was stopped when the run failed; a resume continues it")
            elif failed.node != node:
                yield self._make("failed", token, f"failed{self._since(token)}")
        session = RunSession(*run.session) if run.session is not None else None
        if session is not None and session.run == run.run_id:
            text = f"it keeps session {session.id!r}: other runs of the session are refused until it ends"
            yield Reason(kind="session", text=text)

    def _find_late(self) -> str:
        """Return whose time is over in a failed run so that a resume would fail at once; an empty text if none's is.

        After a resume the timer that is due first fires first, but for a signal that has arrived.
        """
        run, now_ms = self._run, self._around.now_ms
        if run.timers.get(RUN_TIMER, now_ms + 1) <= now_ms:
            return "its time"
        first_ms = min(run.timers.values(), default=now_ms + 1)
        if first_ms > now_ms or any(self._around.unread.get(signal, 0) for signal in run.waits):
            return ""
        first = [timer for timer, due in run.timers.items() if due == first_ms]
        return f"the time of {self._frame_of(first[0])!r}" if all(map(self._frame_of, first)) else ""

    def _frame_of(self, timer: str) -> str:
        """Return the sub-flow whose deadline a timer is, if nothing handles that it passes; else an empty text."""
        kind, name = split_timer(timer)
        if kind != SCOPE_TIMER or not self._run.scopes[name].frame:
            return ""
        node = self._shape.nodes[self._run.scopes[name].node]
        failure: FailureFields = (node.name, "Timeout", "", 1, None)
        place = branch_place(name, 0)
        handler = find_handler(self._shape, self._run, place, node, failure, own=False, final=False)
        return node.name if handler is None else ""

    def _make(self, kind: ReasonKind, token: Token, text: str, command: str = "") -> Reason:
        entered = self._around.entered.get(token.name)
        since_ms = entered.since_ms if entered is not None else None
        return Reason(kind=kind, node=token.node, token=token.name, text=text, command=command, since_ms=since_ms)

    def _since(self, token: Token) -> str:
        """Return since when a token is in its state, as the end of a sentence; an empty text if that is not known."""
        entered = self._around.entered.get(token.name)
        return f", {self._moments.since(entered.since_ms)}" if entered is not None else ""

    # Triggers.

    def triggers(self) -> Iterator[AwaitedTrigger]:
        """Yield the triggers that would move the run: by an engine, from outside, then by the time, the next first."""
        run = self._run
        if self._around.driving.moved_to:
            return
        if run.status == FAILED:
            if not self._find_late():
                yield AwaitedTrigger(kind="drive", text="a resume, which tries the failed node again")
            return
        if deeds := list(self._list_deeds()):
            engine = "its engine" if self._around.driving.place else "an engine that drives it"
            yield AwaitedTrigger(kind="drive", text=f"{engine}: {' and '.join(deeds)}")
        yield from self._inputs()
        for due, timer in sorted((item.due, item.timer) for item in self._work if isinstance(item, ArmTimer)):
            if due > self._around.now_ms:
                text = f"the time, {self._moments.at(due)}: {self._effect_of(timer)}"
                yield AwaitedTrigger(kind="time", due_ms=due, text=text)

    def _list_deeds(self) -> Iterator[str]:
        """Yield all that an engine which drives the run does now."""
        if attempts := sum(isinstance(item, RunNode) for item in self._work):
            yield f"it makes {_times(attempts, 'attempt')}"
        if any(self._around.unread.get(signal, 0) for signal in self._run.waits):
            yield "it reads the signals and answers that have arrived"
        if any(isinstance(item, ArmTimer) and item.due <= self._around.now_ms for item in self._work):
            yield "it fires the timers that are due"

    def _inputs(self) -> Iterator[AwaitedTrigger]:
        """Yield the signals and answers that would move the run, each name once; none of which one has arrived."""
        signals = dict.fromkeys(item.signal for item in self._work if isinstance(item, AwaitSignal | AwaitInterrupt))
        for signal in signals:
            if self._around.unread.get(signal, 0):
                continue
            receiver = pick_receiver(self._run, signal)
            if is_answer(signal):
                text = f"an answer to question {receiver!r}"
                yield AwaitedTrigger(kind="answer", question=receiver, text=text)
            elif is_listener(self._shape, self._run, signal, receiver):
                node, _ = describe_listener(self._run, receiver)
                text = f"signal {signal!r}, which interrupts {repr(node) if node else 'the run'}"
                yield AwaitedTrigger(kind="signal", signal=signal, text=text)
            else:
                node_shape = self._shape.nodes[self._run.tokens[receiver].node]
                yield AwaitedTrigger(kind="signal", signal=signal, text=f"signal {_named(node_shape)}")

    def _effect_of(self, timer: str) -> str:
        """Return the effect of a timer as a clause."""
        if timer == RUN_TIMER:
            return "the run passes its deadline, and fails"
        kind, name = split_timer(timer)
        if kind == SCOPE_TIMER:
            node = self._shape.nodes[self._run.scopes[name].node]
            return f"{node.name!r} passes its deadline" if node.join is None else f"join {node.join!r} waits no longer"
        token = self._run.tokens[name]
        if token.state == RETRY:
            return f"attempt {_number_of(token)} of {token.node!r} begins"
        if token.state == AT_TIMER:
            return f"the pause {token.node!r} ends"
        has_default = self._shape.nodes[token.node].default is not None
        return f"the wait {token.node!r} {'goes on with its default' if has_default else 'fails'}"


def _number_of(token: Token) -> int:
    """Return the number of a token's attempt. The token of a frame that is tried again has it in its retry count."""
    return max(token.attempt, token.attempts_since_armed)


def _named(node: NodeShape) -> str:
    """Return the signal of a wait, with the type of its payload."""
    return f"{node.signal!r} with a payload of type {node.output_type}" if node.checked else repr(node.signal)


def _times(count: int, noun: str = "time") -> str:
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"
