"""Settling: a clock that a test advances waits until an engine has finished its work before the time goes on."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from beluga_graph.engine.waking import Waker
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.runtime.scheduler import Scheduler

if TYPE_CHECKING:
    from beluga_graph.engine.schedule_firing import ScheduleFiring

__all__ = ["Settling"]

THREAD_S = 1.0  # how long a function in a thread is waited for: it may wait for something that comes later


class Settling:
    """Finds and awaits the work of one engine that ends by itself: commits, woken runs, due schedules, threads.

    Attempts on the event loop are not awaited: an async function may wait for a later time, or for the test itself.
    """

    def __init__(self, scheduler: Scheduler, waker: Waker, firing: ScheduleFiring, pool: DaemonPool) -> None:
        self._firing = firing
        self._scheduler, self._waker, self._pool = scheduler, waker, pool
        self._committed = scheduler.committer.settled
        self._stuck: set[asyncio.Future[Any]] = set()  # calls in threads that were waited for in vain

    async def settle(self) -> bool:
        """Wait for the work under way; return whether there was any since the last call, so that more may follow."""
        committer = self._scheduler.committer
        had_work = committer.is_busy or committer.settled != self._committed or self._waker.has_waking
        had_work |= self._firing.look_early() or self._firing.is_firing
        if committer.is_busy:
            await committer.drain()
        await self._firing.wait_fired()
        await self._waker.wait_woken()
        had_work |= await self._scheduler.wait_renewed()
        had_work |= await self._wait_for_threads()
        self._committed = committer.settled
        return had_work

    async def _wait_for_threads(self) -> bool:
        self._stuck &= self._pool.calls
        awaited = self._pool.calls - self._stuck
        if not awaited:
            return False
        _, pending = await asyncio.wait(awaited, timeout=THREAD_S)
        self._stuck |= pending
        return True
