"""Who drives a run on the server: the workers that have its attempts, or none. It explains why a run does not go on."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from temporalio.api.enums.v1 import PendingActivityState, PendingWorkflowTaskState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph.inspection.commands import ShellCommands
from beluga_graph.inspection.explanation import AttemptState, Driving
from beluga_graph.inspection.moments import Moments
from beluga_graph.inspection.views import RunSnapshot
from beluga_graph.inspection.why import Why
from beluga_graph.temporal.connection.pollers import address_of, get_last_polls
from beluga_graph.temporal.connection.sdk_errors import translate_errors
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.workflow.activity_ids import activity_id

__all__ = ["explain_run", "find_driving"]

_PLACE = "with the workers on Temporal"
_SOON_S = 5.0  # after which a task that no worker has taken is not on its way any more
_GONE_S = 120.0  # a worker begins a poll at least each minute; twice that, for clocks that differ


async def explain_run(workflows: WorkflowClient, mirrored: MirroredRuns, run_id: str) -> Why:
    """Return why a run does not go on; see `TemporalEngine.why`."""
    inspector = await mirrored.refresh(run_id)
    client = await workflows.connection.client()
    described = await workflows.read_description(run_id)
    with translate_errors(run_id, workflows.connection.address):
        driving = await find_driving(client, described, await inspector.snapshot(run_id))
    commands = ShellCommands(_place_of(client, workflows.connection.task_queue), "worker")
    return await inspector.why(run_id, driving, commands, now_ms=time.time_ns() // 1_000_000)


async def find_driving(client: Client, described: DescribeWorkflowExecutionResponse, run: RunSnapshot) -> Driving:
    """Return who drives a run, from the server's description of its last execution."""
    if described.workflow_execution_info.HasField("close_time"):
        return Driving()
    for queue, kind, waiting_since in _list_queues(described):
        if not await _is_served(client, queue, kind, waiting_since):
            text = f"no worker takes its work from the task queue {queue!r}: signals and answers are kept, but nothing "
            return Driving(problem=f"{text}happens until a worker does")
    tokens = {activity_id(token.name, token.attempt): token.name for token in run.tokens}
    moments = Moments(time.time_ns() // 1_000_000)
    attempts = {
        tokens[pending.activity_id]: AttemptState(_describe_attempt(pending, moments))
        for pending in described.pending_activities
        if pending.activity_id in tokens
    }
    return Driving(place=_PLACE, attempts=attempts)


def _list_queues(
    described: DescribeWorkflowExecutionResponse,
) -> Iterator[tuple[str, Literal["workflow", "activity"], float | None]]:
    """Yield the task queues that a run needs workers of, and since when a task waits there, if one does."""
    task = described.pending_workflow_task
    is_waiting = task.state == PendingWorkflowTaskState.PENDING_WORKFLOW_TASK_STATE_SCHEDULED
    waiting_since = _seconds(task.scheduled_time) if is_waiting else None
    yield described.execution_config.task_queue.name, "workflow", waiting_since
    queues: dict[str, float] = {}
    for pending in described.pending_activities:
        queue = pending.activity_options.task_queue.name
        if queue and _is_scheduled(pending):
            queues[queue] = min(_seconds(pending.scheduled_time), queues.get(queue, float("inf")))
    busy = {each.activity_options.task_queue.name for each in described.pending_activities if not _is_scheduled(each)}
    for queue, since in queues.items():
        if queue not in busy:  # else its workers may only be full, and then do not ask for more
            yield queue, "activity", since


def _is_scheduled(pending: PendingActivityInfo) -> bool:
    """Return whether an activity waits for a worker, and not for the time of its next try."""
    is_scheduled = pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED
    return is_scheduled and not pending.HasField("next_attempt_schedule_time")


async def _is_served(
    client: Client, queue: str, kind: Literal["workflow", "activity"], waiting_since: float | None
) -> bool:
    """Return whether workers seem to live that take work from a queue."""
    try:
        polls: Mapping[str, float] = await get_last_polls(client, queue, kind)
    except RPCError as error:
        if error.status is not RPCStatusCode.UNIMPLEMENTED:  # a server that skips time does not list workers
            raise
        return True
    if not polls:
        return False
    newest, now = max(polls.values()), time.time()
    if waiting_since is not None and now - waiting_since > _SOON_S:
        return newest >= waiting_since  # a worker that waits in an earlier poll would have taken it at once
    return now - newest < _GONE_S


def _describe_attempt(pending: PendingActivityInfo, moments: Moments) -> str:
    if pending.HasField("next_attempt_schedule_time"):
        next_try = moments.at(pending.next_attempt_schedule_time.ToMilliseconds())
        return f"is given to a worker again {next_try}, after: {pending.last_failure.message}"
    if _is_scheduled(pending):
        lost = f"; {pending.attempt - 1} workers have not ended it" if pending.attempt > 1 else ""
        return f"waits for a worker to take it from {pending.activity_options.task_queue.name!r}{lost}"
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_CANCEL_REQUESTED:
        return "is being stopped"
    beat = ""
    if pending.HasField("last_heartbeat_time"):
        beat = f" (last heartbeat {moments.at(pending.last_heartbeat_time.ToMilliseconds())})"
    return f"is under way on worker {pending.last_worker_identity!r}{beat}"


def _place_of(client: Client, task_queue: str) -> tuple[str, ...]:
    """Return the options with which commands find the runs."""
    return ("--temporal", address_of(client), "--namespace", client.namespace, "--task-queue", task_queue)


def _seconds(at: Any) -> float:
    return float(at.ToMicroseconds()) / 1e6
