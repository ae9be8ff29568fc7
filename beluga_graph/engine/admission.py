"""Admission: how a run comes into an engine. It is created, attached to, continued or taken over.

Whatever way, the right to advance it is taken in the same commit that says so, and nothing runs before.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable, Sequence
from typing import TypeAlias

from beluga_graph.engine.followers import Followers
from beluga_graph.engine.requests import StartRequest, check_same, put_away
from beluga_graph.engine.takeover import Held, free_lease, take, what_to_say, why_not_begun
from beluga_graph.errors import GraphChanged, RunConflict, RunError
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, Snapshot
from beluga_graph.kernel.triggers import CancelRequested, RunStarted, Trigger
from beluga_graph.kernel.types import Renames
from beluga_graph.plan import Plan
from beluga_graph.plan.diff import differences
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Lease, Owner
from beluga_graph.storage.records import PRESENT, RunRecord
from beluga_graph.storage.run_log import History, check_nodes, one_look, read_head, rebuild, shape_op
from beluga_graph.storage.sessions import begin_ops, open_session
from stores.base import Check, Conflict, Op, Put, Store

__all__ = ["Admission"]


Forked: TypeAlias = tuple[Snapshot, History, list[Op], Trigger]


class Admission:
    """The runs that an engine drives, by id."""

    def __init__(self, store: Store, scheduler: Scheduler, owner: Owner) -> None:
        self.store = store
        self.scheduler = scheduler
        self.owner = owner
        self.lives = scheduler.lives
        self.closed = False  # by the engine: nothing is begun any more
        self.on_gone: list[Callable[[ActiveRun], None]] = []  # called when a run is not driven here any more
        self._shapes: set[str] = set()  # fingerprints known to be stored
        self._seats: weakref.WeakValueDictionary[str, Followers] = weakref.WeakValueDictionary()
        self._doors: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def current(self, run_id: str) -> ActiveRun | None:
        """Return the run if this engine drives it now."""
        live = self.lives.get(run_id)
        return live if live is not None and not live.done.done() else None

    def seat(self, run_id: str, live: ActiveRun | None = None) -> Followers:
        """Return where the handles of a run find it; `live` is what is known of it, if it is no longer driven."""
        found = self._seats.get(run_id)
        if found is None:
            found = self._seats[run_id] = Followers(run_id)
        current = self.current(run_id)
        if current is not None or live is not None:
            found.live = current or live
        return found

    def is_held(self, run_id: str) -> bool:
        """Tell whether a handle of the run is in use, or the run is driven here."""
        return run_id in self._seats or run_id in self.lives

    def latest(self, seat: Followers, plan: Plan) -> ActiveRun | None:
        """Return the run if this engine drives it now, else as it ended; `None` if it goes on, but not here."""
        live, known = self.current(seat.run_id), seat.live
        if live is not None:
            seat.live = live
            return live
        if known is not None and known.parted:  # let go of, just now
            seat.left()
            known = None
        if known is not None:
            if not known.done.done() or (known.snapshot.ended and known.error is None):
                return known
            plan = known.plan
        elif self.head(seat.run_id).status not in (COMPLETED, FAILED, CANCELLED):
            return None
        with one_look(self.store, seat.run_id):
            snapshot, history = rebuild(self.store, seat.run_id)
            head = self.head(seat.run_id)
        if known is not None and snapshot.seq <= known.committed:
            return known
        seat.live = ActiveRun(plan, snapshot, history, head, Lease(b"", 0))
        seat.live.finish()
        return seat.live

    async def start(
        self, run_id: str, wanted: StartRequest, *, wait: bool, watch: Watcher | None = None
    ) -> tuple[ActiveRun, bool]:
        """Create a run, or go on with the one of this id; tell whether this call began to drive it."""
        async with self._door(run_id):
            if self.store.get(Keys(run_id).head) is None:
                created = await self._create(run_id, wanted, watch)
                if created is not None:
                    return created, True
            return await self._continue(run_id, wanted.plan, wanted, wait=wait, watch=watch)

    async def resume(
        self,
        run_id: str,
        plan: Plan,
        *,
        wait: bool = False,
        limits: dict[str, int] | None = None,
        renames: Renames = (),
        revive: bool = True,
    ) -> ActiveRun:
        """Go on with a run; with a failed one only to `revive` it.

        Raises `RunNotFound`, `RunBusy`, `RunConflict`, `GraphChanged`, `BadRename`.
        """
        async with self._door(run_id):
            live, _ = await self._continue(
                run_id, plan, None, wait=wait, watch=None, limits=limits, renames=renames, revive=revive
            )
        return live

    async def fork(self, plan: Plan, forked: Forked) -> ActiveRun:
        """Commit a fork and begin its work. Raises `RunConflict` if its id is taken."""
        snapshot, history, ops, trigger = forked
        async with self._door(snapshot.run_id):
            taken = self.store.get(history.keys.head) is not None
            live = None if taken else await self._commit_new(plan, snapshot, history, ops, trigger, resting=True)
            if live is None:
                raise RunConflict(snapshot.run_id, "the id is taken: choose another one for the fork")
            await self._begin(live)
        return live

    async def hold(self, run_id: str, plan: Plan) -> ActiveRun:
        """Take the right to advance a run without beginning any work: to end it. Raises `RunBusy`."""
        async with self._door(run_id):
            while True:
                live = await self._undecided(run_id)
                if live is not None:
                    return live
                await self._own()
                held = await free_lease(self.store, self.owner, run_id, self.check_open, wait=False)
                with one_look(self.store, run_id):
                    snapshot, history = rebuild(self.store, run_id)
                    head = self.head(run_id)
                check_nodes(snapshot, plan.shape)
                live = ActiveRun(plan, snapshot, history, head, Lease(self.owner.id, held.lease.epoch + 1))
                live.resting = True
                if snapshot.ended:
                    live.finish()
                    return live
                if await self._taken(live, held, []):
                    self._drives(live)
                    return live

    def head(self, run_id: str) -> RunRecord:
        """Return what is on disk about a run. Raises `RunNotFound`."""
        return read_head(self.store, run_id)

    def check_open(self) -> None:
        """Raise `RunError` once the engine is closed."""
        if self.closed:
            raise RunError("", "the engine is closed: make a new one on the same store")

    async def turned_away(self) -> None:
        """Return once nobody is on the way in: after `closed`, whoever is gives back what was taken."""
        for door in list(self._doors.values()):
            async with door:
                pass

    def _forget(self, live: ActiveRun) -> None:
        if self.lives.get(live.run_id) is live:
            del self.lives[live.run_id]
        seat = self._seats.get(live.run_id)
        if seat is not None and seat.live is live and live.parted:
            seat.left()
        for on_gone in self.on_gone:
            on_gone(live)

    async def _own(self) -> None:
        """Be known as an owner. Where another process could hold the writer lock, wait for it in a thread."""
        self.check_open()
        if self.store.shared and not self.owner.begun:
            await asyncio.to_thread(self.owner.begin)
            if self.closed:
                self.owner.end()
            self.check_open()
        else:
            self.owner.begin()

    def _drives(self, live: ActiveRun) -> None:
        self.lives[live.run_id] = live
        seat = self._seats.get(live.run_id)
        if seat is not None:
            seat.taken(live)
        self.scheduler.on_driven()
        live.done.add_done_callback(lambda _: self._forget(live))

    async def _undecided(self, run_id: str) -> ActiveRun | None:
        """Return the run if this engine drives it and will go on to; wait for one that is about to end or rest."""
        while (live := self.current(run_id)) is not None:
            if not live.resting and live.snapshot.status not in (COMPLETED, FAILED, CANCELLED):
                return live
            await asyncio.shield(live.done)
        return None

    async def _taken(self, live: ActiveRun, held: Held, triggers: list[Trigger]) -> bool:
        """Take the lease; tell whether it was still as it had been. Whatever goes wrong, it is given back."""
        live.term = self.owner.term
        try:
            await take(self.scheduler, live, held, triggers)
        except BaseException:
            self.scheduler.abandon(live, RunError(live.run_id, "its take-over was broken off: resume it again"))
            raise
        if live.error is None:
            return True
        if isinstance(live.error.__cause__, Conflict):
            return False
        raise live.error

    async def _begin(self, live: ActiveRun) -> None:
        """Begin a run's work, unless the engine was closed meanwhile."""
        if self.closed:
            await self.scheduler.rest(live)
            self.check_open()
        try:
            live.resting = False
            if self.store.get(live.history.keys.cancel) is not None:  # asked for while nobody drove the run
                self.scheduler.decide(live, CancelRequested(self.scheduler.clock.now_ms()))
            else:
                await self.scheduler.begin(live)
        except BaseException as error:  # what its work needs cannot be read, or nobody waits: let go of it
            stopped = error if isinstance(error, Exception) else RunError(live.run_id, "its begin was broken off")
            self.scheduler.abandon(live, stopped)
            raise

    def _door(self, run_id: str) -> asyncio.Lock:
        lock = self._doors.get(run_id)
        if lock is None:
            lock = self._doors[run_id] = asyncio.Lock()
        return lock

    # Creating.

    async def _create(self, run_id: str, wanted: StartRequest, watch: Watcher | None) -> ActiveRun | None:
        """Commit a new run; `None` if another process has just created one of this id."""
        plan = wanted.plan
        history = History(self.store, run_id)
        allowed = (wanted.limits.overrides() if wanted.limits is not None else {}).get("max_value_bytes")
        values, blobs = put_away(plan, history, wanted.value, wanted.context, allowed=allowed)
        now = self.scheduler.clock.now_ms()
        session, ops = None, history.blob_ops(blobs)
        if wanted.session is not None:
            session, before = open_session(self.store, plan, wanted.session, run_id)
            ops += begin_ops(session, before)
        snapshot = Snapshot(
            run_id=run_id,
            plan=plan.fingerprint,
            started_ms=now,
            value=values[0],
            context=values[1] if wanted.context is not None else None,
            limits=wanted.limits.overrides() if wanted.limits is not None else None,
            session=session.fields() if session is not None else None,
        )
        return await self._commit_new(plan, snapshot, history, ops, RunStarted(now), watch)

    async def _commit_new(
        self,
        plan: Plan,
        snapshot: Snapshot,
        history: History,
        ops: Sequence[Op],
        trigger: Trigger,
        watch: Watcher | None = None,
        *,
        resting: bool = False,
    ) -> ActiveRun | None:
        """Commit a new run's first snapshot and step; `None` if its id was taken meanwhile."""
        await self._own()
        now, keys = self.scheduler.clock.now_ms(), history.keys
        head = RunRecord(
            run_id=snapshot.run_id,
            flow=plan.name,
            plan=plan.fingerprint,
            status=snapshot.status,
            created_ms=now,
            updated_ms=now,
        )
        live = ActiveRun(plan, snapshot, history, head, Lease(self.owner.id, 1))
        live.term = self.owner.term
        live.resting = resting
        if watch is not None:
            live.attach(watch, began=True)
        shape: list[Op] = [] if plan.fingerprint in self._shapes else shape_op(self.store, plan.shape)
        first: list[Op] = [
            Check(keys.head, None),
            Check(keys.tombstone, None),
            Put(keys.head, head.encode(keys.head)),
            Put(keys.lease, live.lease.encode(keys.lease)),
            Put(keys.open, PRESENT),
            *shape,
            *ops,
            *history.snapshot_ops(snapshot, force=True),
        ]
        self._drives(live)
        step = self.scheduler.decide(live, trigger, more=first)
        assert step is not None
        await self.scheduler.settled(step)
        if live.error is not None:
            cause = live.error.__cause__
            if isinstance(cause, Conflict) and cause.key == keys.head:
                return None
            raise why_not_begun(snapshot.run_id, live.error)
        self._shapes.add(plan.fingerprint)
        if self.closed:
            await self.scheduler.rest(live)
        return live

    # Continuing.

    async def _continue(
        self,
        run_id: str,
        plan: Plan,
        wanted: StartRequest | None,
        *,
        wait: bool,
        watch: Watcher | None,
        limits: dict[str, int] | None = None,
        renames: Renames = (),
        revive: bool = True,
    ) -> tuple[ActiveRun, bool]:
        while True:
            live = await self._undecided(run_id)
            if live is not None:
                check_same(live.head, live.snapshot, live.history, wanted)
                if wanted is not None and live.plan.fingerprint != plan.fingerprint:
                    found = differences(live.plan.shape, plan.shape)
                    raise GraphChanged(run_id, tuple(str(change) for change in found), is_driven=True)
                if renames and live.plan.fingerprint != plan.fingerprint:
                    raise RunConflict(run_id, "it goes on here with the graph as it was: rename in another engine")
                if watch is not None:
                    live.attach(watch)
                return live, False
            await self._own()  # before anything is read: it may take long
            held = await free_lease(self.store, self.owner, run_id, self.check_open, wait=wait)
            live = self._loaded(run_id, plan, wanted, held)
            if not revive and live.snapshot.status == FAILED:  # its owner may have failed it until a moment ago
                raise RunConflict(run_id, "it has failed meanwhile: resume it to try again")
            if watch is not None:
                live.attach(watch)
            if live.done.done():
                return live, False
            asked = wanted.limits.overrides() if wanted is not None and wanted.limits is not None else limits
            triggers = what_to_say(live, held, self.store, self.scheduler.clock.now_ms(), asked, renames)
            if not await self._taken(live, held, triggers):
                continue  # another owner was quicker
            self._drives(live)
            await self._begin(live)
            return live, True

    def _loaded(self, run_id: str, plan: Plan, wanted: StartRequest | None, held: Held) -> ActiveRun:
        """Load a run from the store, to be driven under the next epoch; one that has ended is finished at once."""
        with one_look(self.store, run_id):
            head = self.head(run_id)
            snapshot, history = rebuild(self.store, run_id)
            if head.flow != plan.name and wanted is None:
                raise RunConflict(run_id, f"it is a run of flow {head.flow!r}, not of {plan.name!r}")
            check_same(head, snapshot, history, wanted)
        if snapshot.plan == plan.fingerprint:  # else its own shape is read, to judge what changed
            check_nodes(snapshot, plan.shape)
        live = ActiveRun(plan, snapshot, history, head, Lease(self.owner.id, held.lease.epoch + 1))
        if snapshot.ended:
            live.finish()
        live.resting = True  # until the lease is taken
        return live
