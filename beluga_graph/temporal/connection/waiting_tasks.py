"""Waiting tasks: the tasks of a run that no worker has taken, as the server describes them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, NamedTuple

from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse

__all__ = ["WaitingTask", "get_workflow_queue", "list_waiting", "to_seconds"]

# A worker that waits in a poll takes work at once. So work that has waited for some time was not seen by workers whose
# last poll began before it: they have ended. The time covers the exceptions.
_PATIENCE_FIRST_S = 3.0  # the first workflow task
_PATIENCE_WORKFLOW_S = 20.0  # a later one: the server may keep it 10 s for the worker that ran the one before
_PATIENCE_ACTIVITY_S = 75.0  # a full worker asks for no activities, but for workflow tasks once a minute
_FIRST_EVENTS = 2  # of a history whose first workflow task waits


class WaitingTask(NamedTuple):
    """A task that no worker has taken."""

    kind: Literal["workflow", "activity"]
    queue: str
    id: str
    scheduled_at: float
    """On the server's clock."""
    patience_s: float


def list_waiting(found: DescribeWorkflowExecutionResponse) -> Iterator[WaitingTask]:
    """Yield the tasks that wait for a worker, those of a queue in order of time.

    Activities that wait on the queue of one under way are left out: the worker is only full.
    """
    task = found.pending_workflow_task
    if task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED:
        is_first = found.workflow_execution_info.history_length <= _FIRST_EVENTS
        patience_s = _PATIENCE_FIRST_S if is_first else _PATIENCE_WORKFLOW_S
        yield WaitingTask(
            "workflow", get_workflow_queue(found), str(task.attempt), to_seconds(task.scheduled_time), patience_s
        )
    scheduled = PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    activities = found.pending_activities
    busy = {each.activity_options.task_queue.name for each in activities if each.state != scheduled}
    for each in sorted(activities, key=lambda each: to_seconds(each.scheduled_time)):
        queue = each.activity_options.task_queue.name
        is_due = each.state == scheduled and not each.HasField("next_attempt_schedule_time")
        if is_due and queue and queue not in busy:
            name = f"{each.activity_id} {each.attempt}"
            yield WaitingTask("activity", queue, name, to_seconds(each.scheduled_time), _PATIENCE_ACTIVITY_S)


def get_workflow_queue(found: DescribeWorkflowExecutionResponse) -> str:
    """Return the task queue of a run's workflow."""
    return found.execution_config.task_queue.name


def to_seconds(time: Any) -> float:
    """Return a timestamp of the server in seconds since the epoch."""
    return float(time.ToMicroseconds()) / 1e6
