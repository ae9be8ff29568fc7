"""Taking a run over: the lease, what has to be said in the commit that takes it, and what may not have changed.

The order matters. Who holds the lease is read first, then the run; the commit demands that both are still as
they were read. So nobody who is alive can lose a run to somebody who looked too early.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NamedTuple

from beluga_graph.errors import RunBusy, RunConflict, RunNotFound
from beluga_graph.inspection.compatibility import adopted_renames, has_changed
from beluga_graph.kernel.snapshot import FAILED
from beluga_graph.kernel.triggers import PlanAdopted, RunResumed, RunTakenOver, Trigger
from beluga_graph.kernel.types import Renames
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.runtime.trials import counted
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.leases import Lease, Owner, is_held_elsewhere
from beluga_graph.storage.records import PRESENT
from beluga_graph.storage.run_log import shape_op
from stores.base import Check, Conflict, Delete, Op, Put, Store

__all__ = ["Held", "free_lease", "take", "what_to_say", "why_not_begun"]

_LOOK_AGAIN_S = 0.05  # while waiting for a run that another owner has


class Held(NamedTuple):
    """A lease that nobody alive holds, as it was read."""

    lease: Lease
    record: bytes | None
    dead: Check | None = None
    """That its owner, if there was one, has not come back: a frozen process may wake up and renew its record."""


async def free_lease(store: Store, owner: Owner, run_id: str, check_open: Callable[[], None], *, wait: bool) -> Held:
    """Return the lease of a run once nobody else alive holds it. Raises `RunBusy` unless `wait`."""
    keys = Keys(run_id)
    while True:
        check_open()  # the engine may be closed while this waits
        record = store.get(keys.lease)
        lease = Lease(b"", 0) if record is None else Lease.decode(keys.lease, record)
        dead = None
        if lease.owner not in (b"", owner.id):
            key = Prefix.OWNER + lease.owner
            dead = Check(key, store.get(key))  # read before it is judged
        if not is_held_elsewhere(store, lease, owner):
            return Held(lease, record, dead)
        if not wait:
            raise RunBusy(run_id, "another owner drives it: wait for it (wait=True), or end that process")
        await asyncio.sleep(_LOOK_AGAIN_S)


def what_to_say(
    live: ActiveRun, held: Held, store: Store, now_ms: int, limits: dict[str, int] | None, renames: Renames = ()
) -> list[Trigger]:
    """Return what happened to a run that is taken over. Raises `GraphChanged`, `BadRename`."""
    run = live.snapshot
    found: list[Trigger] = []
    if held.lease.owner and run.status != FAILED and (counts := counted(live.plan.shape, run)):
        found.append(RunTakenOver(now_ms, counts))
    renames = adopted_renames(run, live.plan, store, renames)
    if has_changed(run, live.plan, store, renames):
        found.append(PlanAdopted(live.plan.fingerprint, now_ms, renames))
    if run.status == FAILED or limits:
        found.append(RunResumed(now_ms, tuple((limits or {}).items())))
    return found


def why_not_begun(run_id: str, error: Exception) -> Exception:
    """Return what to raise for a new run whose first commit was refused with `error`."""
    cause = error.__cause__
    kind = cause.key[:1] if isinstance(cause, Conflict) else b""
    if kind == Prefix.SESSION:
        return RunConflict(run_id, "another run has just taken its session: wait for that to end")
    if kind == Prefix.SNAPSHOT:
        return RunNotFound(run_id, "the run that it was to begin from has just been deleted: start a new run")
    if kind == Prefix.TOMBSTONE:
        return RunConflict(run_id, "another run of this id is just being deleted: try again")
    return error


async def take(scheduler: Scheduler, live: ActiveRun, held: Held, triggers: list[Trigger]) -> None:
    """Take the lease in the commit of the first thing that has to be said; begin no work.

    A lease or a run that is not as it was read leaves a `LeaseLost` in `live.error`, and nothing written.
    """
    run, keys = live.snapshot, live.history.keys
    ops: list[Op] = [
        *([held.dead] if held.dead is not None else []),
        Check(keys.lease, held.record),
        Check(keys.step(run.seq + 1), None),
        Put(keys.lease, live.lease.encode(keys.lease)),
        Put(keys.open, PRESENT),
        Delete(keys.parked),
        *live.history.silenced(),  # what was sent before this is looked for after it
    ]
    if run.plan != live.plan.fingerprint:
        ops += shape_op(scheduler.store, live.plan.shape)
    for trigger in triggers:
        step = scheduler.decide(live, trigger, more=ops)
        if step is not None:
            ops = []
            await scheduler.settled(step)
    if ops:
        await scheduler.commit(live, ops)
    if held.lease.owner and triggers and live.error is None:
        scheduler.fail_interrupted(live)
        await scheduler.committer.drained()
