"""A worker for the time of one request: a client can change runs whose own workers have ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client
from temporalio.worker import Worker

from beluga_graph.temporal.connection.connection import connect_again
from beluga_graph.temporal.workflow.run_workflow import RunWorkflow

__all__ = ["temporary_worker"]


@asynccontextmanager
async def temporary_worker(client: Client, queue: str) -> AsyncIterator[None]:
    """Walk the runs of a task queue within the block. Walking needs no code of a flow; attempts wait for other workers.

    It caches no run: the next worker that takes a task of one need not wait for this one.
    """
    own = await connect_again(client)  # the connection of the client may have a worker of this queue
    async with Worker(own, task_queue=queue, workflows=[RunWorkflow], max_cached_workflows=0):
        yield
