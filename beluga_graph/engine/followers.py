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
        run: The run as this engine drives it or last saw it end; `None` while it is parked or driven elsewhere.
        watchers: Watchers of a run that this engine does not drive.
    """

    __slots__ = ("__weakref__", "_waiters", "run", "run_id", "watchers")

    def __init__(self, run_id: str) -> None:
        self.run_id = run_id
        self.run: ActiveRun | None = None
        self.watchers: list[Watcher] = []
        self._waiters: list[asyncio.Future[None]] = []

    @property
    def is_waiting(self) -> bool:
        """Whether a watcher or a caller waits for a run that this engine does not drive."""
        return self.run is None and bool(self.watchers or self._waiters)

    def on_active(self, run: ActiveRun) -> None:
        """Attach the watchers to a run that this engine drives again. They first read the steps that they missed."""
        if self.run is not None and self.run.state == RELEASED:
            self.on_released()
        for watcher in self.watchers:
            watcher.skip(run.committed)
            run.attach(watcher)
        self.watchers.clear()
        self.notify(run)

    def on_released(self) -> None:
        """Keep the watchers of a run that was released and continues later or elsewhere."""
        if self.run is not None:
            for watcher in self.run.watchers:
                watcher.since = self.run.committed
                self.watchers.append(watcher)
            self.run.watchers.clear()
            self.run = None

    def notify(self, run: ActiveRun) -> None:
        """Wake the callers of `wait_active`: this engine drives the run, or the run has ended."""
        self.run = run
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        if run.is_over:
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
        if self.run is not None:
            self.run.detach(watcher)
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
