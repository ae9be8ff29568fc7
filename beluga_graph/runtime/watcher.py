"""A watcher: the queue of events that one reader of a run has still to see. It is bounded, however slow the reader is.

Stored events can be read again at any time, so a full queue leaves a gap for them, and the reader reads the store
there. Live events that find no room are lost. The gap counts them.
"""

from __future__ import annotations

import asyncio
from collections import deque

from beluga_graph.events import Event
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.loading import RunReader

__all__ = ["EVENTS_MOST", "STORED_MOST", "Gap", "Watcher"]

EVENTS_MOST = 10_000  # in a queue, before live ones are lost
STORED_MOST = 1_000  # in a queue; each holds the output of its node


class Gap:
    """A place in a queue at which events were left out."""

    __slots__ = ("lost", "until")

    def __init__(self, until: int = 0) -> None:
        self.until = until  # the last step whose events are to be read from the store
        self.lost = 0  # live events that will not be seen


class Watcher:
    """One reader's queue of events."""

    __slots__ = ("_closed", "_events", "_stored", "_waiter", "began", "run_id", "since", "source")

    def __init__(self) -> None:
        self._events: deque[Event | Gap] = deque()
        self._stored = 0  # how many of them are stored events
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.since = 0  # steps that were committed before are read from the store instead
        self.run_id: str | None = None  # of the run that it is attached to
        self.source: tuple[Plan, RunReader] | None = None  # reads that run's stored events, by the graph that it runs
        self.began = False  # whether the run began with this watcher

    def attach(self, run_id: str, plan: Plan, reader: RunReader, *, since: int, began: bool) -> None:
        """Watch a run from the step after `since` on."""
        self.run_id, self.source = run_id, (plan, reader)
        self.since, self.began = since, began

    def put(self, event: Event) -> None:
        """Add an event, or leave it out if there is no room."""
        if event.seq is None:
            if len(self._events) < EVENTS_MOST:
                self._events.append(event)
            else:
                self._gap().lost += 1
        elif self._stored < STORED_MOST:
            self._events.append(event)
            self._stored += 1
        else:
            self._gap().until = event.seq
        self._wake()

    def skip(self, until: int) -> None:
        """Leave the events of all steps up to this one to be read from the store."""
        if until > self.since:
            self.since = until
            self._gap().until = until
            self._wake()

    def open(self) -> None:
        """Expect more events, also after `close`: a take-over that was refused is tried again."""
        self._closed = False

    def close(self) -> None:
        """Expect no more events: `get` returns `None` once the queue is empty."""
        self._closed = True
        self._wake()

    async def get(self) -> Event | Gap | None:
        """Return the next event, or the gap in its place. Returns `None` when no event will follow."""
        while not self._events:
            if self._closed:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        found = self._events.popleft()
        self._stored -= type(found) is Event and found.seq is not None
        return found

    def _gap(self) -> Gap:
        """Return the gap at the end of the queue."""
        last = self._events[-1] if self._events else None
        if type(last) is not Gap:
            last = Gap()
            self._events.append(last)
        return last

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
