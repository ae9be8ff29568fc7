"""What happened at a node: the visits that it had, and the sum over them."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["DONE", "DROPPED", "FAILED", "RETRYING", "RUNNING", "STOPPED", "WAITING", "Counter", "NodeStats", "Visit"]

RUNNING, RETRYING, WAITING = "running", "retrying", "waiting"
DONE, FAILED, DROPPED, STOPPED = "done", "failed", "dropped", "stopped"
_FIRST = (FAILED, RUNNING, RETRYING, WAITING, STOPPED)  # what is shown of a node that is in several states


@dataclass(slots=True, kw_only=True)
class Visit:
    """One visit of a node: from the step that stood a token there to the one that took it away."""

    name: str
    """Structural name of the token, and of the scope or frame that it opened."""
    node: str
    place: str
    begun_seq: int
    begun_ms: int
    since_ms: int
    """When it began what it does now."""
    status: str = RUNNING
    """`running`, `retrying`, `waiting`; `failed` for good, `stopped` as the run failed elsewhere, `dropped`, `done`."""
    ended_seq: int | None = None
    ended_ms: int | None = None
    attempts: int = 1
    busy_ms: int = 0
    """In attempts, without the pauses between them; of a frame or a fan-out, until what it opened was closed."""
    due_ms: int | None = None
    """When the timer of a token that sleeps, waits or pauses fires."""
    signal: str = ""
    """What it waits for."""
    opens: bool = False
    usage: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeStats:
    """What happened at one node so far, over all its visits."""

    status: str = ""
    """As of a span; `""` for a node that was never reached."""
    visits: int = 0
    attempts: int = 0
    busy_ms: int = 0
    waited_ms: int = 0
    """For signals and timers; of waits that have ended."""
    now: int = 0
    """Visits that have not ended."""
    clocks: int = 0
    """Visits that run: `busy_ms` grows by so many milliseconds in one."""
    usage: dict[str, int] = field(default_factory=dict)
    signal: str = ""
    """What the first of its visits that wait is waiting for."""
    due_ms: int | None = None


class Counter:
    """The sum over the visits of one node, kept as they change; each change costs the same however many there are."""

    __slots__ = ("_busy_ms", "_last", "_since", "_states", "_waiting", "attempts", "usage", "visits", "waited_ms")

    def __init__(self) -> None:
        self.visits = 0
        self.attempts = 0
        self.usage: dict[str, int] = {}
        self.waited_ms = 0
        self._busy_ms = 0
        self._since = 0  # summed over the visits that run
        self._states: dict[str, int] = {}  # of visits that have not ended
        self._waiting: dict[str, Visit] = {}
        self._last = ""

    def add(self, span: Visit) -> None:
        """Count a visit in, as it is now."""
        self._states[span.status] = self._states.get(span.status, 0) + 1
        if span.status == RUNNING:
            self._since += span.since_ms
        elif span.status in (WAITING, RETRYING):
            self._waiting[span.name] = span

    def remove(self, span: Visit) -> None:
        """Count a visit out, before it changes."""
        self._states[span.status] -= 1
        if span.status == RUNNING:
            self._since -= span.since_ms
        self._waiting.pop(span.name, None)

    def ended(self, status: str) -> None:
        """Take note of how the last visit ended."""
        self._last = status

    def give(self, span: Visit, other: Counter) -> None:
        """Hand a visit that is counted out, and all that it did, to the node that it is of from now on."""
        for tally, sign in ((self, -1), (other, 1)):
            tally.visits += sign
            tally.attempts += sign * span.attempts
            tally.busy(sign * span.busy_ms)
            for what, amount in span.usage.items():
                tally.usage[what] = tally.usage.get(what, 0) + sign * amount
            tally.usage = {what: amount for what, amount in tally.usage.items() if amount}

    def busy(self, milliseconds: int) -> None:
        """Add time in which a visit was at work."""
        self._busy_ms += milliseconds

    def mark(self, at_ms: int, inside: dict[str, int] | None) -> NodeStats:
        """Return the sum as of a time; `inside` are the states of what stands in an open frame or fan-out."""
        states = dict(self._states)
        running = states.get(RUNNING, 0)
        if inside is not None and running:
            states[RUNNING] = inside.get(RUNNING, 0) or (0 if any(inside.values()) else running)
            states.update({state: count for state, count in inside.items() if state != RUNNING and count})
        now = sum(self._states.values())
        first = next(iter(self._waiting.values()), None)
        return NodeStats(
            status=next((state for state in _FIRST if states.get(state)), self._last),
            visits=self.visits,
            attempts=self.attempts,
            busy_ms=self._busy_ms + running * at_ms - self._since,
            now=now,
            clocks=running,
            waited_ms=self.waited_ms,
            usage=dict(self.usage),
            signal=first.signal if first is not None else "",
            due_ms=first.due_ms if first is not None else None,
        )
