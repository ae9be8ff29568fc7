"""Triggers: the events that change a run, in the past tense. Work: the tasks of a live run, in the imperative.

Triggers come in and work goes out; both are plain data. Times are integer milliseconds since the epoch.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from beluga_graph.kernel.types import DecidedTime, EventFields, Renames, Route, Value

__all__ = [
    "ArmTimer",
    "AwaitInterrupt",
    "AwaitSignal",
    "CancelRequested",
    "NodeFailed",
    "NodeFinished",
    "PlanAdopted",
    "RunForked",
    "RunNode",
    "RunResumed",
    "RunStarted",
    "RunTakenOver",
    "SignalReceived",
    "TimerFired",
    "TrialBegun",
    "TrialBrokenOff",
    "Trigger",
    "Work",
]


class RunStarted(NamedTuple):
    """The run was accepted."""

    at: int


class NodeFinished(NamedTuple):
    """One attempt of one node succeeded. The trigger holds every decision of user code in it."""

    token: str
    attempt: int
    at: int
    values: tuple[Value, ...]  # the output first; then the values that `branches`, `sets` and `events` refer to
    route: Route | None = None  # the choice of the node's branch
    branches: tuple[tuple[int, int], ...] = ()  # fan-out: by branch, the indexes of its target and its value
    sets: tuple[tuple[str, int], ...] = ()  # state fields, and the indexes of their new values
    appends: tuple[tuple[str, int], ...] = ()  # append fields and their numbers of new items; the items travel beside
    events: tuple[EventFields, ...] = ()
    text: str = ""  # all text that the node emitted
    usage: tuple[tuple[str, int], ...] = ()
    reason: str = ""  # why a loop ended: "condition" or "limit"
    time: DecidedTime | None = None  # of the node's wait, its deadline or its join: a function of the value decided it


class NodeFailed(NamedTuple):
    """One attempt of one node failed."""

    token: str
    attempt: int
    at: int
    type: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None  # the pause that a provider asked for
    input: Value | None = None  # the body's input, where it differs from the token's value: at joins
    events: tuple[EventFields, ...] = ()
    final: bool = False  # no frame around the node restarts because of it either


class TimerFired(NamedTuple):
    """A timer's time came. `due` identifies the arming: a timer that is armed again has another one."""

    timer: str
    due: int
    at: int


class SignalReceived(NamedTuple):
    """The signal at `position` in the inbox of its name is served to the oldest wait, or interrupts a source."""

    signal: str
    position: int
    value: Value
    at: int


class CancelRequested(NamedTuple):
    """A caller asked for the run to end."""

    at: int


class RunResumed(NamedTuple):
    """A caller asked for the run to go on after a failure, perhaps with other limits."""

    at: int
    limits: tuple[tuple[str, int], ...] = ()


class RunForked(NamedTuple):
    """The run begins at the state that another run had after a step."""

    at: int
    source: str
    seq: int


class RunTakenOver(NamedTuple):
    """The run's owner died while nodes were running; another owner took the run over."""

    at: int
    counts: tuple[tuple[str, int], ...] | None = None  # by token: interruptions; None: one more for each running token


class TrialBegun(NamedTuple):
    """A node that ran when several owners died begins again, apart from other nodes like it."""

    token: str
    attempt: int
    at: int


class TrialBrokenOff(NamedTuple):
    """The owner stopped in good order while a node was on trial, so the trial does not count."""

    token: str
    attempt: int
    at: int


class PlanAdopted(NamedTuple):
    """The run goes on with a changed graph."""

    fingerprint: str
    at: int
    rename: Renames = ()  # nodes whose names differ in the changed graph


Trigger: TypeAlias = (
    RunStarted
    | NodeFinished
    | NodeFailed
    | TimerFired
    | SignalReceived
    | CancelRequested
    | RunResumed
    | RunForked
    | RunTakenOver
    | TrialBegun
    | TrialBrokenOff
    | PlanAdopted
)


class RunNode(NamedTuple):
    """Run this attempt of the token's node."""

    token: str
    attempt: int


class ArmTimer(NamedTuple):
    """Report when the time `due` has come."""

    timer: str
    due: int


class AwaitSignal(NamedTuple):
    """Report the next unread signal of this name."""

    token: str
    signal: str


class AwaitInterrupt(NamedTuple):
    """Report the next unread signal of this name, which interrupts the listener."""

    listener: str
    signal: str


Work: TypeAlias = RunNode | ArmTimer | AwaitSignal | AwaitInterrupt
