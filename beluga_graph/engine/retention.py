"""Forgetting: an engine without a store keeps the runs that ended last, and those that a handle holds."""

from __future__ import annotations

import asyncio
import logging

from beluga_graph.engine.admission import Admission
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.storage.pruning import forgotten

_log = logging.getLogger("beluga_graph.engine.retention")

__all__ = ["ENDED_MOST", "Forgetting"]

ENDED_MOST = 1_000
_AT_ONCE = 64  # runs that are forgotten together


class Forgetting:
    """The runs of an engine that have ended, the oldest first."""

    def __init__(self, runs: Admission) -> None:
        self._runs = runs
        self._ended: dict[str, None] = {}
        self._look_at = ENDED_MOST + _AT_ONCE  # how many there are when the next look is worth while
        self._task: asyncio.Task[None] | None = None
        runs.on_gone.append(self.on_gone)

    def on_gone(self, live: ActiveRun) -> None:
        """Note a run that is not driven any more, if it has ended."""
        if live.snapshot.status not in (COMPLETED, FAILED, CANCELLED):
            return
        self._ended.pop(live.run_id, None)
        self._ended[live.run_id] = None
        self._look()

    def _look(self) -> None:
        if len(self._ended) >= self._look_at and self._task is None and not self._runs.closed:
            self._task = asyncio.get_running_loop().create_task(self._forget())
            self._task.add_done_callback(self._over)

    async def close(self) -> None:
        """Return once nothing is being forgotten."""
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _forget(self) -> None:
        oldest = list(self._ended)[: len(self._ended) - ENDED_MOST]
        held = {run_id for run_id in oldest if self._runs.is_held(run_id)}
        gone = await forgotten(self._runs, [run_id for run_id in oldest if run_id not in held])
        for run_id in gone:
            self._ended.pop(run_id, None)
        for run_id in oldest:
            if run_id in held and run_id in self._ended:  # look at the others first, next time
                del self._ended[run_id]
                self._ended[run_id] = None
        self._look_at = max(ENDED_MOST, len(self._ended)) + _AT_ONCE

    def _over(self, task: asyncio.Task[None]) -> None:
        self._task = None
        self._look()  # more may have ended meanwhile
        if not task.cancelled() and task.exception() is not None and not self._runs.closed:
            _log.warning("ended runs were not forgotten: %s", task.exception())
