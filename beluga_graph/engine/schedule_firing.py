"""Firing: engines start the run of each due time of the schedules in their store.

One commit advances a schedule and creates the run, on the condition that the schedule is as it was read. So each due
time gets one run, however many engines look at it, and wherever one of them dies.

An engine fires the schedules of its registered flows: while it serves, and while it is open and knows of one, since it
was created here or found when its flow was registered. The engine sleeps until the next due time. It notices schedules
that other processes create or change when the store poller looks.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TYPE_CHECKING

from beluga_graph.engine import store_poller
from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.requests import EncodedValue, StartRequest
from beluga_graph.engine.schedule_decisions import Decision, decide
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.engine.waking import Waker
from beluga_graph.errors import BelugaError
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.pruning import finish_deletion
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.schedule_records import StoredSchedule, iter_due, iter_queues, read_schedule
from stores.base import Conflict

if TYPE_CHECKING:
    from beluga_graph.engine.admission import Admission

__all__ = ["ScheduleFiring"]

_TRY_AGAIN_S = 2.0  # between two attempts to fire a schedule that could not be fired
_AT_ONCE_MAX = 64  # schedules that are being fired at a time

_log = logging.getLogger("beluga_graph.engine.schedules")


class ScheduleFiring:
    """Fires the schedules of one engine's flows. A schedule is named by the hash of its name, as in keys.

    A task acts on a schedule until nothing of it is due. One timer of the clock is armed, for the due time that comes
    next. `find_plan` returns the plan of a registered flow by its name.
    """

    def __init__(
        self,
        runs: RunRegistry,
        scheduler: Scheduler,
        waker: Waker,
        poller: StorePoller,
        admission: Admission,
        find_plan: Callable[[str], Plan | None],
    ) -> None:
        self._runs, self._scheduler, self._waker, self._poller = runs, scheduler, waker, poller
        self._store, self._admission, self._find_plan = runs.store, admission, find_plan
        self._context = copy_context()  # runs must not inherit the variables of the caller in whose time they are due
        self._known: dict[bytes, StoredSchedule] = {}  # as last read, so that a look decodes only changed records
        self._is_watching = False
        self._seen_flows: set[str] = set()
        self._first_look: asyncio.TimerHandle | None = None  # after a flow was registered
        self._disarm: Callable[[], None] | None = None
        self._firing: dict[bytes, asyncio.Task[None]] = {}
        self._refused: dict[bytes, float] = {}  # schedules that could not be fired, and when to try again
        self._reported: dict[bytes, str] = {}  # the errors of schedules that fail now, which are logged once
        self._closed = False
        runs.on_removed.append(self._on_removed)
        poller.register(self)

    def on_registered(self, flow: str) -> None:
        """Look for schedules of a flow that was registered for the first time, as soon as the poller would.

        An engine that is closed again at once, such as that of a client, thus starts no run that it cannot finish.
        """
        if flow in self._seen_flows or self._closed:
            return
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # without a loop, the next registration looks
            return
        self._seen_flows.add(flow)
        if self._first_look is None:
            self._first_look = loop.call_later(store_poller.INTERVAL_S, self._look_now)

    def look_soon(self) -> None:
        """Look at the schedules after this pass of the event loop, also at those that could not be fired before."""
        self._refused.clear()
        asyncio.get_running_loop().call_soon(self._look_now)

    def look_early(self) -> bool:
        """Look now if a look at the schedules of a new flow is due soon; return whether there was one."""
        if self._first_look is None:
            return False
        self._look_now()
        return True

    async def wait_fired(self) -> None:
        """Wait until no schedule is being fired."""
        while self._firing:
            await asyncio.wait(list(self._firing.values()))

    @property
    def is_firing(self) -> bool:
        """Whether any schedule is being fired now."""
        return bool(self._firing)

    async def close(self) -> None:
        """Stop firing."""
        self._closed = True
        self._cancel_first_look()
        if self._disarm is not None:
            self._disarm()
            self._disarm = None
        await self.wait_fired()

    # Looking.

    @property
    def is_needed(self) -> bool:
        """Whether the store has a schedule of a registered flow."""
        return self._is_watching

    def look(self) -> None:
        """Look at the schedules if this engine serves or knows of one."""
        if self._waker.serving or self._is_watching:
            self._look()

    def _look(self) -> None:
        """Fire the schedules that are due, and arm the timer for the one that is due next."""
        if self._closed or self._waker.is_paused:
            return
        now_s = asyncio.get_running_loop().time()
        self._refused = {schedule: at for schedule, at in self._refused.items() if at > now_s}
        now_ms, next_ms = self._scheduler.clock.now_ms(), None
        for start_ms, schedule in iter_due(self._store):
            stored = self._read_ours(schedule)
            if stored is None or stored.schedule.is_paused or stored.state.start_ms != start_ms:
                continue  # of another engine's flow, or changed meanwhile
            if start_ms > now_ms:
                next_ms = start_ms
                break
            self._fire(schedule)
        for schedule in iter_queues(self._store):
            stored = self._read_ours(schedule)
            if stored is not None and not stored.schedule.is_paused and not self._is_busy(stored):
                self._fire(schedule)
        self._arm(next_ms)
        self._is_watching = bool(self._refused) or any(self._read_ours(schedule) for schedule in list(self._known))

    def on_look_failed(self, error: Exception) -> None:
        """Look again after two seconds: the error may pass, and nothing else would begin to look again."""
        if self._is_watching and not self._closed:
            _log.warning("schedules could not be read and are tried again in 2 s: %s: %s", type(error).__name__, error)
            self._poller.start(_TRY_AGAIN_S)

    def _cancel_first_look(self) -> None:
        if self._first_look is not None:
            self._first_look.cancel()
            self._first_look = None

    def _look_now(self) -> None:
        self._cancel_first_look()
        if self._closed:
            return
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - the store cannot be read: the poller tries again
            self._is_watching = True
            self.on_look_failed(error)
        else:
            if self._is_watching:
                self._poller.start()

    def _arm(self, next_ms: int | None) -> None:
        if self._disarm is not None:
            self._disarm()
            self._disarm = None
        if next_ms is not None:
            self._disarm = self._scheduler.clock.call_at(next_ms, self._look_now)

    def _read_ours(self, schedule: bytes) -> StoredSchedule | None:
        """Return a schedule if this engine has its flow. One whose records are damaged is refused."""
        known = self._known.get(schedule)
        if known is None or any(self._store.get(check.key) != check.expected for check in known.checks):
            self._known.pop(schedule, None)
            try:
                known = read_schedule(self._store, schedule)
            except BelugaError as error:
                self._refuse(schedule, error)
                return None
        if known is None or self._find_plan(known.schedule.flow) is None:
            return None
        self._known[schedule] = known
        return known

    def _is_busy(self, stored: StoredSchedule) -> bool:
        """Return whether the previous run of a schedule has not ended. One that has moved or is deleted has ended.

        One whose record is damaged has ended, too: `verify` reports it, and the schedule goes on.
        """
        if not stored.state.last_run:
            return False
        key = Keys(stored.state.last_run).head
        blob = self._store.get(key)
        if blob is None:
            return False
        try:
            head = RunRecord.decode(key, blob)
        except BelugaError:
            return False
        return not head.moved_to and head.status not in (COMPLETED, FAILED, CANCELLED)

    # Firing.

    def _fire(self, schedule: bytes) -> None:
        """Begin a task that acts on a schedule until nothing of it is due."""
        if schedule in self._firing or schedule in self._refused or len(self._firing) >= _AT_ONCE_MAX:
            return
        if not self._waker.has_room:
            return
        task = asyncio.get_running_loop().create_task(self._act(schedule), context=self._context.copy())
        self._firing[schedule] = task
        task.add_done_callback(partial(self._on_acted, schedule))

    def _on_acted(self, schedule: bytes, _: asyncio.Task[None]) -> None:
        self._firing.pop(schedule, None)
        if not self._firing:
            self._look_now()  # its next due time, and those for which there was no room

    async def _act(self, schedule: bytes) -> None:
        try:
            while not self._closed and not self._waker.is_paused and self._waker.has_room:
                stored = read_schedule(self._store, schedule)
                plan = self._find_plan(stored.schedule.flow) if stored is not None else None
                if stored is None or plan is None or not await self._act_once(stored, plan):
                    self._reported.pop(schedule, None)  # the next outage may have the same error
                    return
        except Exception as error:  # noqa: BLE001 - other schedules go on, and this one is tried again
            self._refuse(schedule, error)

    async def _act_once(self, stored: StoredSchedule, plan: Plan) -> bool:
        """Commit the next change of a schedule; return `False` if nothing is due."""
        queued_ms, now_ms = stored.find_queued(self._store), self._scheduler.clock.now_ms()
        decision = decide(stored, queued_ms, now_ms, is_busy=self._is_busy(stored))
        if decision is None:
            return False
        if decision.start_ms is not None and await self._start(stored, plan, decision):
            return True
        if decision.start_ms is not None and not self._is_taken(decision):
            return True  # another engine was quicker
        error = await self._scheduler.committer.commit([*stored.advance_ops(decision.state), *decision.ops])
        if error is None and decision.notice:
            _log.info("schedule %r: %s", stored.schedule.name, decision.notice)
        if error is not None and not isinstance(error, Conflict):
            raise error
        return True

    async def _start(self, stored: StoredSchedule, plan: Plan, decision: Decision) -> bool:
        """Start the run of a due time in the commit that advances the schedule; return whether that was made."""
        run_id = decision.state.last_run
        await finish_deletion(self._scheduler.committer, run_id)
        request = StartRequest(plan, EncodedValue(stored.schedule.value), None, None)
        try:
            ops = [*stored.advance_ops(decision.state), *decision.ops]
            active = await self._admission.create(run_id, request, ops)
        except BelugaError as error:
            if isinstance(error.__cause__, Conflict):
                return False
            raise
        if active is not None:
            active.done.add_done_callback(lambda _: self._report_stop(active))
        return active is not None

    def _is_taken(self, decision: Decision) -> bool:
        """Return whether a run has the id of a due time already. Then that due time needs no other run."""
        return self._store.get(Keys(decision.state.last_run).head) is not None

    def _refuse(self, schedule: bytes, error: Exception) -> None:
        """Log an error, and leave a schedule alone for a while."""
        if not self._closed and self._reported.get(schedule) != str(error):
            self._reported[schedule] = str(error)
            _log.warning("a schedule was not fired and is tried again in 2 s: %s: %s", type(error).__name__, error)
        self._refused[schedule] = asyncio.get_running_loop().time() + _TRY_AGAIN_S

    def _report_stop(self, active: ActiveRun) -> None:
        """Log the error that stopped a run of a schedule in this engine: no caller waits for the run, to get it."""
        if active.error is not None and not self._closed:
            what = (active.run_id, type(active.error).__name__, active.error)
            _log.warning("run %r of a schedule was stopped, and goes on where it is served or resumed: %s: %s", *what)

    def _on_removed(self, _: ActiveRun) -> None:
        """Look for a start that was queued behind a run of this engine."""
        if self._is_watching and not self._closed and not self._firing:
            asyncio.get_running_loop().call_soon(self._look_now)
