"""The worker: serves runs on Temporal, with the code of some flows."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from datetime import timedelta
from types import TracebackType
from typing import Any, Self

from temporalio.client import Client
from temporalio.worker import Worker

from beluga_graph.clock import SystemClock
from beluga_graph.execution.attempt import ExecutionResources
from beluga_graph.execution.messages import Bus
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.activities.attempt import AttemptActivity
from beluga_graph.temporal.activities.outbox import add_to_outbox
from beluga_graph.temporal.activities.publish import PublishActivity
from beluga_graph.temporal.activities.session import SessionActivity
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.connection.connection import Connection, connect_again
from beluga_graph.temporal.connection.new_execution import queue_of
from beluga_graph.temporal.workflow.outbox_workflow import OutboxWorkflow
from beluga_graph.temporal.workflow.run_workflow import RunWorkflow
from beluga_graph.temporal.workflow.server_names import publish_queue
from beluga_graph.temporal.workflow.session_workflow import SessionWorkflow

__all__ = ["TemporalWorker"]

_THROTTLE = timedelta(milliseconds=100)  # the least time between two heartbeats of an activity that reach the server
_IS_TAKEN = "Registration of multiple workers"  # the connection has a worker of the same queue


class TemporalWorker:
    """Walks the runs of some flows and makes their attempts, until stopped.

    Example:
        async with engine.worker([flow]):
            print(await engine.execute(flow, "Ada"))
    """

    def __init__(
        self,
        connection: Connection,
        plans: Sequence[Plan],
        *,
        task_queue: str,
        claims: CachedClaims | None = None,
        bus: Bus | None = None,
        deps: Any = None,
        grace_s: float = 10.0,
    ) -> None:
        self._connection, self._task_queue = connection, task_queue
        self._queues = dict.fromkeys(queue_of(plan, task_queue) for plan in plans)  # a flow may be given twice
        self._grace = timedelta(seconds=grace_s)
        self._pool = DaemonPool()
        resources = ExecutionResources(SystemClock(), self._pool, deps)
        by_fingerprint = {plan.fingerprint: plan for plan in plans}
        self._attempts = AttemptActivity(by_fingerprint, claims, resources)
        self._sessions = SessionActivity(by_fingerprint, claims)
        self._publishes = PublishActivity(bus, claims) if bus is not None else None
        self._workers: list[Worker] = []
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        client = await self._connection.client()
        async with AsyncExitStack() as stack:
            stack.callback(self._pool.close)
            stack.push_async_callback(self._attempts.close)
            try:
                self._workers = self._build(client)
            except RuntimeError as error:  # the SDK has no class of its own
                if _IS_TAKEN not in str(error):
                    raise
                self._workers = self._build(await connect_again(client))
            for worker in self._workers:
                await stack.enter_async_context(worker)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        # Together: one after another, each would take its own time of grace, and begin new work until its turn.
        await asyncio.gather(*(worker.shutdown() for worker in self._workers))
        await self._stack.__aexit__(kind, error, trace)

    async def run(self) -> None:
        """Serve until the caller cancels it. Work under way then has the time of grace to finish."""
        async with self:
            await asyncio.Event().wait()

    def _build(self, client: Client) -> list[Worker]:
        """Return a worker for what outlives a version of a flow, one for the runs of each flow, and one for the bus."""
        shared = Worker(
            client,
            task_queue=self._task_queue,
            workflows=[RunWorkflow, SessionWorkflow, OutboxWorkflow],
            activities=[add_to_outbox],
            graceful_shutdown_timeout=self._grace,
        )
        runs = [
            Worker(
                client,
                task_queue=queue,
                workflows=[RunWorkflow],
                # `add_to_outbox`: executions that an earlier release began may have it on this queue.
                activities=[self._attempts.attempt, self._sessions.end, add_to_outbox],
                graceful_shutdown_timeout=self._grace,
                max_heartbeat_throttle_interval=_THROTTLE,
                default_heartbeat_throttle_interval=_THROTTLE,
            )
            for queue in self._queues
        ]
        if self._publishes is None:
            return [shared, *runs]
        publishes = Worker(
            client,
            task_queue=publish_queue(self._task_queue),
            activities=[self._publishes.publish],
            graceful_shutdown_timeout=self._grace,
        )
        return [shared, *runs, publishes]
