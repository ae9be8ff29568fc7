"""Waking: a parked run continues when it is due, something was sent to it, or there is room for it again.

An engine wakes the runs that it has parked itself or got from `recover`. An engine that serves also wakes all other
runs of its flows and takes over the runs of dead owners.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Awaitable, Callable
from contextvars import copy_context
from functools import partial
from typing import NamedTuple

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.errors import BelugaError, RunBusy
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, RUNNING
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import RELEASED, ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys, Prefix, run_key_of
from beluga_graph.storage.leases import is_driven_elsewhere
from beluga_graph.storage.records import RunRecord, decode_record
from beluga_graph.storage.run_log import RunLog
from stores.base import StoreError

__all__ = ["NEVER_MS", "Waker"]

NEVER_MS = 1 << 62
_TRY_AGAIN_S = 2.0  # between two attempts to wake a run that could not be woken
_WAKING_MAX = 64  # runs that are being woken at a time
_STALE_MAX = 64  # times of runs that are not watched any more, beyond one for each watched run

_log = logging.getLogger("beluga_graph.engine.waking")


class _Due(NamedTuple):
    at_ms: int
    run_key: bytes


class Waker:
    """Wakes the runs that one engine watches or serves, as far as there is room. A `run_key` names a run in keys.

    A run is watched until it is queued and a task begins to wake it. The task resumes the run, or refuses it: a
    refused run is not queued again for two seconds. One timer of the clock is armed, for the watched run due next.

    `find_plan` returns the plan of a registered flow by its name. `continue_run` takes a run over and begins its work,
    but refuses a run that has failed.

    Attributes:
        max_runs: How many runs may have work under way at a time; `None` for no bound.
        serving: Whether this engine wakes all runs of its flows and not only those that it watches.
        is_paused: Whether no run may be woken for now.
    """

    def __init__(
        self,
        runs: RunRegistry,
        scheduler: Scheduler,
        poller: StorePoller,
        find_plan: Callable[[str], Plan | None],
        continue_run: Callable[[str, Plan], Awaitable[ActiveRun]],
    ) -> None:
        self._runs, self._scheduler, self._poller = runs, scheduler, poller
        self._store, self._find_plan, self._continue_run = runs.store, find_plan, continue_run
        self._context = copy_context()  # woken runs must not inherit the variables of the caller that wakes them
        self.max_runs: int | None = None
        self.serving = False
        self.is_paused = False
        self._watched: dict[bytes, int] = {}  # parked runs that this engine wakes, and when they are due
        self._dues: list[_Due] = []  # a heap; may contain runs that are not watched any more
        self._disarm: Callable[[], None] | None = None
        self._queue: dict[bytes, None] = {}  # runs to wake, the oldest request first
        self._waking: dict[bytes, asyncio.Task[None]] = {}
        self._refused: dict[bytes, float] = {}  # runs that could not be woken, and when to try again
        self._closed = False
        runs.on_removed.append(self._on_removed)
        poller.register(self)

    # Watched runs.

    def watch_run(self, run_key: bytes, due_ms: int) -> None:
        """Wake this run when it is due or something is sent to it."""
        self._watched[run_key] = due_ms
        if due_ms < NEVER_MS:
            heapq.heappush(self._dues, _Due(due_ms, run_key))
            if len(self._dues) > 2 * len(self._watched) + _STALE_MAX:
                self._dues = [_Due(at_ms, watched) for watched, at_ms in self._watched.items() if at_ms < NEVER_MS]
                heapq.heapify(self._dues)
            self._arm()
        self._poller.start()

    def unwatch_run(self, run_id: str) -> None:
        """Do not wake this run any more."""
        run_key = Keys(run_id).run_key
        self._watched.pop(run_key, None)
        self._queue.pop(run_key, None)

    def is_watched(self, run_key: bytes) -> bool:
        """Return whether this engine wakes this run when it is due or something is sent to it."""
        return run_key in self._watched

    async def recover_run(self, head: RunRecord, plan: Plan, key: bytes) -> None:
        """Resume an unfinished run now, or watch it so that it is woken later.

        `key` is its entry in the index of open or parked runs. Raises the errors of `continue_run`.
        """
        run_key = run_key_of(key)
        if self._runs.current(head.run_id) is not None:
            return
        if key[:1] == Prefix.PARKED and head.plan == plan.fingerprint:
            parked = self._store.get(key)
            if parked is not None:
                self.watch_run(run_key, decode_record(key, parked))
                return
        if self.max_runs is None or self._count_running() + len(self._waking) < self.max_runs:
            await self._continue_run(head.run_id, plan)
            return
        if is_driven_elsewhere(self._store, run_key, self._scheduler.owner):
            raise RunBusy(head.run_id, "another owner drives it")
        self.watch_run(run_key, 0)

    def _arm(self) -> None:
        """Set a timer for the watched run that is due next."""
        while self._dues and self._watched.get(self._dues[0].run_key) != self._dues[0].at_ms:
            heapq.heappop(self._dues)
        if self._disarm is not None:
            self._disarm()
            self._disarm = None
        if self._dues and not self._closed:
            self._disarm = self._scheduler.clock.call_at(self._dues[0].at_ms, self._on_due)

    def _on_due(self) -> None:
        self._disarm = None
        now = self._scheduler.clock.now_ms()
        while self._dues and self._dues[0].at_ms <= now:
            due = heapq.heappop(self._dues)
            if self._watched.get(due.run_key) == due.at_ms:
                self._refused.pop(due.run_key, None)  # its own time has come, even if it was refused before
                self.enqueue(due.run_key)
        self._arm()
        self.wake_next()

    # Called by the poller.

    @property
    def is_needed(self) -> bool:
        """Whether a run is watched or waits for room."""
        return bool(self._watched or self._queue)

    def look(self) -> None:
        """Forget old refusals. The reader of wakeup records looks next, and wakes queued runs after that."""
        now_s = asyncio.get_running_loop().time()
        self._refused = {run_key: at for run_key, at in self._refused.items() if at > now_s}

    def on_look_failed(self, error: Exception) -> None:
        """Do nothing: watched runs stay watched."""

    # Waking.

    def start_serving(self) -> None:
        """Wake also the runs that this engine does not watch."""
        self.serving = True
        self._refused.clear()
        self._poller.start()

    def stop_serving(self) -> None:
        """Wake only the runs that this engine watches."""
        self.serving = False
        self._refused.clear()
        self._queue = {run_key: None for run_key in self._queue if run_key in self._watched}

    def enqueue(self, run_key: bytes) -> None:
        """Wake this run as soon as there is room, unless it could not be woken a moment ago."""
        if run_key not in self._waking and run_key not in self._refused:
            self._queue[run_key] = None
            self._poller.start()

    def wake_next(self) -> None:
        """Wake queued runs, the oldest request first, as far as there is room."""
        if not self._queue or self._closed or self.is_paused:
            return
        room = _WAKING_MAX if self.max_runs is None else min(_WAKING_MAX, self.max_runs - self._count_running())
        while self._queue and len(self._waking) < room:
            run_key = next(iter(self._queue))
            del self._queue[run_key]
            watched = self._watched.pop(run_key, None) is not None
            wake = self._wake(run_key, watched=watched)
            task = self._waking[run_key] = asyncio.get_running_loop().create_task(wake, context=self._context.copy())
            task.add_done_callback(partial(self._on_woken, run_key))

    def is_queued(self, run_key: bytes) -> bool:
        """Return whether this run waits until there is room to wake it."""
        return run_key in self._queue

    @property
    def has_room(self) -> bool:
        """Whether one more run may have work under way."""
        return self.max_runs is None or self._count_running() + len(self._waking) < self.max_runs

    def is_waking(self, run_key: bytes) -> bool:
        """Return whether a task is waking this run now."""
        return run_key in self._waking

    @property
    def has_waking(self) -> bool:
        """Whether any run is being woken now."""
        return bool(self._waking)

    async def wait_woken(self) -> None:
        """Wait until each run that is being woken is active or was refused."""
        if self._waking:
            await asyncio.wait(list(self._waking.values()))

    async def close(self) -> None:
        """Stop waking runs."""
        self._closed = True
        if self._disarm is not None:
            self._disarm()
        await self.wait_woken()

    def _count_running(self) -> int:
        return sum(active.snapshot.status == RUNNING for active in self._runs.actives.values())

    def _on_woken(self, run_key: bytes, _: asyncio.Task[None]) -> None:
        self._waking.pop(run_key, None)
        self.wake_next()

    async def _wake(self, run_key: bytes, *, watched: bool) -> None:
        """Resume a run. If that fails, notify its followers, log the error, or try again later."""
        key = Prefix.RUN + run_key
        blob = self._store.get(key)
        if blob is None:
            return
        run_id = run_key.hex()
        try:
            head = RunRecord.decode(key, blob)
            run_id = head.run_id
            plan = self._find_plan(head.flow)
            if head.moved_to or head.status in (COMPLETED, FAILED, CANCELLED):
                self._scheduler.committer.give(RunLog(self._store, run_id).clear_wakeup_ops())
            elif plan is None or self._runs.current(run_id) is not None:
                self._refuse(run_key)
            else:
                await self._continue_run(run_id, plan)
        except RunBusy:  # another owner was quicker
            self._refuse(run_key, try_again=watched)  # it may die, or park the run
        except (BelugaError, StoreError) as error:
            self._refuse(run_key, try_again=watched and isinstance(error, StoreError))  # a store's error may pass
            if not self._closed:
                _log.warning("a parked run was not woken: %s", error)
                self._runs.followers(run_id).fail(error)

    def _refuse(self, run_key: bytes, *, try_again: bool = False) -> None:
        """Do not wake a run for a while. With `try_again`, watch it and wake it after that."""
        self._refused[run_key] = asyncio.get_running_loop().time() + _TRY_AGAIN_S
        if try_again:
            self.watch_run(run_key, self._scheduler.clock.now_ms() + round(_TRY_AGAIN_S * 1000))

    def _on_removed(self, active: ActiveRun) -> None:
        """Use the room that a run leaves."""
        if active.state != RELEASED:
            self._watched.pop(active.log.keys.run_key, None)
        if self._queue:
            asyncio.get_running_loop().call_soon(self.wake_next)
