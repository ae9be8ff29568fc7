"""Admission: how a run comes into an engine. It is created, attached to, continued or taken over.

Whatever way, the right to advance it is taken in the same commit that says so, and nothing runs before.
"""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Sequence
from typing import Any, NamedTuple

from beluga_graph.adoption import difference
from beluga_graph.codec import Codec
from beluga_graph.disk import Head, Keys
from beluga_graph.errors import GraphChanged, RunBusy, RunConflict, RunNotFound
from beluga_graph.history import History, read_shape, rebuild, shape_op
from beluga_graph.kernel.snapshot import FAILED, RUN, Snapshot
from beluga_graph.kernel.triggers import PlanAdopted, RunResumed, RunStarted, RunTakenOver, Trigger
from beluga_graph.lease import Lease, Owner, owner_is_alive
from beluga_graph.live import Live, Watch
from beluga_graph.plan import Plan
from beluga_graph.policy import Limits
from beluga_graph.scheduler import Scheduler
from beluga_graph.session import begin_ops, open_session
from stores.base import Check, Conflict, Op, Put, Store

__all__ = ["Admission", "Wanted"]

_MARK = b"\x01"
_LOOK_AGAIN_S = 0.05  # while waiting for a run that another owner has


class Wanted(NamedTuple):
    """What somebody wants to run."""

    plan: Plan
    value: Any
    context: Any
    limits: Limits | None
    session: str | None = None


