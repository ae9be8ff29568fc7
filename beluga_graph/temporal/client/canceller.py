"""The canceller: ends runs on the server for good, also those whose workers have ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress

from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import RunCancelled, RunConflict, TemporalUnavailable
from beluga_graph.inspection.views import RunStatus
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import CancelRequested
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.client.starter import continue_run
from beluga_graph.temporal.client.temporary_workers import TemporaryWorkers
from beluga_graph.temporal.connection.workflow_client import ServerRun, WorkflowClient
from beluga_graph.temporal.mirror.cache import MirroredRuns

__all__ = ["Canceller"]

_ENDS_WITHIN_S = 2.5  # with a temporary worker, after 2 s without an answer of the run's own workers


class Canceller:
    """Ends runs. `wait_ended` waits for the end of one, as `Follower` does."""

    def __init__(
        self,
        workflows: WorkflowClient,
        mirrored: MirroredRuns,
        temporary_workers: TemporaryWorkers,
        *,
        wait_ended: Callable[[str], Awaitable[Snapshot]],
    ) -> None:
        self._workflows, self._mirrored, self._wait_ended = workflows, mirrored, wait_ended
        self._temporary_workers = temporary_workers

    async def cancel(self, run_id: str) -> RunStatus:
        """End a run, and return the status that it has then; see `TemporalEngine.cancel`."""
        known = await self._workflows.describe(run_id)
        while known.status == RunStatus.failed:
            await self._reopen(known)
            known = await self._workflows.describe(run_id)
        if not known.is_open:
            return known.status
        async with self._temporary_workers.ensure_answers(known) as is_temporary:
            with suppress(RunConflict):  # it has just ended
                await self._workflows.cancel(run_id)
            try:
                # A temporary worker stops, so its request must not wait until others have passed on the messages.
                async with asyncio.timeout(_ENDS_WITHIN_S if is_temporary else None):
                    return RunStatus((await self._wait_ended(run_id)).status)
            except RunCancelled:
                return RunStatus.cancelled
            except TimeoutError:
                raise self._unfinished(run_id) from None

    async def _reopen(self, known: ServerRun) -> None:
        """Begin an execution that ends a failed run, as soon as the server is requested to cancel it.

        Does nothing if the run has been resumed meanwhile.
        """
        left = await self._mirrored.replay(known.run_id)
        plan = Plan(left.shape, {}, Codec(Registry()))
        await self._workflows.begin(continue_run(left, plan, [CancelRequested(0)]), after=known)

    def _unfinished(self, run_id: str) -> TemporalUnavailable:
        queue, address = self._workflows.connection.task_queue, self._workflows.connection.address
        text = f"run {run_id!r} was requested to end, but has not ended within {_ENDS_WITHIN_S:g} s: its last "
        text += f"messages may wait for a worker of the task queue {queue!r} (start one with `beluga-graph worker "
        text += "module:flow`), or a lost worker has its work, for up to 10 s; cancel the run again"
        return TemporalUnavailable(address, text)
