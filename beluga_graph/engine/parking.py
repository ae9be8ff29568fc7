"""Parking: a waiting run gives its lease back and uses no task and no memory.

Its records remain in the store, and its key in the engine that parked it. It wakes when a timer is due, a sender
writes its wakeup record, or it is resumed. Waking takes its lease again.
"""

from __future__ import annotations

from functools import partial

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.engine.waking import NEVER_MS, Waker
from beluga_graph.kernel.snapshot import WAITING
from beluga_graph.runtime.active_run import DRIVING, ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.committer import Commit
from beluga_graph.storage.records import encode_record
from stores.base import Check, Conflict, Delete, Put

__all__ = ["Parking"]

_SOON_MS = 1_000  # parking is not worth its commits for a run that is due within this time


class Parking:
    """Parks the runs of one engine that can only wait; the waker watches them from then on.

    A run is idle if it waits, and has made no step since the last look and has none to commit. The only state is the
    step at which a look last saw each waiting run that this engine drives.
    """

    def __init__(self, runs: RunRegistry, scheduler: Scheduler, waker: Waker, poller: StorePoller) -> None:
        self._runs, self._scheduler, self._waker = runs, scheduler, waker
        self._idle: dict[str, int] = {}  # the step at which a run was last seen with nothing to do
        runs.on_removed.append(self._on_removed)
        poller.register(self)

    # Called by the poller.

    @property
    def is_needed(self) -> bool:
        """Whether this engine drives a run."""
        return bool(self._runs.actives)

    def look(self) -> None:
        """Park the runs that have had nothing to do since the last look."""
        for active in list(self._runs.actives.values()):
            run = active.snapshot
            if run.status != WAITING or active.state != DRIVING:
                continue
            if self._idle.get(active.run_id) != run.seq or active.committed != run.seq or active.tasks:
                self._idle[active.run_id] = run.seq
                continue
            due_ms = min(run.timers.values(), default=NEVER_MS)
            if due_ms > self._scheduler.clock.now_ms() + _SOON_MS:
                self._park(active, due_ms)

    def on_look_failed(self, error: Exception) -> None:
        """Stop the runs that can only wait: nothing could reach them."""
        for active in list(self._runs.actives.values()):
            if active.snapshot.status == WAITING:
                self._scheduler.abandon(active, error)

    # Giving the lease back.

    def _park(self, active: ActiveRun, due_ms: int) -> None:
        """Give the lease back, unless a signal or a cancel request for the run has arrived meanwhile."""
        run, keys = active.snapshot, active.log.keys
        active.halt()
        active.stop_work()
        ops = [*active.release_ops(), Check(keys.cancel, None)]
        ops += [Check(keys.signal(name, run.inbox.get(name, 0)), None) for name in run.waits]
        ops += [Delete(keys.open), Put(keys.parked, encode_record(keys.parked, due_ms))]
        park = Commit(
            ops,
            is_valid=lambda: active.error is None and not active.is_over,
            on_committed=partial(self.on_parked, active, due_ms),
            on_rejected=partial(self.on_park_rejected, active),
        )
        self._scheduler.committer.put(park)

    def on_parked(self, active: ActiveRun, due_ms: int) -> None:
        """Release a run whose lease was given back."""
        active.release()
        self._waker.watch_run(active.log.keys.run_key, due_ms)

    def on_park_rejected(self, active: ActiveRun, error: Exception) -> None:
        """Wake a run again to which something was sent, or stop one that another owner has taken."""
        if not isinstance(error, Conflict):
            self._scheduler.on_rejected(active, error)
            return
        self._scheduler.release(active)
        self._waker.watch_run(active.log.keys.run_key, 0)

    def _on_removed(self, active: ActiveRun) -> None:
        self._idle.pop(active.run_id, None)
