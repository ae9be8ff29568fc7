"""Parking: a run that waits costs no task and no memory, and is woken when something happens to it.

A run with nothing to do but wait gives its lease back: only its records remain, and its name in the engine that
had it. A timer that comes due wakes it, a sender that rings its doorbell, or a resume. Waking it takes the lease.

An engine wakes the runs that it has parked itself, or taken up by `recover`. One that serves wakes all runs
of the flows that it knows, and takes over what dead owners left.
"""

from __future__ import annotations

import asyncio
import heapq
import logging
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import NamedTuple

from beluga_graph.engine.admission import Admission
from beluga_graph.engine.followers import Followers
from beluga_graph.engine.note import Note
from beluga_graph.errors import BelugaError, RunBusy, RunError
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, RUNNING, WAITING
from beluga_graph.kernel.triggers import CancelRequested
from beluga_graph.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.keys import Keys, Prefix, run_of
from beluga_graph.storage.records import RunRecord, encode_record
from beluga_graph.storage.run_index import abandoned, overdue
from beluga_graph.storage.run_log import History, last_seq
from stores.base import Check, Conflict, Delete, Put, StoreError

__all__ = ["NEVER_MS", "Parking"]

NEVER_MS = 1 << 62
_LOOK_S = 0.08  # between two looks for what other processes did
_SOON_MS = 1_000  # a run that is due within this is not worth parking
_TRY_AGAIN_S = 2.0  # between two tries to take up what others have, or left
_WAKING_MOST = 64  # at a time

_log = logging.getLogger("beluga_graph.engine.parking")


class _Due(NamedTuple):
    at_ms: int
    run: bytes


