"""Sending: how a signal reaches the inbox of a run, wherever the run is driven."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from beluga_graph.engine.requests import check_payload, encode_values
from beluga_graph.errors import NotData, RunConflict
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.plan import Plan
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys, number_of
from beluga_graph.storage.records import RunRecord, encode_record
from beluga_graph.storage.run_log import History
from stores.base import Check, Conflict, Op, Put

__all__ = ["ring", "send"]


async def send(
    scheduler: Scheduler, head: RunRecord, plan: Plan, name: str, payload: Any, *, known: bool, along: Sequence[Op] = ()
) -> None:
    """Append a signal to a run's inbox, after the others with its name. It is stored when this returns.

    `known` says that `plan` has the user's code. `along` are operations for the same commit. Raises `RunConflict`,
    `BadSignal`, `NotData`, and `Conflict` if a check among `along` does not hold.
    """
    run_id, store = head.run_id, scheduler.store
    if head.status in (COMPLETED, CANCELLED):
        raise RunConflict(run_id, f"it is {head.status}: a run that has ended takes no signal")
    history, keys = History(store, run_id), Keys(run_id)
    check_payload(plan, run_id, name, payload)
    try:
        (reference,), blobs = encode_values(plan, history, payload)
    except NotData as error:
        if known:
            raise
        reason = f"{error.reason}; and make the flow known here by engine.register(flow) before you send"
        raise NotData(error.path, error.type_name, error.shown, reason) from None
    more = [*history.blob_ops(blobs), *along]
    async with scheduler.inbox.door(run_id):  # signals of this engine keep their order
        while not await _append(scheduler, keys, run_id, name, reference, more):
            pass


async def _append(
    scheduler: Scheduler, keys: Keys, run_id: str, name: str, reference: bytes, more: Sequence[Op]
) -> bool:
    """Commit a signal at the next position of its name; return whether the position was still free."""
    store = scheduler.store
    record = store.get(keys.head)
    if record is None or RunRecord.decode(keys.head, record).status in (COMPLETED, CANCELLED):
        raise RunConflict(run_id, "it has ended meanwhile: a run that has ended takes no signal")
    prefix = keys.signal(name, 0)[:-8]
    last = next(iter(store.scan(prefix, reverse=True, limit=1)), None)
    position = 0 if last is None else number_of(last[0]) + 1
    key = keys.signal(name, position)
    signal = encode_record(key, (name, reference, scheduler.clock.now_ms()))
    ops: list[Op] = [
        Check(key, None),
        Check(keys.head, record),
        Put(key, signal),
        ring(keys.signal_wakeup(name)),
        *more,
    ]
    error = await scheduler.committer.commit(ops)
    if error is None:
        return True
    if isinstance(error, Conflict) and error.key in (key, keys.head):
        return False  # another signal took the position, or the run's status changed
    raise error


def ring(bell: bytes) -> Put:
    """Return the write of a doorbell. It makes the run's owner, or the engine that wakes the run, look."""
    return Put(bell, secrets.token_bytes(8))  # each ring differs: deleting a ring that was seen keeps a later one
