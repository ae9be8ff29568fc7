"""A clock for tests: time passes only when the test advances it, and then at once."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from beluga_graph.clock import check_time_ms

__all__ = ["VirtualClock"]

_PASSES = 50  # turns of the event loop after each timer; work in threads may take more


class VirtualClock:
    """A `Clock` for `Engine(clock=…)`.

    `await clock.advance(seconds)` fires every timer that becomes due, each at its own time and in order, and lets the
    event loop run the work that follows. Functions in threads take real time.

    ```python
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(reminder, "call Ada")
        await clock.advance(3600)
        assert await run.result() == "called"
    ```
    """

    def __init__(self, start_ms: int = 1_700_000_000_000) -> None:
        self._now_ms = check_time_ms(start_ms, "VirtualClock(start_ms=…)")
        self._timers: list[tuple[int, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self._taken_back: set[int] = set()

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        return self._now_ms

    def call_at(self, at_ms: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` when the time is `at_ms` or later. The returned function cancels it."""
        number = next(self._numbers)
        if at_ms <= self._now_ms:
            return asyncio.get_running_loop().call_soon(call).cancel
        heapq.heappush(self._timers, (at_ms, number, call))
        return lambda: self._taken_back.add(number)

    async def advance(self, seconds: float) -> None:
        """Advance the time, and fire the timers that become due."""
        target = self._now_ms + round(seconds * 1000)
        await self._settle()
        while self._timers and self._timers[0][0] <= target:
            at_ms, number, call = heapq.heappop(self._timers)
            if number in self._taken_back:
                self._taken_back.discard(number)
                continue
            self._now_ms = max(self._now_ms, at_ms)
            call()
            await self._settle()
        self._now_ms = max(self._now_ms, target)
        await self._settle()

    def set(self, now_ms: int) -> None:
        """Set the clock, forwards or back, as an operator might. Due timers fire at the next `advance`."""
        self._now_ms = check_time_ms(now_ms, "VirtualClock.set(…)")

    @staticmethod
    async def _settle() -> None:
        for _ in range(_PASSES):
            await asyncio.sleep(0)
