"""The mailbox of signals: how a signal is checked, accepted into a run's inbox, and delivered to the run's waits.

A sender checks the signal and stores it behind the last one of its name, wherever the run is driven. The same commit
writes a wakeup record, so that the run's owner looks for the signal, or the engine that wakes the run. The owner
delivers: the walker serves unread signals to the oldest waits, each once and in order.
"""

from __future__ import annotations

import asyncio
import secrets
import weakref
from collections.abc import Callable, Sequence
from typing import Any

from beluga_graph.clock import Clock
from beluga_graph.errors import NotData, RunConflict
from beluga_graph.execution.signal_checks import check_payload
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.storage.committer import Committer
from beluga_graph.storage.keys import Keys, Prefix, number_of
from beluga_graph.storage.records import RunRecord, decode_record, encode_record
from beluga_graph.storage.run_log import RunLog
from stores.base import Check, Conflict, Op, Put, Store

__all__ = ["Inbox", "wakeup_op"]


class Inbox:
    """Sends signals to runs of one store, and delivers those for the runs that are driven here."""

    def __init__(
        self, store: Store, committer: Committer, clock: Clock, abandon: Callable[[ActiveRun, Exception], None]
    ) -> None:
        self._store, self._committer, self._clock, self._abandon = store, committer, clock, abandon
        self._is_serving = False
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    # Sending.

    async def send(
        self, head: RunRecord, plan: Plan, name: str, payload: Any, *, known: bool, along: Sequence[Op] = ()
    ) -> None:
        """Put a signal into a run's inbox, behind those of its name; on disk when this returns.

        `known` says that `plan` has the user's code; `along` are operations that belong to the same commit. Raises
        `RunConflict`, `BadSignal`, `NotData`, and `Conflict` if a check among `along` does not hold.
        """
        run_id = head.run_id
        if head.status in (COMPLETED, CANCELLED):
            raise RunConflict(run_id, f"it is {head.status}: a run that has ended accepts no signal")
        head.ensure_here()
        check_payload(plan, run_id, name, payload)
        log = RunLog(self._store, run_id)
        try:
            encoded = plan.encode(payload)
        except NotData as error:
            if known:
                raise
            reason = f"{error.reason}; and make the flow known here by engine.register(flow) before you send"
            raise NotData(error.path, error.type_name, error.shown, reason) from None
        stored = log.reader.to_reference(encoded)
        blobs = [] if stored is encoded else [(stored, encoded)]
        more = [*log.blob_ops(blobs), *along]
        async with self._lock(run_id):  # so that the senders of this engine keep their order
            while not await self._accept(run_id, name, stored, more):
                pass

    async def _accept(self, run_id: str, name: str, stored: bytes, more: Sequence[Op]) -> bool:
        """Put a signal behind the last one of its name; return `False` if another sender was quicker."""
        keys = Keys(run_id)
        record = self._store.get(keys.head)
        if record is None or (head := RunRecord.decode(keys.head, record)).status in (COMPLETED, CANCELLED):
            raise RunConflict(run_id, "it has ended meanwhile: a run that has ended accepts no signal")
        head.ensure_here()
        prefix = keys.signal(name, 0)[:-8]
        last = next(iter(self._store.scan(prefix, reverse=True, limit=1)), None)
        position = 0 if last is None else number_of(last[0]) + 1
        key = keys.signal(name, position)
        signal = encode_record(key, (name, stored, self._clock.now_ms()))
        ops: list[Op] = [
            Check(key, None),
            Check(keys.head, record),
            Put(key, signal),
            wakeup_op(keys.signal_wakeup(name)),
            *more,
        ]
        rejected = await self._committer.commit(ops)
        if rejected is None:
            return True
        if isinstance(rejected, Conflict) and rejected.key in (key, keys.head):
            return False  # another signal took the position, or the run's status changed
        raise rejected

    def _lock(self, run_id: str) -> asyncio.Lock:
        lock = self._locks.get(run_id)
        if lock is None:
            lock = self._locks[run_id] = asyncio.Lock()
        return lock

    # Delivering.

    def deliver(self, active: ActiveRun, signal: str) -> None:
        """Deliver unread signals of a name to a run's waits. A record that cannot be read stops only that run."""
        if self._is_serving:  # called from within a delivery: a thousand signals must not be a thousand nested calls
            asyncio.get_running_loop().call_soon(self.deliver, active, signal)
            return
        self._is_serving = True
        try:
            active.walker.serve(signal)
        except Exception as error:  # noqa: BLE001 - only this run stops
            self._abandon(active, error)
        finally:
            self._is_serving = False

    def deliver_for(self, active: ActiveRun, wakeup: bytes) -> None:
        """Deliver unread signals of the one name that a wakeup record is for."""
        try:
            last = next(iter(self._store.scan(Prefix.SIGNAL + wakeup[1:], reverse=True, limit=1)), None)
            signal = decode_record(*last)[0] if last is not None else None
        except Exception as error:  # noqa: BLE001 - only this run stops
            self._abandon(active, error)
            return
        if signal is not None:
            self.deliver(active, signal)

    def deliver_all(self, active: ActiveRun) -> None:
        """Deliver unread signals of every name that a run waits for, as an earlier release asked by one wakeup."""
        for signal in list(active.snapshot.waits):
            self.deliver(active, signal)


def wakeup_op(key: bytes) -> Put:
    """Return the write of a wakeup record: the run's owner, or the engine that wakes the run, looks at the run then."""
    return Put(key, secrets.token_bytes(8))  # never the same twice: the engine deletes exactly the one that it saw
