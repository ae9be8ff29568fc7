"""Moving: a run is handed over to a driver elsewhere, so that exactly one place can go on with it."""

from __future__ import annotations

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.waking import Waker
from beluga_graph.errors import RunBusy, RunConflict
from beluga_graph.execution.handed_over import HandedOver, HandOverCheck
from beluga_graph.inspection.exported import read_exported
from beluga_graph.inspection.reading import read_plan
from beluga_graph.kernel.names import is_name
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, WAITING
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import read_free_lease
from beluga_graph.storage.loading import detect_deletion
from beluga_graph.storage.moves import move_ops
from beluga_graph.storage.run_log import open_log
from stores.base import Conflict, Op

__all__ = ["Mover"]


class Mover:
    """Hands runs over to drivers elsewhere."""

    def __init__(self, runs: RunRegistry, scheduler: Scheduler, waker: Waker) -> None:
        self._runs, self._scheduler, self._waker = runs, scheduler, waker

    async def hand_over(self, run_id: str, to: str, check: HandOverCheck | None) -> HandedOver:
        """Mark a run as moved, and return all that it needs to go on; see `Engine.hand_over`."""
        if not is_name(to):
            msg = f"to={to!r:.80}: name the place at which the run goes on, in 1 to 200 printable characters"
            raise ValueError(msg)
        async with self._runs.run_lock(run_id):
            active = await self._runs.wait_stable(run_id)
            if active is not None:
                await self._release(active)
            try:
                await self._mark(run_id, to, check)
            except BaseException:
                if active is not None:
                    self._waker.watch_run(active.log.keys.run_key, 0)  # it goes on here
                raise
            self._waker.unwatch_run(run_id)
        return read_exported(self._runs.store, run_id)

    async def _release(self, active: ActiveRun) -> None:
        """Give back the lease of a run that this engine drives and that only waits. Raises `RunBusy`."""
        await self._scheduler.committer.drain()
        if active.snapshot.status != WAITING or active.tasks or active.committed != active.snapshot.seq:
            raise RunBusy(active.run_id, "this engine runs its nodes: hand it over when it waits or has failed")
        active.halt()
        self._scheduler.release(active)
        await self._scheduler.committer.drain()

    async def _mark(self, run_id: str, to: str, check: HandOverCheck | None) -> None:
        """Commit the mark, unless the run has it. Raises `RunBusy`, `RunConflict`, `RunNotFound`, errors of `check`."""
        while (ops := self._move_ops(run_id, to)) is not None:
            if check is not None:
                await check(read_exported(self._runs.store, run_id))
            error = await self._scheduler.committer.commit(ops)
            if error is None:
                return
            if not isinstance(error, Conflict):  # a conflict: the run has changed since it was read
                raise error

    def _move_ops(self, run_id: str, to: str) -> list[Op] | None:
        """Return the writes that mark the run; `None` if it has moved to this place before."""
        store = self._runs.store
        head = self._runs.head(run_id)
        if head.moved_to == to:
            return None
        head.ensure_here()
        if head.status in (COMPLETED, CANCELLED):
            raise RunConflict(run_id, f"it is {head.status}: a run that has ended goes on nowhere")
        if store.get(Keys(run_id).cancel) is not None:
            raise RunConflict(run_id, "its cancellation was requested: resume it here to let it end")
        # The lease is read before the run: a run that another owner takes in between has another lease by then.
        held = read_free_lease(store, self._scheduler.owner, run_id)
        if held is None:
            raise RunBusy(run_id, "another owner drives it: hand it over when it is parked, or end that process")
        with detect_deletion(store, run_id):
            run, log = open_log(store, run_id)
            shape = read_plan(store, head).shape
        return move_ops(log, head, run, shape, held, moved_to=to, at_ms=self._scheduler.clock.now_ms())
