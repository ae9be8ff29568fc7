"""Moves: a run leaves this store, and goes on elsewhere with all that it needs.

One commit takes the free lease and marks the run as moved. From then on nothing changes the run here: engines refuse
to drive it, and senders to send to it. So its data is read after that commit, and a crash in between loses nothing.
"""

from __future__ import annotations

from dataclasses import replace

from beluga_graph.kernel.interruptions import count_interruptions
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import FAILED, Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import RunTakenOver
from beluga_graph.storage.leases import Acquisition, FreeLease, Lease
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import RunLog
from beluga_graph.storage.sessions import free_ops
from stores.base import Check, Delete, Op, Put

__all__ = ["move_ops"]


def move_ops(
    log: RunLog, head: RunRecord, run: Snapshot, shape: Shape, held: FreeLease, *, moved_to: str, at_ms: int
) -> list[Op]:
    """Return the writes that mark a run as moved and take it out of the indexes by which engines find work.

    Their checks fail if the lease, the run or its record has changed since it was read, or a cancel was requested. If
    the last owner died, its interruptions of nodes are counted in a step of their own, as by a take-over. A session of
    the run is free for other runs of this store: from now on the run only reads it, and adds no messages.
    """
    keys = log.keys
    lease = Lease(b"", held.lease.epoch + 1)
    ops: list[Op] = [
        *Acquisition.of_free_lease(keys, lease, held, run.seq).ops,
        Check(keys.head, head.encode(keys.head)),
        Check(keys.cancel, None),
        Put(keys.head, replace(head, moved_to=moved_to).encode(keys.head)),
        Delete(keys.open),
        Delete(keys.parked),
        *log.clear_wakeup_ops(),
        *(Delete(keys.timer(due, timer)) for timer, due in run.timers.items()),
        *free_ops(log.store, run),
    ]
    if held.lease.owner and run.status != FAILED and (counts := count_interruptions(shape, run)):
        trigger = RunTakenOver(at_ms, counts)
        ops += log.step_ops(run, trigger, advance(shape, run, trigger), None, at_ms, head.created_ms)
    return ops
