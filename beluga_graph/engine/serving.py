"""Serving: an engine that drives whatever its flows need, until it is told to stop, and then loses nothing."""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from beluga_graph.engine.parking import Parking
from beluga_graph.runtime.scheduler import Scheduler

__all__ = ["served"]

_STOPPING = (signal.SIGTERM, signal.SIGINT)


async def served(scheduler: Scheduler, parking: Parking, grace_s: float) -> None:
    """Take up every run that needs it until the process is told to stop; then finish or hand back."""
    stop = asyncio.Event()
    with _told(stop.set):
        parking.serving = True
        try:
            await stop.wait()
        finally:
            parking.serving = False
        parking.holds_back = True
        try:
            await parking.woken()  # or it would be left running
            await _handed_back(scheduler, grace_s)
        finally:
            parking.holds_back = False


async def _handed_back(scheduler: Scheduler, grace_s: float) -> None:
    """Begin nothing more, let attempts finish for a while, and give every lease back."""
    lives = [live for live in scheduler.lives.values() if not live.done.done()]
    for live in lives:
        live.resting = True
    tasks = [hand.task for live in lives for hand in live.hands.values()]
    if tasks:
        await asyncio.wait(tasks, timeout=grace_s)
    for live in lives:
        await scheduler.rest(live)


@contextmanager
def _told(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the process is asked to end. Only the main thread can be asked."""
    loop = asyncio.get_running_loop()
    asked = _STOPPING if threading.current_thread() is threading.main_thread() else ()
    for number in asked:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in asked:
            loop.remove_signal_handler(number)
