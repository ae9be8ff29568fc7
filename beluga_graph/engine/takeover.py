"""Take a run over: find its lease free, and take it in the commit that records what happened to the run.

The order matters. The owner of the lease is read first, then the run. The commit requires that both are unchanged.
So an engine that read too early cannot take a run from a live owner.
"""

from __future__ import annotations

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.errors import RunBusy, RunConflict, RunNotFound
from beluga_graph.inspection.compatibility import complete_renames, has_changed
from beluga_graph.kernel.interruptions import count_interruptions
from beluga_graph.kernel.snapshot import FAILED
from beluga_graph.kernel.triggers import PlanAdopted, RunResumed, RunTakenOver, Trigger
from beluga_graph.kernel.types import Renames
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.leases import Acquisition, FreeLease, Owner, read_free_lease
from beluga_graph.storage.records import PRESENT
from beluga_graph.storage.shapes import shape_ops
from stores.base import Conflict, Delete, Op, Put, Store

__all__ = ["start_error", "take", "takeover_triggers", "wait_free_lease"]


async def wait_free_lease(
    runs: RunRegistry, owner: Owner, poller: StorePoller, run_id: str, *, wait: bool
) -> FreeLease:
    """Return the lease of a run once no other live owner holds it. Raises `RunBusy` unless `wait`."""
    while True:
        runs.check_open()  # the engine may be closed during the wait
        if (lease := read_free_lease(runs.store, owner, run_id)) is not None:
            return lease
        if not wait:
            raise RunBusy(run_id, "another owner drives it: wait for it (wait=True), or end that process")
        await poller.wait_next()


def takeover_triggers(
    active: ActiveRun, held: FreeLease, store: Store, now_ms: int, limits: dict[str, int] | None, renames: Renames = ()
) -> list[Trigger]:
    """Return the triggers that a take-over applies to a run. Raises `GraphChanged`, `BadRename`."""
    run = active.snapshot
    found: list[Trigger] = []
    if held.lease.owner and run.status != FAILED and (counts := count_interruptions(active.plan.shape, run)):
        found.append(RunTakenOver(now_ms, counts))
    renames = complete_renames(run, active.plan, store, renames)
    if has_changed(run, active.plan, store, renames):
        found.append(PlanAdopted(active.plan.fingerprint, now_ms, renames))
    if run.status == FAILED or limits:
        found.append(RunResumed(now_ms, tuple((limits or {}).items())))
    return found


def start_error(run_id: str, error: Exception) -> Exception:
    """Return the error to raise for a new run whose first commit was rejected with `error`."""
    cause = error.__cause__
    kind = cause.key[:1] if isinstance(cause, Conflict) else b""
    if kind == Prefix.SESSION:
        return RunConflict(run_id, "another run has just taken its session: wait until that run ends")
    if kind == Prefix.SNAPSHOT:
        return RunNotFound(run_id, "its source run has just been deleted: start a new run")
    if kind == Prefix.TOMBSTONE:
        return RunConflict(run_id, "a run with this id is being deleted: try again")
    return error


async def take(scheduler: Scheduler, active: ActiveRun, held: FreeLease, triggers: list[Trigger]) -> None:
    """Take the lease in the commit of the first trigger; begin no work.

    If the lease or the run has changed since it was read, nothing is written and `active.error` is a `LeaseLost`.
    """
    run, keys = active.snapshot, active.log.keys
    acquires: Acquisition | None = Acquisition.of_free_lease(keys, active.lease, held, run.seq)
    more: list[Op] = [
        Put(keys.open, PRESENT),
        Delete(keys.parked),
        *active.log.clear_wakeup_ops(),  # signals sent before this commit are looked for after it
    ]
    if run.plan != active.plan.fingerprint:
        more += shape_ops(scheduler.store, active.plan.shape)
    for trigger in triggers:
        step = scheduler.decide(active, trigger, acquires=acquires, more=more)
        if step is not None:
            acquires, more = None, []
            await scheduler.wait_for(step)
    if acquires is not None:
        await scheduler.commit(active, [*acquires.ops, *more])
    if held.lease.owner and triggers and active.error is None:
        active.walker.fail_interrupted()
        await scheduler.committer.drain()
