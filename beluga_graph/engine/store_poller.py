"""The store poller: one loop that looks for what other processes wrote, as long as a part of the engine needs it."""

from __future__ import annotations

import asyncio
from typing import Protocol

__all__ = ["INTERVAL_S", "Look", "StorePoller"]

INTERVAL_S = 0.08


class Look(Protocol):
    """A part of an engine that looks at the store now and then."""

    @property
    def is_needed(self) -> bool:
        """Whether to look again."""
        ...

    def look(self) -> None:
        """Read the store and act on it. An error stops the loop, and `on_look_failed` is called for each part."""
        ...

    def on_look_failed(self, error: Exception) -> None:
        """Handle an error in a look of any part: the store could not be read."""
        ...


class StorePoller:
    """Runs the looks of all registered parts, in the order of registration, every 80 milliseconds.

    The loop stops when no part needs it, and `start` begins it again. Nothing is read while an engine is idle.
    """

    def __init__(self) -> None:
        self._looks: list[Look] = []
        self._waiters: list[asyncio.Future[None]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._closed = False

    def register(self, look: Look) -> None:
        """Include a part in each look."""
        self._looks.append(look)

    def start(self, delay_s: float | None = None) -> None:
        """Look after `delay_s` and then as long as a part needs it. Does nothing if the loop runs already."""
        if self._timer is None and not self._closed:
            delay_s = INTERVAL_S if delay_s is None else delay_s
            self._timer = asyncio.get_running_loop().call_later(delay_s, self._poll)

    async def wait_next(self) -> None:
        """Wait until the next look is over. Returns at once after `close`."""
        if self._closed:
            return
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        self.start()
        await waiter

    def close(self) -> None:
        """Stop looking and release the callers of `wait_next`."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._release_waiters()

    def _poll(self) -> None:
        self._timer = None
        try:
            for look in self._looks:
                look.look()
        except Exception as error:  # noqa: BLE001 - the store cannot be read: each part handles that
            for look in self._looks:
                look.on_look_failed(error)
        else:
            if any(look.is_needed for look in self._looks):
                self.start()
        self._release_waiters()

    def _release_waiters(self) -> None:
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(None)
        self._waiters.clear()
