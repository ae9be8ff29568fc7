"""Visits of nodes, and the statistics of one node over all of its visits."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DONE", "DROPPED", "FAILED", "RETRYING", "RUNNING", "STOPPED", "WAITING", "Counter", "NodeStats", "Visit"]

RUNNING, RETRYING, WAITING = "running", "retrying", "waiting"
DONE, FAILED, DROPPED, STOPPED = "done", "failed", "dropped", "stopped"
_PRECEDENCE = (FAILED, RUNNING, RETRYING, WAITING, STOPPED)  # the status of a node whose visits differ in status


@dataclass(slots=True, kw_only=True)
class Visit:
    """One visit of a node: from the step that put a token on the node to the step that removed it."""

    name: str
    """Structural name of the token, and of the scope or frame that it opened."""
    node: str
    """Path of the node."""
    place: str
    """Name of the place that holds the token."""
    begun_seq: int
    """Step in which the visit began."""
    begun_ms: int
    """Clock time at which the visit began."""
    since_ms: int
    """Clock time at which the current status began."""
    status: str = RUNNING
    """`running`, `retrying` or `waiting`; `done`, `failed` for good or `dropped`; `stopped` if another node's failure
    ended the run."""
    ended_seq: int | None = None
    """Step in which the visit ended."""
    ended_ms: int | None = None
    """Clock time at which the visit ended."""
    attempts: int = 1
    """Attempts made so far."""
    busy_ms: int = 0
    """Time in attempts, without the pauses between them. A frame or fan-out is busy until its scope is closed."""
    due_ms: int | None = None
    """Clock time at which the timer of a token that sleeps, waits or pauses fires."""
    signal: str = ""
    """Name of the signal that the visit waits for."""
    opens: bool = False
    """Whether the visit opened a frame or a fan-out."""
    usage: dict[str, int] = field(default_factory=dict)
    """Sums that the node reported, such as model tokens, by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStats:
    """Statistics of one node over all of its visits so far."""

    status: str = ""
    """A status of a visit; `""` if the node was never reached."""
    visits: int = 0
    """Number of visits."""
    attempts: int = 0
    """Number of attempts over all visits."""
    busy_ms: int = 0
    """Time in attempts."""
    waited_ms: int = 0
    """Time in waits for signals and timers that have ended."""
    now: int = 0
    """Visits that have not ended."""
    clocks: int = 0
    """Visits that are running: each adds one millisecond to `busy_ms` per millisecond."""
    usage: dict[str, int] = field(default_factory=dict)
    """Sums that the node reported, such as model tokens, by name."""
    signal: str = ""
    """Name of the signal that the first waiting visit waits for."""
    due_ms: int | None = None
    """Clock time at which the timer of the first waiting visit fires."""


class Counter:
    """Running statistics of one node. An update costs the same however many visits there are."""

    __slots__ = (
        "_busy_ms",
        "_last_status",
        "_running_since",
        "_statuses",
        "_waiting",
        "attempts",
        "usage",
        "visits",
        "waited_ms",
    )

    def __init__(self) -> None:
        self.visits = 0
        self.attempts = 0
        self.usage: dict[str, int] = {}
        self.waited_ms = 0
        self._busy_ms = 0
        self._running_since = 0  # sum of `since_ms` over the running visits
        self._statuses: dict[str, int] = {}  # of visits that have not ended
        self._waiting: dict[str, Visit] = {}
        self._last_status = ""

    def add(self, visit: Visit) -> None:
        """Add a visit in its current status."""
        self._statuses[visit.status] = self._statuses.get(visit.status, 0) + 1
        if visit.status == RUNNING:
            self._running_since += visit.since_ms
        elif visit.status in (WAITING, RETRYING):
            self._waiting[visit.name] = visit

    def remove(self, visit: Visit) -> None:
        """Remove a visit. Must be called before the status of the visit changes."""
        self._statuses[visit.status] -= 1
        if visit.status == RUNNING:
            self._running_since -= visit.since_ms
        self._waiting.pop(visit.name, None)

    def record_end(self, status: str) -> None:
        """Record the status in which a visit ended."""
        self._last_status = status

    def transfer(self, visit: Visit, other: Counter) -> None:
        """Move the attempts, times and usage of a visit to the counter of another node. Remove the visit before."""
        for counter, sign in ((self, -1), (other, 1)):
            counter.visits += sign
            counter.attempts += sign * visit.attempts
            counter.add_busy(sign * visit.busy_ms)
            for name, amount in visit.usage.items():
                counter.usage[name] = counter.usage.get(name, 0) + sign * amount
            counter.usage = {name: amount for name, amount in counter.usage.items() if amount}

    def add_busy(self, milliseconds: int) -> None:
        """Add the time that a visit spent in an attempt."""
        self._busy_ms += milliseconds

    def summarize(self, at_ms: int, inside: dict[str, int] | None) -> NodeStats:
        """Return the statistics as of a time; `inside` counts the tokens in an open frame or fan-out by status."""
        statuses = dict(self._statuses)
        running = statuses.get(RUNNING, 0)
        if inside is not None and running:
            statuses[RUNNING] = inside.get(RUNNING, 0) or (0 if any(inside.values()) else running)
            statuses.update({status: count for status, count in inside.items() if status != RUNNING and count})
        first = next(iter(self._waiting.values()), None)
        return NodeStats(
            status=next((status for status in _PRECEDENCE if statuses.get(status)), self._last_status),
            visits=self.visits,
            attempts=self.attempts,
            busy_ms=self._busy_ms + running * at_ms - self._running_since,
            now=sum(self._statuses.values()),
            clocks=running,
            waited_ms=self.waited_ms,
            usage=dict(self.usage),
            signal=first.signal if first is not None else "",
            due_ms=first.due_ms if first is not None else None,
        )