class Parking:
    """The runs of one engine that wait, and those who wait for them."""

    def __init__(self, runs: Admission, plan_of: Callable[[RunRecord], Plan | None]) -> None:
        self._runs = runs
        self._context = copy_context()  # not that of whoever happens to make a run wake
        self._store, self._scheduler = runs.store, runs.scheduler
        self._plan_of = plan_of
        self.max_runs: int | None = None
        self._mine: dict[bytes, int] = {}  # parked runs that this engine wakes, by key: when they are due
        self._dues: list[_Due] = []  # a heap; of runs that are mine no more, some are left in it
        self._disarm: Callable[[], None] | None = None
        self._followed: set[Followers] = set()
        self._wanted: dict[bytes, None] = {}  # to be woken, the oldest first
        self._waking: dict[bytes, asyncio.Task[None]] = {}
        self._refused: dict[bytes, float] = {}  # runs that could not be taken up, and when to try again
        self._looking: asyncio.TimerHandle | None = None
        self._serving = False
        self._left_at = 0.0  # when to look again for what dead owners left
        self._closed = False
        self.holds_back = False  # for a while, nothing is woken
        runs.scheduler.on_driven = self.keep_looking
        runs.on_gone.append(self._gone)

    # What is known of parked runs.

    def adopt(self, run: bytes, due_ms: int) -> None:
        """Wake a run from now on when it is due, or something is sent to it."""
        self._mine[run] = due_ms
        if due_ms < NEVER_MS:
            heapq.heappush(self._dues, _Due(due_ms, run))
            self._arm()
        self.keep_looking()

    def disown(self, run_id: str) -> None:
        """Wake a run no more."""
        run = Keys(run_id).run
        self._mine.pop(run, None)
        self._wanted.pop(run, None)

    def rung(self, live: ActiveRun | None, run_id: str, signal: str) -> None:
        """Look at once for a signal that this engine has just accepted."""
        keys = Keys(run_id)
        if live is not None and not live.resting:
            bell = keys.signal_wakeup(signal)
            if (ring := self._store.get(bell)) is not None:
                self._silence(bell, ring)
            self._scheduler.inbox.look_for(live, signal)
        elif keys.run in self._mine:
            self._want(keys.run)
            self._pump()
        elif (
            live is None
            and keys.run not in self._waking
            and self._runs.head(run_id).status in (COMPLETED, CANCELLED)  # it ended meanwhile
        ):
            self._scheduler.committer.give(History(self._store, run_id).silenced())

    def watch(self, seat: Followers, watch: Watcher, plan: Plan) -> tuple[Plan, History]:
        """Show a watch all that is committed from now on; return what reads the steps before."""
        live = self._runs.latest(seat, plan)
        if live is not None:
            live.attach(watch)
            return live.plan, live.history
        watch.since = last_seq(self._store, seat.run_id)
        if self._closed:
            watch.close()
        else:
            seat.watches.append(watch)
            self.follow(seat)
        return plan, History(self._store, seat.run_id)

    def follow(self, seat: Followers) -> None:
        """See to it that those who wait for a run that is not live here are told of what happens to it."""
        self._followed.add(seat)
        self.keep_looking()

    async def ended(self, seat: Followers, plan: Plan) -> ActiveRun:
        """Wait until a run has ended, here or elsewhere, or is stopped here; return it as it is then."""
        while True:
            live = self._runs.latest(seat, plan)
            if live is not None:
                await asyncio.shield(live.done)
                if not live.parted:
                    return live
                seat.left()
                continue
            if self._closed:
                raise RunError(seat.run_id, "the engine is closed: make a new one on the same store")
            self.follow(seat)
            await seat.turn()

    # Looking.

    def keep_looking(self, pause_s: float | None = None) -> None:
        """Look now and then, as long as a run is driven or followed: another process may send to it."""
        if self._looking is None and not self._closed:
            self._looking = asyncio.get_running_loop().call_later(pause_s or _LOOK_S, self._look)

    def _look(self) -> None:
        self._looking = None
        self._refused = {run: at for run, at in self._refused.items() if at > asyncio.get_running_loop().time()}
        try:
            self._park_idle()
            self._answer_bells()
            self._follow_seats()
            if self._serving:
                self._look_for_work()
            self._pump()
        except Exception as error:  # noqa: BLE001 - the store is gone: everybody who waits is told
            self._tell_all(error)
            if self._serving:  # it may pass, and nobody else would begin to look again
                _log.warning("serving looks again in a while: %s: %s", type(error).__name__, error)
                self.keep_looking(_TRY_AGAIN_S)
            return
        if self._runs.lives or self._mine or self._followed or self._wanted or self._serving:
            self.keep_looking()

    def _tell_all(self, error: Exception) -> None:
        for live in list(self._runs.lives.values()):
            if live.snapshot.status == WAITING:
                self._scheduler.abandon(live, error)
        for seat in self._followed:
            seat.failed(error)
        self._followed.clear()

    def _park_idle(self) -> None:
        """Park the runs that have had nothing to do since the last look."""
        for live in list(self._runs.lives.values()):
            run = live.snapshot
            if run.status != WAITING or live.done.done() or live.resting:
                continue
            if live.idle != run.seq or live.committed != run.seq or live.hands:
                live.idle = run.seq
                continue
            due = min(run.timers.values(), default=NEVER_MS)
            if due > self._scheduler.clock.now_ms() + _SOON_MS:
                self._park(live, due)

    def _park(self, live: ActiveRun, due: int) -> None:
        """Give the lease back, unless something was sent meanwhile that the run waits for."""
        run, keys = live.snapshot, live.history.keys
        live.resting = True
        live.stop_work()
        ops = [*live.freed(), Check(keys.cancel, None)]
        ops += [Check(keys.signal(name, run.inbox.get(name, 0)), None) for name in run.waits]
        ops += [Delete(keys.open), Put(keys.parked, encode_record(keys.parked, due))]
        self._scheduler.committer.put(Note(self, live, ops, due))

    def parked(self, live: ActiveRun, due: int) -> None:
        """A run's lease was given back: only its name is left here."""
        live.part()
        self.adopt(live.history.keys.run, due)

    def kept(self, live: ActiveRun, error: Exception) -> None:
        """A run could not be parked: something was sent to it, or it was lost to another owner."""
        if not isinstance(error, Conflict):
            self._scheduler.refused(live, error)
            return
        self._scheduler.let_go(live)
        self.adopt(live.history.keys.run, 0)

    def _answer_bells(self) -> None:
        lives: dict[bytes, ActiveRun] | None = None
        for key, ring in self._store.scan(Prefix.WAKEUP):
            run = run_of(key)
            if lives is None:
                lives = {live.history.keys.run: live for live in self._runs.lives.values()}
            live = lives.get(run)
            if live is None:
                if self._serving or run in self._mine:
                    self._want(run)
            elif live.lease.owner and not live.resting and not live.done.done():  # else it is about to be over
                self._silence(key, ring)
                self._look_behind(live, key)

    def _silence(self, bell: bytes, ring: bytes) -> None:
        """Take away a ring before what it was for is looked for; one that comes meanwhile stays."""
        self._scheduler.committer.give([Check(bell, ring), Delete(bell)])

    def _look_behind(self, live: ActiveRun, bell: bytes) -> None:
        if bell != live.history.keys.wakeup:
            self._scheduler.inbox.look_behind(live, bell)
        elif self._store.get(live.history.keys.cancel) is not None:
            self._scheduler.decide(live, CancelRequested(self._scheduler.clock.now_ms()))
        else:
            self._scheduler.inbox.look_for_all(live)

    def _follow_seats(self) -> None:
        for seat in list(self._followed):
            if not seat.awaited:
                self._followed.discard(seat)
                continue
            try:
                self._follow(seat)
            except (BelugaError, StoreError) as error:
                self._followed.discard(seat)
                seat.failed(error)

    def _follow(self, seat: Followers) -> None:
        """Show the watchers of a run what other owners have committed; tell those who wait that it has ended."""
        head = self._runs.head(seat.run_id)
        plan = self._plan_of(head)
        assert plan is not None  # a handle was given out, so its flow is known
        last = last_seq(self._store, seat.run_id) if seat.watches else 0
        for watch in seat.watches:
            watch.skip(last)
        if head.status in (COMPLETED, FAILED, CANCELLED):
            live = self._runs.latest(seat, plan)
            if live is not None:
                seat.turned(live)

    # Serving.

    @property
    def serving(self) -> bool:
        """Whether this engine wakes all runs of its flows, not its own alone."""
        return self._serving

    @serving.setter
    def serving(self, serving: bool) -> None:
        self._serving, self._left_at = serving, 0.0
        self._refused.clear()
        self._wanted = {run: None for run in self._wanted if serving or run in self._mine}
        if serving:
            self.keep_looking()

    def _look_for_work(self) -> None:
        """Want what is due, and, now and then, what dead owners left."""
        for run in overdue(self._store, self._scheduler.clock.now_ms()):
            self._want(run)
        now_s = asyncio.get_running_loop().time()
        if now_s < self._left_at:
            return
        self._left_at = now_s + _TRY_AGAIN_S
        driven = {live.history.keys.run for live in self._runs.lives.values()}
        for run in abandoned(self._store, self._runs.owner, driven):
            self._want(run)

    # Waking.

    def _arm(self) -> None:
        """Be called when the next of the own runs is due."""
        while self._dues and self._mine.get(self._dues[0].run) != self._dues[0].at_ms:
            heapq.heappop(self._dues)
        if self._disarm is not None:
            self._disarm()
            self._disarm = None
        if self._dues and not self._closed:
            self._disarm = self._scheduler.clock.call_at(self._dues[0].at_ms, self._fire)

    def _fire(self) -> None:
        self._disarm = None
        now = self._scheduler.clock.now_ms()
        while self._dues and self._dues[0].at_ms <= now:
            due = heapq.heappop(self._dues)
            if self._mine.get(due.run) == due.at_ms:
                self._refused.pop(due.run, None)  # its own time has come, also if it was refused before
                self._want(due.run)
        self._arm()
        self._pump()

    def _want(self, run: bytes) -> None:
        if run not in self._waking and run not in self._refused:
            self._wanted[run] = None
            self.keep_looking()

    @property
    def has_room(self) -> bool:
        """Whether one more run may have work under way."""
        return self.max_runs is None or self._running() + len(self._waking) < self.max_runs

    def _running(self) -> int:
        return sum(live.snapshot.status == RUNNING for live in self._runs.lives.values())

    def _pump(self) -> None:
        """Wake what is wanted, as far as there is room."""
        if not self._wanted or self._closed or self.holds_back:
            return
        room = _WAKING_MOST if self.max_runs is None else min(_WAKING_MOST, self.max_runs - self._running())
        while self._wanted and len(self._waking) < room:
            run = next(iter(self._wanted))
            del self._wanted[run]
            mine = self._mine.pop(run, None) is not None
            wake = asyncio.get_running_loop().create_task(self._wake(run, mine=mine), context=self._context.copy())
            task = self._waking[run] = wake
            task.add_done_callback(partial(self._woken, run))

    def _woken(self, run: bytes, _: asyncio.Task[None]) -> None:
        self._waking.pop(run, None)
        self._pump()

    async def _wake(self, run: bytes, *, mine: bool) -> None:
        """Take a run up again. What keeps it from that is told to those who wait for it, or to the log."""
        key = Prefix.RUN + run
        blob = self._store.get(key)
        if blob is None:
            return
        run_id = run.hex()
        try:
            head = RunRecord.decode(key, blob)
            run_id = head.run_id
            plan = self._plan_of(head)
            if head.status in (COMPLETED, FAILED, CANCELLED):
                self._scheduler.committer.give(History(self._store, run_id).silenced())
            elif plan is None or self._runs.current(run_id) is not None:
                self._later(run)
            else:
                await self._runs.resume(run_id, plan, revive=False)
        except RunBusy:  # another owner was quicker
            self._later(run, again=mine)  # it may die, or park the run and go
        except (BelugaError, StoreError) as error:
            self._later(run, again=mine and isinstance(error, StoreError))  # which may pass
            if not self._closed:
                _log.warning("a parked run was not woken: %s", error)
                self._runs.seat(run_id).failed(error)

    def _later(self, run: bytes, *, again: bool = False) -> None:
        self._refused[run] = asyncio.get_running_loop().time() + _TRY_AGAIN_S
        if again:
            self.adopt(run, self._scheduler.clock.now_ms() + round(_TRY_AGAIN_S * 1000))

    def _gone(self, live: ActiveRun) -> None:
        """A run is not driven here any more: there is room for another."""
        if not live.parted:
            self._mine.pop(live.history.keys.run, None)
        else:
            seat = self._runs.seat(live.run_id)
            if seat.awaited:
                self.follow(seat)
        if self._wanted:
            asyncio.get_running_loop().call_soon(self._pump)

    async def woken(self) -> None:
        """Return once what is just being woken is here, or was refused."""
        if self._waking:
            await asyncio.wait(list(self._waking.values()))

    async def close(self) -> None:
        """Look and wake no more."""
        self._closed = True
        if self._looking is not None:
            self._looking.cancel()
        if self._disarm is not None:
            self._disarm()
        await self.woken()
        error = "the engine was closed before the run's end: make a new one on the same store"
        for seat in self._followed:
            seat.failed(RunError(seat.run_id, error))
        self._followed.clear()
