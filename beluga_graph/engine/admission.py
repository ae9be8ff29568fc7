"""Admission: how a run comes into an engine. It is started, attached to, continued or taken over.

In each case one commit takes the right to advance the run and records why. No work begins before that commit.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.requests import StartRequest, check_same, encode_values
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.engine.takeover import start_error, take, takeover_triggers, wait_free_lease
from beluga_graph.errors import GraphChanged, RunConflict, RunError
from beluga_graph.kernel.snapshot import FAILED, Snapshot
from beluga_graph.kernel.triggers import CancelRequested, RunStarted, Trigger
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.diff import diff_shapes
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Acquisition, FreeLease, Lease
from beluga_graph.storage.loading import check_nodes, detect_deletion
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import RunLog, open_log
from beluga_graph.storage.sessions import begin_ops, open_session
from beluga_graph.storage.shapes import shape_at, shape_ops
from stores.base import Conflict, Op

__all__ = ["Admission"]

Forked: TypeAlias = tuple[Snapshot, RunLog, list[Op], Trigger]
Prepare: TypeAlias = Callable[[ActiveRun, FreeLease], list[Trigger]]


class Continuation(NamedTuple):
    """How to continue an existing run.

    Attributes:
        plan: The plan to continue with.
        request: The call of `start` that found the run; `None` for a resume.
        watcher: A watcher to attach before the run continues.
        limits: Limits to change.
        renames: Renamed nodes, as pairs of paths.
        revive: Whether to continue a run that has failed.
    """

    plan: Plan
    request: StartRequest | None = None
    watcher: Watcher | None = None
    limits: dict[str, int] | None = None
    renames: Renames = ()
    revive: bool = True


class Admission:
    """Starts runs in an engine, and continues runs that exist.

    `plan_for` returns the plan with which an existing run goes on, if it is started again with a plan.
    """

    def __init__(
        self,
        runs: RunRegistry,
        scheduler: Scheduler,
        poller: StorePoller,
        plan_for: Callable[[Plan, RunRecord], Plan],
    ) -> None:
        self._runs, self._scheduler, self._poller, self._plan_for = runs, scheduler, poller, plan_for
        self._store, self._owner = runs.store, scheduler.owner
        self._shapes: set[str] = set()  # fingerprints whose shape is stored

    async def start(
        self, run_id: str, request: StartRequest, *, wait: bool, watcher: Watcher | None = None
    ) -> tuple[ActiveRun, bool]:
        """Start a run or continue the one with this id. Return it, and whether this call began to drive it."""
        async with self._runs.run_lock(run_id):
            if self._store.get(Keys(run_id).head) is None:
                created = await self._create(run_id, request, watcher)
                if created is not None:
                    return created, True
            request = request._replace(plan=self._plan_for(request.plan, self._runs.head(run_id)))
            return await self._continue(run_id, Continuation(request.plan, request, watcher), wait=wait)

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
        """Continue a run. A failed run is continued only if `revive` is set.

        Raises `RunNotFound`, `RunBusy`, `RunConflict`, `GraphChanged`, `BadRename`.
        """
        how = Continuation(plan, limits=limits, renames=renames, revive=revive)
        async with self._runs.run_lock(run_id):
            active, _ = await self._continue(run_id, how, wait=wait)
        return active

    async def create(self, run_id: str, request: StartRequest, ops: Sequence[Op]) -> ActiveRun | None:
        """Start a run in one commit with further operations. Return `None`, and commit nothing, if its id is taken.

        Raises `RunError`, caused by `Conflict`, if a check among the operations fails.
        """
        async with self._runs.run_lock(run_id):
            if self._store.get(Keys(run_id).head) is not None:
                return None
            return await self._create(run_id, request, None, ops)

    async def fork(self, plan: Plan, forked: Forked) -> ActiveRun:
        """Commit a fork and begin its work. Raises `RunConflict` if its id is taken."""
        snapshot, log, ops, trigger = forked
        async with self._runs.run_lock(snapshot.run_id):
            is_taken = self._store.get(log.keys.head) is not None
            active = None if is_taken else await self._commit_new(plan, snapshot, log, ops, trigger, halted=True)
            if active is None:
                raise RunConflict(snapshot.run_id, "the id is taken: choose another one for the fork")
            await self._begin(active)
        return active

    async def acquire_to_end(self, run_id: str, plan: Plan) -> ActiveRun:
        """Take the right to advance a run in order to end it; begin no work. Raises `RunBusy`."""

        def load(held: FreeLease) -> ActiveRun:
            with detect_deletion(self._store, run_id):
                snapshot, log = open_log(self._store, run_id)
                head = self._runs.head(run_id)
                head.ensure_here()
            # The end changes no node, so a run of another graph ends without adopting this one.
            check_nodes(snapshot, shape_at(self._store, snapshot.plan, plan.shape))
            return self._inactive(plan, snapshot, log, head, held)

        async with self._runs.run_lock(run_id):
            active, _ = await self._acquire(run_id, load, lambda _active, _held: [], wait=False)
        return active

    # Acquiring.

    async def _acquire(
        self, run_id: str, load: Callable[[FreeLease], ActiveRun], prepare: Prepare, *, wait: bool
    ) -> tuple[ActiveRun, bool]:
        """Return a run and whether this call took its lease.

        It did not if this engine drives the run already, or if the run has ended. `prepare` returns the triggers that
        the commit of the take-over applies.
        """
        while True:
            active = await self._runs.wait_stable(run_id)
            if active is not None:
                return active, False
            await self._begin_ownership()  # before the first read, since it may take long
            held = await wait_free_lease(self._runs, self._owner, self._poller, run_id, wait=wait)
            active = load(held)
            triggers = prepare(active, held)
            if active.is_over:
                return active, False
            if await self._take(active, held, triggers):  # else another owner was quicker
                self._runs.add(active)
                return active, True

    def _inactive(self, plan: Plan, snapshot: Snapshot, log: RunLog, head: RunRecord, held: FreeLease) -> ActiveRun:
        """Return a loaded run under the next epoch. It is halted until its lease is taken, or over if it has ended."""
        lease = Lease(self._owner.id, held.lease.epoch + 1)
        active = self._scheduler.activate(plan, snapshot, log, head, lease)
        if snapshot.ended:
            active.finish()
        active.halt()
        return active

    async def _begin_ownership(self) -> None:
        """Store this engine's owner record. If another process may hold the writer lock, wait for it in a thread."""
        self._runs.check_open()
        if self._store.shared and not self._owner.begun:
            await asyncio.to_thread(self._owner.begin)
            if self._runs.closed:
                self._owner.end()
            self._runs.check_open()
        else:
            self._owner.begin()

    async def _take(self, active: ActiveRun, held: FreeLease, triggers: list[Trigger]) -> bool:
        """Take the lease; return whether it was still free. After any error the lease is given back."""
        active.term = self._owner.term
        try:
            await take(self._scheduler, active, held, triggers)
        except BaseException:
            self._scheduler.abandon(active, RunError(active.run_id, "its take-over was interrupted: resume it again"))
            raise
        if active.error is None:
            return True
        if isinstance(active.error.__cause__, Conflict):
            return False
        raise active.error

    async def _begin(self, active: ActiveRun) -> None:
        """Begin a run's work, unless the engine was closed meanwhile."""
        if self._runs.closed:
            await self._scheduler.stop(active)
            self._runs.check_open()
        try:
            active.drive()
            if self._store.get(active.log.keys.cancel) is not None:  # requested while no engine drove the run
                self._scheduler.decide(active, CancelRequested(self._scheduler.clock.now_ms()))
            else:
                await self._scheduler.begin(active)
        except BaseException as error:  # a record cannot be read, or the caller was cancelled: release the run
            self._abandon(active, error)
            raise

    def _abandon(self, active: ActiveRun, error: BaseException) -> None:
        interrupted = RunError(active.run_id, "its start was interrupted: resume it to continue")
        self._scheduler.abandon(active, error if isinstance(error, Exception) else interrupted)

    # Creating.

    async def _create(
        self, run_id: str, request: StartRequest, watcher: Watcher | None, more: Sequence[Op] = ()
    ) -> ActiveRun | None:
        """Commit a new run. Return `None` if another process has just created one with this id."""
        plan, limits = request.plan, request.limits.overrides() if request.limits is not None else None
        log = RunLog(self._store, run_id)
        values, blobs = encode_values(
            plan, log.reader, request.value, request.context, limit=(limits or {}).get("max_value_bytes")
        )
        now = self._scheduler.clock.now_ms()
        session, ops = None, [*more, *log.blob_ops(blobs)]
        if request.session is not None:
            session, before = open_session(self._store, plan, request.session, run_id)
            ops += begin_ops(session, before)
        snapshot = Snapshot(
            run_id=run_id,
            plan=plan.fingerprint,
            started_ms=now,
            value=values[0],
            context=values[1] if request.context is not None else None,
            limits=limits,
            session=session.fields() if session is not None else None,
        )
        return await self._commit_new(plan, snapshot, log, ops, RunStarted(now), watcher)

    async def _commit_new(
        self,
        plan: Plan,
        snapshot: Snapshot,
        log: RunLog,
        ops: Sequence[Op],
        trigger: Trigger,
        watcher: Watcher | None = None,
        *,
        halted: bool = False,
    ) -> ActiveRun | None:
        """Commit a new run's first snapshot and step. Return `None` if its id was taken meanwhile."""
        await self._begin_ownership()
        now, keys = self._scheduler.clock.now_ms(), log.keys
        head = RunRecord(
            run_id=snapshot.run_id,
            flow=plan.name,
            plan=plan.fingerprint,
            status=snapshot.status,
            created_ms=now,
            updated_ms=now,
        )
        active = self._scheduler.activate(plan, snapshot, log, head, Lease(self._owner.id, 1))
        active.term = self._owner.term
        if halted:
            active.halt()
        if watcher is not None:
            active.attach(watcher, began=True)
        acquires = Acquisition.of_new_run(keys, active.lease)
        shape: list[Op] = [] if plan.fingerprint in self._shapes else shape_ops(self._store, plan.shape)
        more = [*log.birth_ops(snapshot, head), *shape, *ops]
        self._runs.add(active)
        try:
            step = self._scheduler.decide(active, trigger, acquires=acquires, more=more)
            assert step is not None
            await self._scheduler.wait_for(step)
        except BaseException as error:
            if halted or isinstance(error, Exception):  # else its work begins, even if the caller was cancelled
                self._abandon(active, error)
            raise
        if active.error is not None and not step.is_committed:  # a later step's error is that of the run
            cause = active.error.__cause__
            if isinstance(cause, Conflict) and cause.key == keys.head:
                return None
            raise start_error(snapshot.run_id, active.error)
        self._shapes.add(plan.fingerprint)
        if self._runs.closed:
            await self._scheduler.stop(active)
        return active

    # Continuing.

    async def _continue(self, run_id: str, how: Continuation, *, wait: bool) -> tuple[ActiveRun, bool]:
        """Attach to a run that is driven here, or take it over and begin its work."""

        def prepare(active: ActiveRun, held: FreeLease) -> list[Trigger]:
            return self._prepare(active, held, how)

        active, is_acquired = await self._acquire(
            run_id, lambda held: self._load(run_id, how, held), prepare, wait=wait
        )
        if is_acquired:
            await self._begin(active)
        elif not active.is_over:  # this engine drives it
            _attach(active, how)
        return active, is_acquired

    def _load(self, run_id: str, how: Continuation, held: FreeLease) -> ActiveRun:
        """Load a run to continue it. Raises `RunConflict` if it is not the run that was requested."""
        plan = how.plan
        with detect_deletion(self._store, run_id):
            head = self._runs.head(run_id)
            snapshot, log = open_log(self._store, run_id)
            if head.flow != plan.name and how.request is None:
                raise RunConflict(run_id, f"it is a run of flow {head.flow!r}, not of {plan.name!r}")
            check_same(head, snapshot, how.request)
            head.ensure_here()
        if snapshot.plan == plan.fingerprint:  # a changed graph is judged with the stored shape instead
            check_nodes(snapshot, plan.shape)
        return self._inactive(plan, snapshot, log, head, held)

    def _prepare(self, active: ActiveRun, held: FreeLease, how: Continuation) -> list[Trigger]:
        """Attach the watcher to a run that is about to be taken over, and return the triggers of the take-over."""
        if not how.revive and active.snapshot.status == FAILED:  # its owner may have failed it a moment ago
            raise RunConflict(active.run_id, "it has just failed: resume it to try again")
        if how.watcher is not None:
            active.attach(how.watcher)
        if active.is_over:
            return []
        request, limits = how.request, how.limits
        if request is not None and request.limits is not None:
            limits = request.limits.overrides()
        return takeover_triggers(active, held, self._store, self._scheduler.clock.now_ms(), limits, how.renames)


def _attach(active: ActiveRun, how: Continuation) -> None:
    """Attach to a run that this engine drives. Raises `RunConflict`, `GraphChanged`."""
    check_same(active.head, active.snapshot, how.request)
    if active.plan.fingerprint != how.plan.fingerprint:
        if how.request is not None:
            found = diff_shapes(active.plan.shape, how.plan.shape)
            raise GraphChanged(active.run_id, tuple(str(change) for change in found), is_driven=True)
        if how.renames:
            raise RunConflict(active.run_id, "this engine drives it with its old graph: rename from another engine")
    if how.watcher is not None:
        active.attach(how.watcher)
