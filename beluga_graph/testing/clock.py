"""A clock for tests: time passes only when the test advances it, and then at once."""

from __future__ import annotations

import asyncio
import heapq
import itertools
from collections.abc import Callable

from beluga_graph.clock import Settle, check_time_ms
from beluga_graph.policy import SECONDS_MAX

__all__ = ["VirtualClock"]

_PASSES = 50  # turns of the event loop after each timer, before the work of engines is awaited


class VirtualClock:
    """A `Clock` for `Engine(clock=…)`.

    `await clock.advance(seconds)` fires every timer that becomes due, each at its own time and in order. Before the
    time goes on, and before `advance` returns, the work at that time ends: nodes run, and their steps are stored. A
    sync function is awaited for a second of real time at most. An async one that waits for something else, such as
    an answer from a network, is not awaited.

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
        self._settles: dict[int, Settle] = {}

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

    def attach(self, settle: Settle) -> Callable[[], None]:
        """Await `settle` before the time goes on, until it returns `False`. The returned function takes this back.

        Every engine with this clock attaches itself until it is closed.
        """
        number = next(self._numbers)
        self._settles[number] = settle

        def detach() -> None:
            self._settles.pop(number, None)

        return detach

    async def advance(self, seconds: float) -> None:
        """Advance the time, and fire the timers that become due.

        Raises `TypeError` unless `seconds` is a number, and `ValueError` if it is negative or more than a hundred
        years. `set` sets the clock back.
        """
        target = self._now_ms + round(_check_seconds(seconds) * 1000)
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

    async def _settle(self) -> None:
        """Let the event loop run until no engine has work that ends by itself."""
        had_work = True
        while had_work:
            for _ in range(_PASSES):
                await asyncio.sleep(0)
            had_work = False
            for settle in tuple(self._settles.values()):
                had_work |= await settle()


def _check_seconds(seconds: float) -> float:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        msg = f"advance({seconds!r:.100}): give a number of seconds"
        raise TypeError(msg)
    if not 0 <= seconds <= SECONDS_MAX:
        msg = f"advance({seconds!r:.100}): give seconds from 0 to a hundred years; set(now_ms) sets the clock back"
        raise ValueError(msg)
    return seconds
