"""Seats: runs as the handles of this process know them, while they are driven here, parked, or elsewhere.

A run that waits leaves nothing in memory but who waits for it. Those sit here until it is live again, or
until the store says that it went on in another process.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.watcher import Watcher

__all__ = ["Followers"]


class Followers:
    """Where the handles of one run find it."""

    __slots__ = ("__weakref__", "_turns", "live", "run_id", "watches")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.live: ActiveRun | None = None  # as it was last driven or ended here; none while it is parked or elsewhere
        self.watches: list[Watcher] = []  # of those who watch a run that is not live here
        self._turns: list[asyncio.Future[None]] = []

    @property
    def awaited(self) -> bool:
        """Whether anybody waits for a run that is not live here."""
        return self.live is None and bool(self.watches or self._turns)

    def taken(self, live: ActiveRun) -> None:
        """The run is driven here again: show watchers what they missed, and all that follows."""
        if self.live is not None and self.live.parted:
            self.left()
        for watch in self.watches:
            watch.skip(live.committed)
            live.attach(watch)
        self.watches.clear()
        self.turned(live)

    def left(self) -> None:
        """The run is let go of, and goes on later or elsewhere."""
        if self.live is not None:
            for watch in self.live.watches:
                watch.since = self.live.committed
                self.watches.append(watch)
            self.live.watches.clear()
            self.live = None

    def turned(self, live: ActiveRun) -> None:
        """The run is here, or has ended: tell those who wait."""
        self.live = live
        for turn in self._turns:
            if not turn.done():
                turn.set_result(None)
        if live.done.done():
            self.close()

    def failed(self, error: Exception) -> None:
        """The run cannot be followed any more: tell those who wait."""
        for turn in self._turns:
            if not turn.done():
                turn.set_exception(error)
        self.close()

    def close(self) -> None:
        """Tell watchers that nothing will follow."""
        for watch in self.watches:
            watch.close()
        self.watches.clear()

    def detach(self, watch: Watcher) -> None:
        """Let a watch see no more."""
        if self.live is not None:
            self.live.detach(watch)
        with suppress(ValueError):
            self.watches.remove(watch)

    async def turn(self) -> None:
        """Return once the run is live here or has ended. Raises what keeps it from that."""
        future = asyncio.get_running_loop().create_future()
        self._turns.append(future)
        try:
            await future
        finally:
            self._turns.remove(future)
