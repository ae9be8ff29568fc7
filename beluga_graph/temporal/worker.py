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
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.activity import AttemptActivity
from beluga_graph.temporal.run_workflow import RunWorkflow
from beluga_graph.temporal.values import LargeValues

__all__ = ["TemporalWorker", "activity_queue"]

_THROTTLE = timedelta(milliseconds=100)  # the least time between two heartbeats of an activity that reach the server


def activity_queue(task_queue: str, plan: Plan) -> str:
    """Return the task queue of the attempts of one version of a flow: only workers that have it take from there."""
    return f"{task_queue}/{plan.name}:{plan.fingerprint[:12]}"


class TemporalWorker:
    """Walks runs and makes the attempts of some flows, until stopped.

    Example:
        async with engine.worker([flow]):
            print(await engine.execute(flow, "Ada"))
    """

    def __init__(
        self,
        client: Client,
        plans: Sequence[Plan],
        *,
        task_queue: str,
        claims: LargeValues | None = None,
        deps: Any = None,
        grace_s: float = 10.0,
    ) -> None:
        resources = ExecutionResources(SystemClock(), pool := DaemonPool(), deps)
        self._pool = pool
        attempts = AttemptActivity({plan.fingerprint: plan for plan in plans}, claims, resources)
        grace = timedelta(seconds=grace_s)
        self._workers = [
            Worker(
                client,
                task_queue=task_queue,
                workflows=[RunWorkflow],
                graceful_shutdown_timeout=grace,
            )
        ]
        self._workers += [
            Worker(
                client,
                task_queue=activity_queue(task_queue, plan),
                activities=[attempts.attempt],
                graceful_shutdown_timeout=grace,
                max_heartbeat_throttle_interval=_THROTTLE,
                default_heartbeat_throttle_interval=_THROTTLE,
            )
            for plan in plans
        ]
        self._stack = AsyncExitStack()

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            stack.callback(self._pool.close)
            for worker in self._workers:
                await stack.enter_async_context(worker)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    async def run(self) -> None:
        """Serve until the caller cancels it. Work under way then has the time of grace to finish."""
        async with self:
            await asyncio.Event().wait()
