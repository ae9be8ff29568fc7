"""The post: how a signal, or the wish that it end, reaches a run wherever it goes on."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Sequence
from typing import Any

from beluga_graph.engine.admission import Admission
from beluga_graph.engine.requests import check_payload, put_away
from beluga_graph.errors import NotData, RunBusy, RunConflict
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.kernel.triggers import CancelRequested
from beluga_graph.plan import Plan
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys, number_of
from beluga_graph.storage.records import PRESENT, RunRecord, encode_record
from beluga_graph.storage.run_log import History
from stores.base import Check, Conflict, Op, Put

__all__ = ["cancelled", "ring", "send"]

_LOOK_AGAIN_S = 0.05  # while another owner is asked to end a run


async def send(
    scheduler: Scheduler, head: RunRecord, plan: Plan, name: str, payload: Any, *, known: bool, along: Sequence[Op] = ()
) -> None:
    """Put a signal into a run's inbox, behind those of its name; on disk when this returns.

    `known` says that `plan` has the user's code; `along` are operations that belong to the same commit. Raises
    `RunConflict`, `BadSignal`, `NotData`, and `Conflict` if a check among `along` does not hold.
    """
    run_id, store = head.run_id, scheduler.store
    if head.status in (COMPLETED, CANCELLED):
        raise RunConflict(run_id, f"it is {head.status}: a run that has ended takes no signal")
    history, keys = History(store, run_id), Keys(run_id)
    check_payload(plan, run_id, name, payload)
    try:
        (kept,), blobs = put_away(plan, history, payload)
    except NotData as error:
        if known:
            raise
        reason = f"{error.reason}; and make the flow known here by engine.register(flow) before you send"
        raise NotData(error.path, error.type_name, error.shown, reason) from None
    more = [*history.blob_ops(blobs), *along]
    async with scheduler.inbox.door(run_id):  # so that those of this engine keep their order
        while not await _accepted(scheduler, keys, run_id, name, kept, more):
            pass


async def _accepted(scheduler: Scheduler, keys: Keys, run_id: str, name: str, kept: bytes, more: Sequence[Op]) -> bool:
    """Put a signal behind the last one of its name; tell whether nobody else was quicker."""
    store = scheduler.store
    known_as = store.get(keys.head)
    if known_as is None or RunRecord.decode(keys.head, known_as).status in (COMPLETED, CANCELLED):
        raise RunConflict(run_id, "it has ended meanwhile: a run that has ended takes no signal")
    prefix = keys.signal(name, 0)[:-8]
    last = next(iter(store.scan(prefix, reverse=True, limit=1)), None)
    position = 0 if last is None else number_of(last[0]) + 1
    key = keys.signal(name, position)
    record = encode_record(key, (name, kept, scheduler.clock.now_ms()))
    ops: list[Op] = [
        Check(key, None),
        Check(keys.head, known_as),
        Put(key, record),
        ring(keys.signal_wakeup(name)),
        *more,
    ]
    refused = await scheduler.committer.commit(ops)
    if refused is None:
        return True
    if isinstance(refused, Conflict) and refused.key in (key, keys.head):
        return False  # another signal took the position, or the run's status changed
    raise refused


def ring(bell: bytes) -> Put:
    """Return the write of a doorbell, which makes the run's owner, or the engine that wakes the run, look."""
    return Put(bell, secrets.token_bytes(8))  # never the same twice: a ring that was seen takes away itself alone


async def cancelled(runs: Admission, run_id: str, plan_of: Callable[[RunRecord], Plan]) -> str:
    """End a run for good, here or by its owner; return the status that won."""
    scheduler, keys = runs.scheduler, Keys(run_id)
    while True:
        head = runs.head(run_id)
        if head.status in (COMPLETED, CANCELLED):
            return head.status
        try:
            live = await runs.hold(run_id, plan_of(head))
        except RunBusy:
            await _ask_to_cancel(scheduler, keys)
            await asyncio.sleep(_LOOK_AGAIN_S)
            continue
        step = scheduler.decide(live, CancelRequested(scheduler.clock.now_ms()))
        if step is not None:
            await scheduler.settled(step)
        if live.error is not None:
            raise live.error
        return runs.head(run_id).status


async def _ask_to_cancel(scheduler: Scheduler, keys: Keys) -> None:
    """Leave the request for the owner of a run, whoever that is when it is read."""
    known_as = scheduler.store.get(keys.head)
    if known_as is None or scheduler.store.get(keys.cancel) is not None:
        return
    # A run that has gone meanwhile must not leave its request to another one of its id.
    alike = (Check(keys.head, known_as), Check(keys.cancel, None))
    refused = await scheduler.committer.commit([*alike, Put(keys.cancel, PRESENT), ring(keys.wakeup)])
    if refused is not None and not isinstance(refused, Conflict):  # else it was asked before, or went on
        raise refused
