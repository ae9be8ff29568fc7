"""Triggers: what happened to a run, in the past tense, with its time. Work: what a live run must be doing.

Triggers come in and work goes out; both are plain data. Times are integer milliseconds since the epoch.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from beluga_graph.kernel.types import EventFields, Renames, Route, Value

__all__ = [
    "ArmTimer",
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
    """One attempt of one node ended well; all that user code decided in it is here."""

    token: str
    attempt: int
    at: int
    values: tuple[Value, ...]  # the output first; then what `branches`, `sets` and `events` refer to
    route: Route | None = None  # what the node's branch chose
    branches: tuple[tuple[int, int], ...] = ()  # fan-out: per branch, index of its target and of its value
    sets: tuple[tuple[str, int], ...] = ()  # state fields and their new value
    appends: tuple[tuple[str, int], ...] = ()  # append fields and how many items; the items travel beside
    events: tuple[EventFields, ...] = ()
    text: str = ""  # all that the node emitted as text
    usage: tuple[tuple[str, int], ...] = ()
    reason: str = ""  # why a loop ended: "condition" or "limit"


class NodeFailed(NamedTuple):
    """One attempt of one node failed."""

    token: str
    attempt: int
    at: int
    type: str
    message: str
    retryable: bool
    retry_after_ms: int | None = None  # what a provider asked for
    input: Value | None = None  # where the token's own value is not what the body got: at joins
    events: tuple[EventFields, ...] = ()
    final: bool = False  # no frame around the node is begun anew for this either


class TimerFired(NamedTuple):
    """A timer's time had come. `due` names the arming: a timer armed anew has another."""

    timer: str
    due: int
    at: int


class SignalReceived(NamedTuple):
    """The signal at `position` of its name's inbox is served to the oldest wait."""

    signal: str
    position: int
    value: Value
    at: int


class CancelRequested(NamedTuple):
    """Somebody wants the run to end."""

    at: int


class RunResumed(NamedTuple):
    """Somebody wants a failed run to go on, perhaps with other limits."""

    at: int
    limits: tuple[tuple[str, int], ...] = ()


class RunForked(NamedTuple):
    """The run begins where another one was after a step."""

    at: int
    source: str
    seq: int


class RunTakenOver(NamedTuple):
    """The run's owner died while nodes were running; another owner goes on."""

    at: int
    counts: tuple[tuple[str, int], ...] | None = None  # of tokens: their interruptions; `None`: one more each


class TrialBegun(NamedTuple):
    """A node at which process after process ended is begun again, apart from others like it."""

    token: str
    attempt: int
    at: int


class TrialBrokenOff(NamedTuple):
    """The owner stopped in good order while a node was on trial, which so proves nothing."""

    token: str
    attempt: int
    at: int


class PlanAdopted(NamedTuple):
    """The run goes on with a changed graph."""

    fingerprint: str
    at: int
    rename: Renames = ()  # nodes that have other names in it


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
    """Make this attempt of the token's node."""

    token: str
    attempt: int


class ArmTimer(NamedTuple):
    """Report when `due` has come."""

    timer: str
    due: int


class AwaitSignal(NamedTuple):
    """Report the next unread signal of this name."""

    token: str
    signal: str


Work: TypeAlias = RunNode | ArmTimer | AwaitSignal