class Admission:
    """The runs that an engine drives, by id."""

    def __init__(self, store: Store, scheduler: Scheduler, owner: Owner) -> None:
        self.store = store
        self.scheduler = scheduler
        self.owner = owner
        self.lives = scheduler.lives
        self._shapes: set[str] = set()  # fingerprints known to be stored
        self._doors: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    def current(self, run_id: str) -> Live | None:
        """Return the run if this engine drives it now."""
        live = self.lives.get(run_id)
        return live if live is not None and not live.done.done() else None

    def latest(self, known: Live) -> Live:
        """Return the run if this engine drives it now, else as it is on disk."""
        live = self.current(known.run_id)
        if live is not None or not known.done.done() or known.snapshot.ended or known.error is not None:
            return live or known
        snapshot, history = rebuild(self.store, known.run_id)
        if snapshot.seq == known.snapshot.seq:
            return known
        stored = Live(known.plan, snapshot, history, self.head(known.run_id), Lease(b"", 0))
        stored.finish()
        return stored

    async def start(self, run_id: str, wanted: Wanted, *, wait: bool, watch: Watch | None = None) -> tuple[Live, bool]:
        """Create a run, or go on with the one of this id; tell whether this call began to drive it."""
        async with self._door(run_id):
            if self.store.get(Keys(run_id).head) is None:
                created = await self._create(run_id, wanted, watch)
                if created is not None:
                    return created, True
            return await self._continue(run_id, wanted.plan, wanted, wait=wait, watch=watch)

    async def resume(self, run_id: str, plan: Plan, *, wait: bool = False) -> Live:
        """Go on with a run. Raises `RunNotFound`, `RunBusy`, `GraphChanged`."""
        async with self._door(run_id):
            live, _ = await self._continue(run_id, plan, None, wait=wait, watch=None)
        return live

    async def hold(self, run_id: str, plan: Plan) -> Live:
        """Take the right to advance a run without beginning any work: to end it. Raises `RunBusy`."""
        async with self._door(run_id):
            live = self.current(run_id)
            if live is not None:
                return live
            head = self.head(run_id)
            snapshot, history = rebuild(self.store, run_id)
            held = await self._free_lease(run_id, wait=False)
            assert held is not None
            live = Live(plan, snapshot, history, head, Lease(self.owner.id, held.epoch + 1))
            if snapshot.ended:
                live.finish()
                return live
            self._drives(live)
            await self._take(live, held, changed=False, revive=False)
            if live.error is not None:
                raise live.error
            live.resting = True
            return live

    def head(self, run_id: str) -> Head:
        """Return what is on disk about a run. Raises `RunNotFound`."""
        keys = Keys(run_id)
        blob = self.store.get(keys.head)
        if blob is None:
            raise RunNotFound(run_id, "no such run in this store; engine.runs() lists those there are")
        return Head.read(keys.head, blob)

    def _forget(self, live: Live) -> None:
        if self.lives.get(live.run_id) is live:
            del self.lives[live.run_id]

    async def _own(self) -> None:
        """Be known as an owner. Where another process could hold the writer lock, wait for it in a thread."""
        if self.store.shared:
            await asyncio.to_thread(self.owner.begin)
        else:
            self.owner.begin()

    def _drives(self, live: Live) -> None:
        self.lives[live.run_id] = live
        live.done.add_done_callback(lambda _: self._forget(live))

    def _door(self, run_id: str) -> asyncio.Lock:
        lock = self._doors.get(run_id)
        if lock is None:
            lock = self._doors[run_id] = asyncio.Lock()
        return lock

    # Creating.

    async def _create(self, run_id: str, wanted: Wanted, watch: Watch | None) -> Live | None:
        """Commit a new run; `None` if another process has just created one of this id."""
        plan = wanted.plan
        history = History(self.store, run_id)
        values, blobs = put_away(plan.codec, history, wanted.value, wanted.context)
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
            limits=wanted.limits.as_dict() if wanted.limits is not None else None,
            session=session.fields() if session is not None else None,
        )
        return await self.commit_new(plan, snapshot, history, ops, RunStarted(now), watch)

    async def commit_new(
        self,
        plan: Plan,
        snapshot: Snapshot,
        history: History,
        ops: Sequence[Op],
        trigger: Trigger,
        watch: Watch | None = None,
    ) -> Live | None:
        """Commit a new run's first snapshot and step; `None` if its id was taken meanwhile."""
        await self._own()
        now, keys = self.scheduler.clock.now_ms(), history.keys
        head = Head(
            run_id=snapshot.run_id,
            flow=plan.name,
            plan=plan.fingerprint,
            status=snapshot.status,
            created_ms=now,
            updated_ms=now,
        )
        live = Live(plan, snapshot, history, head, Lease(self.owner.id, 1))
        if watch is not None:
            live.attach(watch)
        shape: list[Op] = [] if plan.fingerprint in self._shapes else shape_op(self.store, plan.shape)
        first: list[Op] = [
            Check(keys.head, None),
            Put(keys.head, head.sealed(keys.head)),
            Put(keys.lease, live.lease.sealed(keys.lease)),
            Put(keys.open, _MARK),
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
            if isinstance(cause, Conflict) and cause.key[:1] == b"Z":
                message = "another run has just taken its session: wait for that to end"
                raise RunConflict(snapshot.run_id, message)
            raise live.error
        self._shapes.add(plan.fingerprint)
        return live

    # Continuing.

    async def _continue(
        self, run_id: str, plan: Plan, wanted: Wanted | None, *, wait: bool, watch: Watch | None
    ) -> tuple[Live, bool]:
        live = self.current(run_id)
        if live is not None and live.snapshot.status == FAILED:
            await asyncio.shield(live.done)  # its failure is decided, and about to be committed
            live = None
        if live is not None:
            _check_same(live.head, live.snapshot, live.history, wanted)
            if watch is not None:
                live.attach(watch)
            return live, False
        head = self.head(run_id)
        snapshot, history = rebuild(self.store, run_id)
        if head.flow != plan.name and wanted is None:
            raise RunConflict(run_id, f"it is a run of flow {head.flow!r}, not of {plan.name!r}")
        _check_same(head, snapshot, history, wanted)
        if snapshot.ended:
            live = Live(plan, snapshot, history, head, Lease(b"", 0))
            live.finish()
            if watch is not None:
                live.attach(watch)
            return live, False
        changed = self._check_graph(snapshot, plan)
        held = await self._free_lease(run_id, wait=wait)
        if held is None:  # it went on elsewhere while we waited
            return await self._continue(run_id, plan, wanted, wait=wait, watch=watch)
        live = Live(plan, snapshot, history, head, Lease(self.owner.id, held.epoch + 1))
        if watch is not None:
            live.attach(watch)
        self._drives(live)
        await self._take(live, held, changed=changed, revive=True)
        if live.error is not None:
            raise live.error
        try:
            await self.scheduler.begin(live)
        except Exception as error:  # what its work needs cannot be read: nobody may wait for it
            live.finish(error)
            raise
        return live, True

    def _check_graph(self, snapshot: Snapshot, plan: Plan) -> bool:
        """Tell whether the graph has changed. Raises `GraphChanged` if it did where the run stands."""
        if snapshot.plan == plan.fingerprint:
            return False
        old = read_shape(self.store, snapshot.plan)
        if old is None:
            raise RunNotFound(snapshot.run_id, f"the shape {snapshot.plan} of its graph is missing from the store")
        lines = difference(snapshot, old, plan.shape)
        if lines:
            raise GraphChanged(snapshot.run_id, lines)
        return True

    async def _free_lease(self, run_id: str, *, wait: bool) -> Lease | None:
        """Return the lease once nobody alive holds it; `None` if the run moved meanwhile. Raises `RunBusy`."""
        keys = Keys(run_id)
        waited = False
        while True:
            blob = self.store.get(keys.lease)
            lease = Lease(b"", 0) if blob is None else Lease.read(keys.lease, blob)
            now = self.owner.now_ms()
            if not lease.owner or lease.owner == self.owner.id or not owner_is_alive(self.store, lease.owner, now):
                return None if waited else lease
            if not wait:
                message = "another owner drives it: wait for it (wait=True), or end that process"
                raise RunBusy(run_id, message)
            waited = True
            await asyncio.sleep(_LOOK_AGAIN_S)

    async def _take(self, live: Live, held: Lease, *, changed: bool, revive: bool) -> None:
        """Take the lease in the commit of the first thing that has to be said; begin no work yet."""
        await self._own()
        run, keys, now = live.snapshot, live.history.keys, self.scheduler.clock.now_ms()
        triggers: list[Trigger] = []
        if held.owner and any(token.state == RUN for token in run.tokens.values()) and run.status != FAILED:
            triggers.append(RunTakenOver(now))
        if changed:
            triggers.append(PlanAdopted(live.plan.fingerprint, now))
        if run.status == FAILED and revive:
            triggers.append(RunResumed(now))
        blob = self.store.get(keys.lease)
        take: list[Op] = [Check(keys.lease, blob), Put(keys.lease, live.lease.sealed(keys.lease))]
        if changed:
            take += shape_op(self.store, live.plan.shape)
        live.resting = True
        for trigger in triggers:
            step = self.scheduler.decide(live, trigger, more=take)
            if step is not None:
                take = []
                await self.scheduler.settled(step)
        if take:
            await self.scheduler.commit(live, take)
        if held.owner and revive and live.error is None:
            self.scheduler.fail_interrupted(live)
            await self.scheduler.committer.drained()
        live.resting = False


def put_away(codec: Codec, history: History, *values: Any) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Encode values from outside; return what stands for each, and the large ones. Raises `NotData`."""
    kept, blobs = [], []
    for value in values:
        encoded = codec.encode(value)
        kept.append(history.put_away(encoded))
        if kept[-1] is not encoded:
            blobs.append((kept[-1], encoded))
    return kept, blobs


def _check_same(head: Head, snapshot: Snapshot, history: History, wanted: Wanted | None) -> None:
    """Refuse an id that belongs to another flow or another input. Raises `RunConflict`."""
    if wanted is None:
        return
    if head.flow != wanted.plan.name:
        message = f"the id belongs to a run of flow {head.flow!r}, not {wanted.plan.name!r}: choose another id"
        raise RunConflict(head.run_id, message)
    values, _ = put_away(wanted.plan.codec, history, wanted.value)
    if values[0] != snapshot.input:
        message = "the id belongs to a run with another input: choose another id, or resume it by its id"
        raise RunConflict(head.run_id, message)
