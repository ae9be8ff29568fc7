"""Followers: the handles and watchers that this process has of one run, wherever the run is driven.

A parked run uses no memory except for its followers. They wait here until this engine drives the run again, or the
store shows that it continued in another process.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from beluga_graph.runtime.active_run import RELEASED, ActiveRun
from beluga_graph.runtime.watcher import Watcher

__all__ = ["Followers"]


class Followers:
    """The handles, watchers and waiting callers of one run.

    Attributes:
        run_id: The id of the run.
        active: The run as this engine drives it or last saw it end; `None` while it is parked or driven elsewhere.
        watchers: Watchers of a run that this engine does not drive.
    """

    __slots__ = ("__weakref__", "_waiters", "active", "run_id", "watchers")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.active: ActiveRun | None = None
        self.watchers: list[Watcher] = []
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_waiting(self) -> bool:
        """Whether a watcher or a caller waits for a run that this engine does not drive."""
        return self.active is None and bool(self.watchers or self._waiters)

    def on_active(self, active: ActiveRun) -> None:
        """Attach the watchers to a run that this engine drives again. They first read the steps that they missed."""
        if self.active is not None and self.active.state == RELEASED:
            self.on_released()
        for watcher in self.watchers:
            watcher.skip(active.committed)
            active.attach(watcher)
        self.watchers.clear()
        self.notify(active)

    def on_released(self) -> None:
        """Keep the watchers of a run that was released and continues later or elsewhere."""
        if self.active is not None:
            for watcher in self.active.watchers:
                watcher.since = self.active.committed
                self.watchers.append(watcher)
            self.active.watchers.clear()
            self.active = None

    def notify(self, active: ActiveRun) -> None:
        """Wake the callers of `wait_active`: this engine drives the run, or the run has ended."""
        self.active = active
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if active.is_over:
            self.close()

    def fail(self, error: Exception) -> None:
        """Raise `error` in the callers of `wait_active` and close the watchers: the run cannot be followed."""
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self.close()

    def close(self) -> None:
        """Close all watchers: no event will follow."""
        for watcher in self.watchers:
            watcher.close()
        self.watchers.clear()

    def detach(self, watcher: Watcher) -> None:
        """Show a watcher no more events."""
        if self.active is not None:
            self.active.detach(watcher)
        with suppress(ValueError):
            self.watchers.remove(watcher)

    async def wait_active(self) -> None:
        """Wait until this engine drives the run or the run has ended. Raises the error given to `fail`."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        finally:
            self._waiters.remove(waiter)
