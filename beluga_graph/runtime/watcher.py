"""A watch: what one watcher of a run has still to see. Its queue is bounded, whatever the watcher does.

Stored events can be read again at any time, so a queue that is full leaves a gap for them, and the watcher reads
the store there. Live events that find no room are lost: the gap counts them.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import TYPE_CHECKING

from beluga_graph.events import Event

if TYPE_CHECKING:
    from beluga_graph.runtime.active_run import ActiveRun

__all__ = ["EVENTS_MOST", "STORED_MOST", "Gap", "Watcher"]

EVENTS_MOST = 10_000  # in a queue, before live ones are lost
STORED_MOST = 1_000  # in a queue; each holds what its node returned


class Gap:
    """A place in a queue at which events were left out."""

    __slots__ = ("lost", "until")

    def __init__(self, until: int = 0) -> None:
        self.until = until  # the last step whose events are to be read from the store
        self.lost = 0  # live events that will not be seen


class Watcher:
    """One watcher's queue of events."""

    __slots__ = ("_closed", "_events", "_stored", "_waiter", "began", "live", "since")

    def __init__(self) -> None:
        self._events: deque[Event | Gap] = deque()
        self._stored = 0  # how many of them are stored events
        self._waiter: asyncio.Future[None] | None = None
        self._closed = False
        self.since = 0  # what was committed before is read from the store instead
        self.live: ActiveRun | None = None  # what it is attached to
        self.began = False  # whether the run began with this watch

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
        """Say that events will follow, also after a close: a take-over that was refused is tried again."""
        self._closed = False

    def close(self) -> None:
        """Say that no event will follow."""
        self._closed = True
        self._wake()

    async def get(self) -> Event | Gap | None:
        """Return the next event, or the gap that is there instead; `None` once there will be none."""
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
