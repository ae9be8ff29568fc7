"""A worker for the time of one request: a client can change runs whose own workers have ended."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from temporalio.client import Client
from temporalio.service import ServiceClient
from temporalio.worker import Worker

from beluga_graph.temporal.workflow.run_workflow import RunWorkflow

__all__ = ["temporary_worker"]


@asynccontextmanager
async def temporary_worker(client: Client, queue: str) -> AsyncIterator[None]:
    """Walk the runs of a task queue within the block. Walking needs no code of a flow; attempts wait for other workers.

    It caches no run: the next worker that takes a task of one need not wait for this one.
    """
    config = client.config()
    # The SDK refuses two workers of one queue on one connection, and that of the client may have one.
    config["service_client"] = await ServiceClient.connect(client.service_client.config)
    async with Worker(Client(**config), task_queue=queue, workflows=[RunWorkflow], max_cached_workflows=0):
        yield
