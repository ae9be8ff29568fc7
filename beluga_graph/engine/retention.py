"""Retention: an engine without a store keeps the runs that ended last and those with a handle in use."""

from __future__ import annotations

import asyncio
import logging

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.pruning import delete_ended

_log = logging.getLogger("beluga_graph.engine.retention")

__all__ = ["ENDED_MAX", "Retention"]

ENDED_MAX = 1_000
_AT_ONCE = 64  # runs that are deleted together


class Retention:
    """Deletes the oldest of the ended runs when there are more than 1,000."""

    def __init__(self, runs: RunRegistry, scheduler: Scheduler) -> None:
        self._runs, self._scheduler = runs, scheduler
        self._ended: dict[str, None] = {}  # the oldest first
        self._check_at = ENDED_MAX + _AT_ONCE  # how many ended runs make the next deletion worthwhile
        self._task: asyncio.Task[None] | None = None
        runs.on_removed.append(self._on_removed)

    async def close(self) -> None:
        """Wait until no deletion is under way."""
        if self._task is not None:
            await asyncio.wait([self._task])

    def _on_removed(self, active: ActiveRun) -> None:
        if active.snapshot.status not in (COMPLETED, FAILED, CANCELLED):
            return
        self._ended.pop(active.run_id, None)
        self._ended[active.run_id] = None
        self._check()

    def _check(self) -> None:
        if len(self._ended) >= self._check_at and self._task is None and not self._runs.closed:
            self._task = asyncio.get_running_loop().create_task(self._delete())
            self._task.add_done_callback(self._on_deleted)

    async def _delete(self) -> None:
        oldest = list(self._ended)[: len(self._ended) - ENDED_MAX]
        held = {run_id for run_id in oldest if self._runs.is_held(run_id)}
        deleted = await delete_ended(
            self._scheduler.committer,
            self._scheduler.owner,
            [run_id for run_id in oldest if run_id not in held],
            is_held=self._runs.is_held,
            has_bus=self._scheduler.outbox.has_bus,
        )
        for run_id in deleted:
            self._ended.pop(run_id, None)
        for run_id in oldest:
            if run_id in held and run_id in self._ended:  # check the other runs first next time
                del self._ended[run_id]
                self._ended[run_id] = None
        self._check_at = max(ENDED_MAX, len(self._ended)) + _AT_ONCE

    def _on_deleted(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._check()  # more runs may have ended meanwhile
        if not task.cancelled() and task.exception() is not None and not self._runs.closed:
            _log.warning("ended runs were not deleted from memory: %s", task.exception())
