"""The watchdog: finds out, while a caller waits for a run, that the run cannot go on by itself.

To the server such a run is only running: it offers the work for ever. Each check is one call, `describe`. Further calls
follow only if something looks wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, NoReturn, TypeVar

from temporalio.api.workflow.v1 import PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError

from beluga_graph.errors import TemporalUnavailable
from beluga_graph.temporal.connection.connection import address_of
from beluga_graph.temporal.connection.pollers import get_last_polls
from beluga_graph.temporal.connection.waiting_tasks import WaitingTask, get_workflow_queue, list_waiting, to_seconds
from beluga_graph.temporal.connection.workflow_defects import DEFECT_ATTEMPTS, find_defect

__all__ = ["Watchdog"]

T = TypeVar("T")

_FIRST_S = 1.0
_EVERY_S = 2.0
_LARGE_S = 10.0  # if the server's answer is large, as with many pending activities
_LARGE_BYTES = 256 * 1024
_DEFECT_CHECKS = 2  # of a task that failed and is tried again: one that succeeds takes less than the time between
_UNTAKEN_CHECKS = 3  # of a task that no worker has taken, before the workers are checked; and again after as many


class Watchdog:
    """Watches one run while a caller waits for its result. The run itself is never changed.

    Example:
        result = await Watchdog(client, run_id).wait(handle.result())
    """

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._handle = client.get_workflow_handle(run_id)
        self._untaken: dict[WaitingTask, tuple[int, float]] = {}  # checks, and the loop's time of the first one
        self._retried: tuple[float, int] = (
            0.0,
            0,
        )  # the workflow task that is tried again, and the checks

    async def wait(self, result: Coroutine[Any, Any, T]) -> T:
        """Return the result, or raise its error.

        Raises earlier than that: `RunError` or `LimitReached` if the workflow itself fails on its worker, and
        `TemporalUnavailable` if no worker takes its work. The run goes on as soon as that is mended.
        """
        waiting, watching = asyncio.ensure_future(result), asyncio.ensure_future(self.watch())
        tasks: tuple[asyncio.Future[Any], ...] = (waiting, watching)
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            return await (waiting if waiting.done() else watching)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def watch(self) -> NoReturn:
        """Check the run at intervals, and raise what keeps it from going on, as `wait` does."""
        pause = _FIRST_S
        while True:
            await asyncio.sleep(pause)
            pause = _EVERY_S
            try:
                found = (await self._handle.describe()).raw_description
                if found.ByteSize() > _LARGE_BYTES:
                    pause = _LARGE_S
                await self._check_workflow(found.pending_workflow_task)
                await self._check_workers(found)
            except RPCError:
                # The call for the result meets the same error, if it lasts, and raises it.
                continue

    async def _check_workflow(self, task: PendingWorkflowTaskInfo) -> None:
        """Raise if the workflow task fails again and again.

        The server shows that only slowly: from the second attempt on, the SDK lets failures time out, each after 10 s.
        """
        if task.attempt < 2:
            self._retried = (0.0, 0)
            return
        began = to_seconds(task.original_scheduled_time)
        checks = self._retried[1] + 1 if self._retried[0] == began else 1
        self._retried = (began, checks)
        if checks < _DEFECT_CHECKS and task.attempt < DEFECT_ATTEMPTS:
            return
        defect = await find_defect(self._client, self._run_id, task)
        if defect is not None:
            raise defect

    async def _check_workers(self, found: DescribeWorkflowExecutionResponse) -> None:
        """Raise if work of the run waits on a queue from which no worker takes it."""
        now = asyncio.get_running_loop().time()
        before, self._untaken = self._untaken, {}
        for waiting in list_waiting(found):
            checks, since = before.get(waiting, (0, now))
            self._untaken[waiting] = (checks + 1, since)
        oldest: dict[str, WaitingTask] = {}  # by queue
        for waiting, (checks, _) in self._untaken.items():
            if checks % _UNTAKEN_CHECKS == 0:
                oldest.setdefault(waiting.queue, waiting)
        for waiting in oldest.values():
            await self._check_queue(waiting, now - self._untaken[waiting][1], get_workflow_queue(found))

    async def _check_queue(self, waiting: WaitingTask, waited_s: float, workflow_queue: str) -> None:
        polls = await get_last_polls(self._client, waiting.queue, waiting.kind)
        if polls:
            if waited_s < waiting.patience_s:
                return
            if waiting.kind == "activity":  # a full worker still asks for workflow tasks
                walks = await get_last_polls(self._client, workflow_queue, "workflow")
                polls = {each: max(began, walks.get(each, began)) for each, began in polls.items()}
            if max(polls.values()) >= waiting.scheduled_at:
                return
        text = f"run {self._run_id!r} waits: no worker takes its work from the task queue {waiting.queue!r}"
        way_out = (
            "start one that has this version of the flow with `beluga-graph worker module:flow`, and the run goes on"
        )
        raise TemporalUnavailable(address_of(self._client), f"{text}; {way_out}")
