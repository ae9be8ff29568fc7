"""Wakeups: answer the records that say that something was sent to a run.

A sender commits a wakeup record with each signal and each request to cancel. The engine that drives the run deletes
the record and reads what was sent. For a parked run the engine that watches or serves it wakes it first.
"""

from __future__ import annotations

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.engine.waking import Waker
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.runtime.active_run import DRIVING, HALTED, ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys, Prefix, run_key_of
from beluga_graph.storage.run_log import RunLog
from stores.base import Check, Delete

__all__ = ["WakeupReader"]


class WakeupReader:
    """Reads the wakeup records of a store: delivers to the runs that this engine drives, and wakes parked ones.

    It has no state of its own: the registry has the runs that are driven, the waker those that are parked.
    """

    def __init__(self, runs: RunRegistry, scheduler: Scheduler, waker: Waker, poller: StorePoller) -> None:
        self._runs, self._scheduler, self._waker, self._store = runs, scheduler, waker, runs.store
        runs.on_added.append(poller.start)
        poller.register(self)

    def on_signal(self, run_id: str, signal: str) -> None:
        """Deliver a signal that this engine has just accepted, without waiting for the next look at the store."""
        keys, active = Keys(run_id), self._runs.current(run_id)
        if active is not None and active.state != HALTED:
            key = keys.signal_wakeup(signal)
            wakeup = self._store.get(key)
            if wakeup is not None:
                self._delete_wakeup(key, wakeup)
            self._scheduler.inbox.deliver(active, signal)
        elif self._waker.is_watched(keys.run_key):
            self._waker.enqueue(keys.run_key)
            self._waker.wake_next()
        elif (
            active is None
            and not self._waker.is_waking(keys.run_key)
            and self._runs.head(run_id).status in (COMPLETED, CANCELLED)  # it ended meanwhile
        ):
            self._scheduler.committer.give(RunLog(self._store, run_id).clear_wakeup_ops())

    # Called by the poller.

    @property
    def is_needed(self) -> bool:
        """Whether another process may send something to a run that this engine drives."""
        return bool(self._runs.actives)

    def look(self) -> None:
        """Answer wakeup records, and wake the runs that are queued now."""
        self._answer_wakeups()
        self._waker.wake_next()

    def on_look_failed(self, error: Exception) -> None:
        """Do nothing: wakeup records remain in the store."""

    def _answer_wakeups(self) -> None:
        by_key: dict[bytes, ActiveRun] | None = None
        for key, wakeup in self._store.scan(Prefix.WAKEUP):
            run_key = run_key_of(key)
            if by_key is None:
                by_key = {active.log.keys.run_key: active for active in self._runs.actives.values()}
            active = by_key.get(run_key)
            if active is None:
                if self._waker.serving or self._waker.is_watched(run_key):
                    self._waker.enqueue(run_key)
            elif active.lease.owner and active.state == DRIVING:  # it is not about to end
                self._delete_wakeup(key, wakeup)
                self._answer_wakeup(active, key)

    def _delete_wakeup(self, key: bytes, wakeup: bytes) -> None:
        """Delete a wakeup record before its signal is looked for. A record that is written after that remains."""
        self._scheduler.committer.give([Check(key, wakeup), Delete(key)])

    def _answer_wakeup(self, active: ActiveRun, key: bytes) -> None:
        if key != active.log.keys.wakeup:
            self._scheduler.inbox.deliver_for(active, key)
        elif self._store.get(active.log.keys.cancel) is not None:
            self._scheduler.cancel(active)
        else:
            self._scheduler.inbox.deliver_all(active)
