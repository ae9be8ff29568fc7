"""Serving: an engine drives every run of its flows that needs work, until it is stopped, and then loses nothing."""

from __future__ import annotations

import asyncio
import logging
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.engine.waking import Waker
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.run_index import iter_abandoned, iter_overdue

if TYPE_CHECKING:
    from beluga_graph.engine.schedule_firing import ScheduleFiring

__all__ = ["Serving"]

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_TRY_AGAIN_S = 2.0  # between two looks for the runs of dead owners, and after the store could not be read

_log = logging.getLogger("beluga_graph.engine.serving")


class Serving:
    """Finds the runs in a store that need work, and has them woken while `serve` is under way."""

    def __init__(
        self, runs: RunRegistry, scheduler: Scheduler, waker: Waker, poller: StorePoller, firing: ScheduleFiring
    ) -> None:
        self._firing = firing
        self._runs, self._scheduler, self._waker, self._poller = runs, scheduler, waker, poller
        self._look_for_abandoned_at = 0.0
        poller.register(self)

    async def serve(self, grace_s: float) -> None:
        """Wake every run that needs work until the process is asked to stop; then finish work or release the runs."""
        stop = asyncio.Event()
        with _stop_signals(stop.set):
            self._look_for_abandoned_at = 0.0
            self._waker.start_serving()
            try:
                await stop.wait()
            finally:
                self._waker.stop_serving()
            self._waker.is_paused = True
            try:
                await self._firing.wait_fired()
                await self._waker.wait_woken()  # a run that is woken later would not be released
                await self._release_all(grace_s)
            finally:
                self._waker.is_paused = False

    async def _release_all(self, grace_s: float) -> None:
        """Begin nothing more, give the attempts under way time to finish, and give every lease back."""
        actives = [active for active in self._runs.actives.values() if not active.is_over]
        for active in actives:
            active.halt()
        tasks = [task.task for active in actives for task in active.tasks.values()]
        try:
            if tasks:
                await asyncio.wait(tasks, timeout=grace_s)
        finally:  # also if the caller is cancelled: halted runs would keep their leases
            for active in actives:
                await self._scheduler.stop(active)

    # Called by the poller.

    @property
    def is_needed(self) -> bool:
        """Whether this engine serves."""
        return self._waker.serving

    def look(self) -> None:
        """Wake the runs with an overdue timer and, every two seconds, those of dead owners."""
        if not self._waker.serving:
            return
        for run_key in iter_overdue(self._runs.store, self._scheduler.clock.now_ms()):
            self._waker.enqueue(run_key)
        now_s = asyncio.get_running_loop().time()
        if now_s >= self._look_for_abandoned_at:
            self._look_for_abandoned_at = now_s + _TRY_AGAIN_S
            driven = {active.log.keys.run_key for active in self._runs.actives.values()}
            for run_key in iter_abandoned(self._runs.store, self._scheduler.owner, driven):
                self._waker.enqueue(run_key)
        self._waker.wake_next()

    def on_look_failed(self, error: Exception) -> None:
        """Look again after two seconds: the error may pass, and nothing else would begin to look again."""
        if self._waker.serving:
            _log.warning("serving could not read the store and tries again in 2 s: %s: %s", type(error).__name__, error)
            self._poller.start(_TRY_AGAIN_S)


@contextmanager
def _stop_signals(stop: Callable[[], None]) -> Iterator[None]:
    """Call `stop` when the process gets SIGTERM or SIGINT. Only the main thread can handle signals."""
    loop = asyncio.get_running_loop()
    numbers = _STOP_SIGNALS if threading.current_thread() is threading.main_thread() else ()
    for number in numbers:
        loop.add_signal_handler(number, stop)
    try:
        yield
    finally:
        for number in numbers:
            loop.remove_signal_handler(number)
