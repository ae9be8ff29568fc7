"""Clocks: the engine's two uses of time, in an interface that tests can replace."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Protocol, TypeAlias, runtime_checkable

__all__ = ["Clock", "Settle", "SteppedClock", "SystemClock", "check_clock", "check_time_ms"]

_RECHECK_S = 30.0  # the wall clock may jump, so a long sleep reads it again at this interval


class Clock(Protocol):
    """A source of times that can also wait for one. `testing.VirtualClock` implements it for tests."""

    def now_ms(self) -> int:
        """Return the time in milliseconds since the epoch."""
        ...

    def call_at(self, at_ms: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` once, at or after `at_ms`, on the running loop; return a function that cancels the call."""
        ...


Settle: TypeAlias = Callable[[], Awaitable[bool]]
"""Waits for work that ends by itself, without the clock; returns whether there was any since the last call."""


@runtime_checkable
class SteppedClock(Clock, Protocol):
    """A clock whose time goes on in steps, each once the work at the time before has ended."""

    def attach(self, settle: Settle) -> Callable[[], None]:
        """Await `settle` before each step until it returns `False`; return a function that takes this back."""
        ...


class SystemClock:
    """The wall clock. It never calls early, even if the clock is set back in the meantime."""

    def now_ms(self) -> int:
        """Return the time of the wall clock in milliseconds since the epoch."""
        return time.time_ns() // 1_000_000

    def call_at(self, at_ms: int, call: Callable[[], None]) -> Callable[[], None]:
        """Call `call` when the wall clock reaches `at_ms`; return a function that cancels the call.

        A jump of the clock is noticed within 30 seconds.
        """
        loop = asyncio.get_running_loop()
        handle: asyncio.TimerHandle | None = None

        def check() -> None:
            nonlocal handle
            left = (at_ms - self.now_ms()) / 1000
            if left <= 0:
                call()
            else:
                handle = loop.call_later(min(left, _RECHECK_S), check)

        def cancel() -> None:
            if handle is not None:
                handle.cancel()

        handle = loop.call_later(max(0.0, min((at_ms - self.now_ms()) / 1000, _RECHECK_S)), check)
        return cancel


def check_clock(clock: Clock | None) -> Clock:
    """Return the clock, or the wall clock for `None`. Raises `TypeError` or `ValueError` as `check_time_ms` does."""
    if clock is None:
        return SystemClock()
    check_time_ms(clock.now_ms(), f"the clock {clock!r:.100}")
    return clock


def check_time_ms(now_ms: int, where: str) -> int:
    """Return a clock's time if it can be stored: times are part of steps and keys.

    Raises `TypeError` if it is not an `int`, `ValueError` for a time before 1970. `where` names the clock in the error.
    """
    if type(now_ms) is not int:
        msg = f"{where} says {now_ms!r:.100}; give milliseconds since the epoch, as an int"
        raise TypeError(msg)
    if now_ms < 0:
        msg = f"{where} says {now_ms}; give milliseconds since the epoch, from 0 on"
        raise ValueError(msg)
    return now_ms
