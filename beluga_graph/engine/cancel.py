"""Cancelling: a durable request that ends a run, wherever it is driven."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.errors import RunBusy
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.runtime.signals import wakeup_op
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import PRESENT, RunRecord
from stores.base import Check, Conflict, Put

__all__ = ["Canceller"]


class Canceller:
    """Ends runs, here or through the engine that drives them.

    `plan_of` returns the plan of a stored run. `acquire_run` takes the right to advance a run and begins no work; it
    raises `RunBusy` if another engine drives the run.
    """

    def __init__(
        self,
        runs: RunRegistry,
        scheduler: Scheduler,
        poller: StorePoller,
        plan_of: Callable[[RunRecord], Plan],
        acquire_run: Callable[[str, Plan], Awaitable[ActiveRun]],
    ) -> None:
        self._runs, self._scheduler, self._poller = runs, scheduler, poller
        self._plan_of, self._acquire_run = plan_of, acquire_run

    async def cancel(self, run_id: str) -> str:
        """End a run for good; return the status that was committed first."""
        while True:
            head = self._runs.head(run_id)
            if head.status in (COMPLETED, CANCELLED):
                return head.status
            try:
                active = await self._acquire_run(run_id, self._plan_of(head))
            except RunBusy:
                await self._request(run_id)
                await self._poller.wait_next()
                continue
            step = self._scheduler.cancel(active)
            if step is not None:
                await self._scheduler.wait_for(step)
            if active.error is not None:
                raise active.error
            return self._runs.head(run_id).status

    async def _request(self, run_id: str) -> None:
        """Store the request for the current owner of the run, or for the one that takes it over."""
        store, keys = self._runs.store, Keys(run_id)
        record = store.get(keys.head)
        if record is None or store.get(keys.cancel) is not None:
            return
        # If the run was deleted meanwhile, the request must not reach a later run with the same id.
        unchanged = (Check(keys.head, record), Check(keys.cancel, None))
        error = await self._scheduler.committer.commit([*unchanged, Put(keys.cancel, PRESENT), wakeup_op(keys.wakeup)])
        if error is not None and not isinstance(error, Conflict):  # a conflict: it was requested before, or changed
            raise error
