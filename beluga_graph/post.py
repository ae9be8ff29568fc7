"""The post: how a signal is accepted for a run, wherever that run goes on."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from beluga_graph.admission import check_payload, put_away
from beluga_graph.disk import Head, Keys, sealed
from beluga_graph.errors import NotData, RunConflict
from beluga_graph.history import History
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.plan import Plan
from beluga_graph.scheduler import Scheduler
from stores.base import Check, Conflict, Op, Put

__all__ = ["send"]

_MARK = b"\x01"


async def send(
    scheduler: Scheduler, head: Head, plan: Plan, name: str, payload: Any, *, known: bool, along: Sequence[Op] = ()
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
        (kept,), blobs = put_away(plan.codec, history, payload)
    except NotData as error:
        if known:
            raise
        reason = f"{error.reason}; and make the flow known here by engine.register(flow) before you send"
        raise NotData(error.path, error.type_name, error.shown, reason) from None
    blob_ops = history.blob_ops(blobs)
    while True:
        prefix = keys.signal(name, 0)[:-8]
        last = next(iter(store.scan(prefix, reverse=True, limit=1)), None)
        position = 0 if last is None else int.from_bytes(last[0][-8:], "big") + 1
        key = keys.signal(name, position)
        record = sealed(key, (name, kept, scheduler.clock.now_ms()))
        ops: list[Op] = [Check(key, None), Put(key, record), Put(keys.unread(name, position), _MARK), *blob_ops]
        ops += along
        refused = await scheduler.committer.commit(ops)
        if refused is None:
            return
        if isinstance(refused, Conflict) and refused.key == key:
            continue  # another signal of this name took the position
        raise refused
