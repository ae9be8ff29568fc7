"""Defects of a workflow: why its task fails, times out, and is tried again and again."""

from __future__ import annotations

from temporalio.api.common.v1 import WorkflowExecution
from temporalio.api.enums.v1 import EventType, TimeoutType, WorkflowTaskFailedCause
from temporalio.api.history.v1 import HistoryEvent
from temporalio.api.workflow.v1 import PendingWorkflowTaskInfo
from temporalio.api.workflowservice.v1 import GetWorkflowExecutionHistoryReverseRequest
from temporalio.client import Client

from beluga_graph.errors import BelugaError, RunError
from beluga_graph.temporal.connection.sdk_errors import size_error

__all__ = ["DEFECT_ATTEMPTS", "find_defect"]

DEFECT_ATTEMPTS = 3
"""A task that begins so often has a defect that does not pass."""

_RECENT_EVENTS = 20
_ENDS = (EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED, EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT)


async def find_defect(client: Client, run_id: str, task: PendingWorkflowTaskInfo) -> BelugaError | None:
    """Return the error of a workflow whose task is tried again; `None` if that may have a cause that passes."""
    ended = await _find_ended_task(client, run_id)
    if ended is None:
        return None
    if ended.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_TIMED_OUT:
        kind = ended.workflow_task_timed_out_event_attributes.timeout_type
        if kind != TimeoutType.TIMEOUT_TYPE_START_TO_CLOSE or task.attempt < DEFECT_ATTEMPTS:
            return None  # a worker was lost once
        text = f"workers began its workflow task {task.attempt - 1} times, and crashed or hung with it: "
        text += "find the cause in their logs, start workers with code that fits the run, and it goes on"
        return RunError(run_id, text)
    failure = ended.workflow_task_failed_event_attributes
    if failure.cause == WorkflowTaskFailedCause.WORKFLOW_TASK_FAILED_CAUSE_PAYLOADS_TOO_LARGE:
        return size_error("a payload of the workflow", None, run_id)
    if "TMPRL1101" in failure.failure.message and task.attempt < DEFECT_ATTEMPTS:
        return None  # the worker was too busy for 2 s, which may pass
    text = f"its workflow fails on worker {failure.identity!r}: {failure.failure.message}"
    return RunError(run_id, f"{text}; start workers with code that fits the run, and it goes on")


async def _find_ended_task(client: Client, run_id: str) -> HistoryEvent | None:
    """Return the event of the last workflow task that failed or timed out, if the history's end has one."""
    request = GetWorkflowExecutionHistoryReverseRequest(
        namespace=client.namespace,
        execution=WorkflowExecution(workflow_id=run_id),
        maximum_page_size=_RECENT_EVENTS,
    )
    answer = await client.workflow_service.get_workflow_execution_history_reverse(request)
    return next((event for event in answer.history.events if event.event_type in _ENDS), None)
