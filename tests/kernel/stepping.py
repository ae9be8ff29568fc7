"""Small handwritten shapes, and a run that steps through them one trigger at a time."""

from __future__ import annotations

from typing import Any

from beluga_graph.kernel.listener_list import is_listener, list_listeners
from beluga_graph.kernel.shape import (
    FAN_OUT,
    FRAME,
    FUNCTION,
    JOIN,
    TIMER_NODE,
    WAIT_NODE,
    NodeShape,
    RetryShape,
    Shape,
)
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.transition import EMPTY_PATCH, advance
from beluga_graph.kernel.triggers import (
    ArmTimer,
    AwaitInterrupt,
    CancelRequested,
    NodeFailed,
    NodeFinished,
    RunNode,
    RunResumed,
    RunStarted,
    RunTakenOver,
    SignalReceived,
    TimerFired,
    Trigger,
    Work,
)
from beluga_graph.kernel.types import Patch
from beluga_graph.kernel.work import WorkChange, diff_work, list_work

LIMITS = {"max_visits": 100, "max_steps": 1000, "max_width": 50, "max_interruptions": 5}


def once(attempts: int = 3, pause_ms: int = 10) -> RetryShape:
    """Return a policy with a constant pause."""
    return RetryShape(attempts=attempts, initial_ms=pause_ms, factor=1.0, maximum_ms=1000, jitter=0.0)


def function(name: str, target: str | None = None, **more: Any) -> NodeShape:
    return NodeShape(name=name, local=_local(name), kind=FUNCTION, frame=_frame(name), target=target, **more)


def fan_out(name: str, *branches: str, join: str, **more: Any) -> NodeShape:
    return NodeShape(
        name=name, local=_local(name), kind=FAN_OUT, frame=_frame(name), branches=branches, join=join, **more
    )


def join(name: str, target: str, **more: Any) -> NodeShape:
    return NodeShape(name=name, local=_local(name), kind=JOIN, frame=_frame(name), target=target, **more)


def wait(name: str, signal: str, target: str, **more: Any) -> NodeShape:
    return NodeShape(
        name=name, local=_local(name), kind=WAIT_NODE, frame=_frame(name), signal=signal, target=target, **more
    )


def timer(name: str, delay_ms: int, target: str, **more: Any) -> NodeShape:
    return NodeShape(
        name=name, local=_local(name), kind=TIMER_NODE, frame=_frame(name), delay_ms=delay_ms, target=target, **more
    )


def frame(name: str, entry: str, target: str, **more: Any) -> NodeShape:
    return NodeShape(name=name, local=_local(name), kind=FRAME, frame=_frame(name), entry=entry, target=target, **more)


def shape(*nodes: NodeShape, limits: dict[str, int] | None = None, **more: Any) -> Shape:
    """Return a shape whose entry is its first node."""
    return Shape(
        name="hand-built",
        fingerprint="f",
        entry=nodes[0].name,
        nodes={node.name: node for node in nodes},
        limits={**LIMITS, **(limits or {})},
        **more,
    )


def _local(name: str) -> str:
    return name.rpartition("/")[2]


def _frame(name: str) -> str:
    return name.rpartition("/")[0]


class Walk:
    """One run of a shape. Its time changes only when a test fires a timer."""

    def __init__(self, *nodes: NodeShape, at: int = 1000, **more: Any) -> None:
        self.shape = shape(*nodes, **more)
        self.run = Snapshot(run_id="r", plan="f", started_ms=at, value=b"in")
        self.now = at
        self.events: list[tuple[Any, ...]] = []
        self.decide(RunStarted(at))

    def decide(self, trigger: Trigger) -> Patch:
        """Apply a trigger to the run, and check that the change of its work equals the difference of its work."""
        before = list_work(self.shape, self.run)
        patch = advance(self.shape, self.run, trigger)
        if patch == EMPTY_PATCH:
            return patch
        self.run.apply(patch)
        change = diff_work(self.shape, self.run, patch)
        kept = [] if change.whole else [item for item in before if not is_over(item, change)]
        assert sorted([*kept, *change.new], key=repr) == sorted(list_work(self.shape, self.run), key=repr)
        listening = [(signal, name) for signal, names in self.run.waits.items() for name in names]
        listening = [(s, n) for s, n in listening if is_listener(self.shape, self.run, s, n)]
        if not self.run.ended:
            assert sorted(listening) == sorted(list_listeners(self.shape, self.run))
        assert self.run.active == sum(token.state == "run" for token in self.run.tokens.values())
        self.events += patch.events
        return patch

    def finish(self, token: str, value: Any = b"out", **more: Any) -> Patch:
        """Finish the current attempt of a token."""
        attempt = self.run.tokens[token].attempt
        values = value if type(value) is tuple else (value,)
        return self.decide(NodeFinished(token, attempt, self.now, values, **more))

    def spread(self, token: str, *targets: int) -> Patch:
        """Finish a fan-out with a branch for each of these targets."""
        return self.finish(token, branches=tuple((target, 0) for target in targets))

    def fail(self, token: str, *, retryable: bool = False, **more: Any) -> Patch:
        """Fail the current attempt of a token."""
        attempt = self.run.tokens[token].attempt
        return self.decide(NodeFailed(token, attempt, self.now, "Boom", "it broke", retryable=retryable, **more))

    def fire(self, name: str) -> Patch:
        """Advance the time to a timer's due time and fire it."""
        due = self.run.timers[name]
        self.now = max(self.now, due)
        return self.decide(TimerFired(name, due, self.now))

    def signal(self, name: str, value: bytes = b"payload") -> Patch:
        """Deliver the next signal of a name."""
        return self.decide(SignalReceived(name, self.run.inbox.get(name, 0), value, self.now))

    def cancel(self) -> Patch:
        return self.decide(CancelRequested(self.now))

    def resume(self) -> Patch:
        return self.decide(RunResumed(self.now))

    def take_over(self) -> Patch:
        return self.decide(RunTakenOver(self.now))

    @property
    def tokens(self) -> list[str]:
        """The run's tokens, by name."""
        return list(self.run.tokens)

    @property
    def running(self) -> list[str]:
        """The tokens whose nodes are running."""
        return [item.token for item in list_work(self.shape, self.run) if isinstance(item, RunNode)]

    @property
    def armed(self) -> dict[str, int]:
        """The armed timers: name and due time."""
        return {item.timer: item.due for item in list_work(self.shape, self.run) if isinstance(item, ArmTimer)}

    @property
    def is_bare(self) -> bool:
        """Whether the run has nothing left except its output."""
        run = self.run
        return not (run.tokens or run.scopes or run.timers or run.waits or run.active) and list(run.places) == [""]


def is_over(item: Work, change: WorkChange) -> bool:
    """Return whether a change of work ends an item."""
    if isinstance(item, ArmTimer):
        return item.timer in change.timers
    if isinstance(item, AwaitInterrupt):
        return (item.signal, item.listener) in change.listeners
    return item.token in change.tokens
