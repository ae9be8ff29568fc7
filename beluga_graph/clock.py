"""Time as the engine sees it: two verbs, so that a test can own them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

__all__ = ["Clock", "SystemClock", "checked_clock", "checked_ms"]

_LOOK_AGAIN_S = 30.0  # the wall clock may jump, so a long sleep looks at it again


class Clock(Protocol):
    """Where times come from and how one waits for them. `testing.VirtualClock` is its twin."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        ...

    def call_at(self, at_ms: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call once, at or after `at_ms`, on the running loop; the returned function takes that back."""
        ...


class SystemClock:
    """The wall clock. Never calls early, also if the clock is set back meanwhile."""

    def now_ms(self) -> int:
        """Return the wall clock's time."""
        return time.time_ns() // 1_000_000

    def call_at(self, at_ms: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call at `at_ms` of the wall clock; a jump of the clock is noticed within 30 seconds."""
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle | None = None

        def look() -> None:
            nonlocal handle
            left = (at_ms - self.now_ms()) / 1000
            if left <= 0:
                call()
            else:
                handle = loop.call_later(min(left, _LOOK_AGAIN_S), look)

        def take_back() -> None:
            if handle is not None:
                handle.cancel()

        handle = loop.call_later(max(0.0, min((at_ms - self.now_ms()) / 1000, _LOOK_AGAIN_S)), look)
        return take_back


def checked_clock(clock: Clock | None) -> Clock:
    """Return a clock to go by, the wall clock for none. Raises `TypeError` or `ValueError` as `checked_ms` does."""
    if clock is None:
        return SystemClock()
    checked_ms(clock.now_ms(), f"the clock {clock!r:.100}")
    return clock


def checked_ms(now_ms: int, where: str) -> int:
    """Return a time of a clock. It is stored with each step, and is part of keys.

    Raises `TypeError` for what is no whole number of milliseconds, `ValueError` for a time before 1970.
    """
    if type(now_ms) is not int:
        msg = f"{where} says {now_ms!r:.100}; give milliseconds since the epoch, as an int"
        raise TypeError(msg)
    if now_ms < 0:
        msg = f"{where} says {now_ms}; give milliseconds since the epoch, from 0 on"
        raise ValueError(msg)
    return now_ms
