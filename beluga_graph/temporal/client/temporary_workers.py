"""Workers for the time of one request: a client can ask and change runs whose own workers have ended."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta

from temporalio.worker import Worker

from beluga_graph.errors import TemporalUnavailable
from beluga_graph.temporal.connection.connection import connect_again
from beluga_graph.temporal.connection.pollers import is_served
from beluga_graph.temporal.connection.sdk_errors import translate_errors
from beluga_graph.temporal.connection.workflow_client import ServerRun, WorkflowClient
from beluga_graph.temporal.workflow.outbox_workflow import OutboxWorkflow
from beluga_graph.temporal.workflow.run_workflow import RunWorkflow
from beluga_graph.temporal.workflow.session_workflow import SessionWorkflow
from beluga_graph.temporal.workflow.wire import EVENTS

__all__ = ["TemporaryWorkers"]

_SILENT_AFTER = timedelta(seconds=2)
_AFTER_ALL_STEPS = 2**31  # asks for no steps, so that the answer is small


class TemporaryWorkers:
    """The temporary workers of one client: at most one for each task queue at a time.

    They only walk runs, which needs no code of a flow. Attempts wait for other workers.
    """

    def __init__(self, workflows: WorkflowClient) -> None:
        self._workflows = workflows
        self._lock = asyncio.Lock()  # one request at a time starts or stops a worker
        self._running: dict[str, _RunningWorker] = {}  # by task queue

    @asynccontextmanager
    async def ensure_answers(self, known: ServerRun) -> AsyncIterator[bool]:
        """Let a worker answer for an open run within the block: its own one if it lives, or a temporary one.

        Yields whether it is a temporary one. Raises `RunError` if the workflow itself fails on its worker.
        """
        if await self._answers(known):
            yield False
            return
        async with self.serve(known):
            yield True

    @asynccontextmanager
    async def serve(self, known: ServerRun) -> AsyncIterator[None]:
        """Let a temporary worker answer for an open run within the block. It may run beside other workers."""
        await self._start(known.queue)
        try:
            await self._workflows.forget_worker(known.run_id)
            yield
        finally:
            await self._stop(known.queue)

    async def _answers(self, known: ServerRun) -> bool:
        """Return whether a worker answers for a run within 2 s. The server may list one that has ended."""
        client = await self._workflows.connection.client()
        with translate_errors(known.run_id, self._workflows.connection.address):
            if not await is_served(client, known.queue, has_attempts=False):
                return False
        try:
            await self._workflows.query(known.run_id, EVENTS, _AFTER_ALL_STEPS, within=_SILENT_AFTER)
        except TemporalUnavailable:
            return False
        return True

    async def _start(self, queue: str) -> None:
        """Start the worker of a task queue, unless another request has started it."""
        async with self._lock:
            if queue not in self._running:
                client = await self._workflows.connection.client()
                with translate_errors("", self._workflows.connection.address):
                    own = await connect_again(client)  # the connection of the client may have a worker of this queue
                self._running[queue] = _RunningWorker(
                    Worker(
                        own,
                        task_queue=queue,
                        workflows=[RunWorkflow, SessionWorkflow, OutboxWorkflow],  # the queue of an engine has all
                        max_cached_workflows=0,  # so the next worker that takes a task need not wait for this one
                    )
                )
            self._running[queue].requests += 1

    async def _stop(self, queue: str) -> None:
        """Stop the worker of a task queue with the last request that needs it."""
        async with self._lock:
            running = self._running[queue]
            running.requests -= 1
            if not running.requests:
                del self._running[queue]
                await running.stop()


class _RunningWorker:
    """A worker in a task of its own: a request that began it may end before others that need it."""

    def __init__(self, worker: Worker) -> None:
        self.requests = 0
        self._worker, self._task = worker, asyncio.create_task(worker.run())

    async def stop(self) -> None:
        """Stop it. If it has failed, the requests have found no worker, and raise that."""
        await self._worker.shutdown()
        await asyncio.gather(self._task, return_exceptions=True)
