"""The watchdog: finds out, while a caller waits for a run, that the run cannot go on by itself.

To the server such a run is only running: it offers the work for ever. Each look is one call, `describe`. Further calls
follow only if something looks wrong.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterator
from typing import Any, Literal, NamedTuple, NoReturn, TypeVar

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import (
    EventType,
    PendingActivityState,
    PendingWorkflowTaskState,
    TimeoutType,
    WorkflowTaskFailedCause,
)
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import (
    DescribeWorkflowExecutionResponse,
    GetWorkflowExecutionHistoryReverseRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from beluga_graph.errors import RunError, TemporalUnavailable
from beluga_graph.temporal.connection.pollers import address_of, get_last_polls
from beluga_graph.temporal.connection.sdk_errors import size_error

__all__ = ["Watchdog"]

T = TypeVar("T")

_FIRST_S = 1.0
_EVERY_S = 2.0
_SELDOM_S = 10.0  # if the server's answer is large, as with many pending activities
_LARGE_BYTES = 256 * 1024
_DEFECT_LOOKS = 2  # of a task that failed and is tried again: one that succeeds takes less than the time between
_DEFECT_ATTEMPTS = 3
_UNTAKEN_LOOKS = 3  # of a task that no worker has taken, before the workers are looked at; and again after as many
_RECENT_EVENTS = 20
_ENDS = (EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)

# A worker that waits in a poll takes work at once. So work that has waited for some time was not seen by workers whose
# last poll began before it: they have ended. The time covers the exceptions.
_PATIENCE_FIRST_S = 3.0  # the first workflow task
_PATIENCE_WORKFLOW_S = 20.0  # a later one: the server may keep it 10 s for the worker that ran the one before
_PATIENCE_ACTIVITY_S = 75.0  # a full worker asks for no activities, but for workflow tasks once a minute
_FIRST_EVENTS = 2  # of a history whose first workflow task waits


class _Waiting(NamedTuple):
    """A task that no worker has taken."""

    kind: Literal["workflow", "activity"]
    queue: str
    id: str
    scheduled_at: float
    """On the server's clock."""
    patience_s: float


class Watchdog:
    """Watches one run while a caller waits for its result. The run itself is never changed.

    Example:
        data = await Watchdog(client, run_id).wait(handle.result())
    """

    def __init__(self, client: Client, run_id: str) -> None:
        self._client = client
        self._run_id = run_id
        self._handle = client.get_workflow_handle(run_id)
        self._untaken: dict[_Waiting, tuple[int, float]] = {}  # looks, and the loop's time of the first one
        self._retried: tuple[float, int] = (0.0, 0)  # the workflow task that is tried again, and the looks at it

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
        """Look at the run now and then, and raise what keeps it from going on, as `wait` does."""
        pause = _FIRST_S
        while True:
            await asyncio.sleep(pause)
            pause = _EVERY_S
            try:
                found = (await self._handle.describe()).raw_description
                if found.ByteSize() > _LARGE_BYTES:
                    pause = _SELDOM_S
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
        began = _seconds(task.original_scheduled_time)
        looks = self._retried[1] + 1 if self._retried[0] == began else 1
        self._retried = (began, looks)
        if looks < _DEFECT_LOOKS and task.attempt < _DEFECT_ATTEMPTS:
            return
        ended = await self._find_ended_task()
        if ended is None:
            return
        if ended.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
            kind = ended.workflow_task_timed_out_event_attributes.timeout_type
            if kind != TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE or task.attempt < _DEFECT_ATTEMPTS:
                return  # a worker was lost once
            text = f"workers began its workflow task {task.attempt - 1} times, and crashed or hung with it: "
            text += "find the cause in their logs, start workers with code that fits the run, and it goes on"
            raise RunError(self._run_id, text)
        failure = ended.workflow_task_failed_event_attributes
        if failure.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE:
            raise size_error("a payload of the workflow", None, self._run_id)
        if "TMPRL1101" in failure.failure.message and task.attempt < _DEFECT_ATTEMPTS:
            return  # the worker was too busy for 2 s, which may pass
        text = f"its workflow fails on worker {failure.identity!r}: {failure.failure.message}"
        raise RunError(self._run_id, f"{text}; start workers with code that fits the run, and it goes on")

    async def _find_ended_task(self) -> HistoryEvent | None:
        """Return the event of the last workflow task that failed or timed out, if the history's end has one."""
        request = GetWorkflowExecutionHistoryReverseRequest(
            namespace=self._client.namespace,
            execution=WorkflowExecution(workflow_id=self._run_id),
            maximum_page_size=_RECENT_EVENTS,
        )
        answer = await self._client.workflow_service.get_workflow_execution_history_reverse(request)
        return next((event for event in answer.history.events if event.event_type in _ENDS), None)

    async def _check_workers(self, found: DescribeWorkflowExecutionResponse) -> None:
        """Raise if work of the run waits on a queue from which no worker takes it."""
        now = asyncio.get_running_loop().time()
        before, self._untaken = self._untaken, {}
        for waiting in _list_waiting(found):
            looks, since = before.get(waiting, (0, now))
            self._untaken[waiting] = (looks + 1, since)
        oldest: dict[str, _Waiting] = {}  # by queue
        for waiting, (looks, _) in self._untaken.items():
            if looks % _UNTAKEN_LOOKS == 0:
                oldest.setdefault(waiting.queue, waiting)
        for waiting in oldest.values():
            await self._check_queue(waiting, now - self._untaken[waiting][1], _queue_of(found))

    async def _check_queue(self, waiting: _Waiting, waited_s: float, workflow_queue: str) -> None:
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


def _list_waiting(found: DescribeWorkflowExecutionResponse) -> Iterator[_Waiting]:
    """Yield the tasks that wait for a worker, those of a queue in order of time.

    Activities that wait on the queue of one under way are left out: the worker is only full.
    """
    task = found.pending_workflow_task
    if task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED:
        is_first = found.workflow_execution_info.history_length <= _FIRST_EVENTS
        patience_s = _PATIENCE_FIRST_S if is_first else _PATIENCE_WORKFLOW_S
        yield _Waiting("workflow", _queue_of(found), str(task.attempt), _seconds(task.scheduled_time), patience_s)
    scheduled = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    activities = found.pending_activities
    busy = {each.activity_options.task_queue.name for each in activities if each.state != scheduled}
    for each in sorted(activities, key=lambda each: _seconds(each.scheduled_time)):
        queue = each.activity_options.task_queue.name
        is_due = each.state == scheduled and not each.HasField("next_attempt_schedule_time")
        if is_due and queue and queue not in busy:
            name = f"{each.activity_id} {each.attempt}"
            yield _Waiting("activity", queue, name, _seconds(each.scheduled_time), _PATIENCE_ACTIVITY_S)


def _queue_of(found: DescribeWorkflowExecutionResponse) -> str:
    return found.execution_config.task_queue.name


def _seconds(time: Any) -> float:
    return float(time.ToMicroseconds()) / 1e6
