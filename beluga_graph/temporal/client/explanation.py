"""The explanation of why a run does not go on: the workers that drive it, and the task queues without workers."""

from __future__ import annotations

import time
from typing import Literal, TypeAlias

from temporalio.api.enums.v1 import PendingActivityState
from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph.inspection.commands import ShellCommands
from beluga_graph.inspection.explanation import AttemptState, Driving
from beluga_graph.inspection.moments import Moments
from beluga_graph.inspection.views import RunSnapshot
from beluga_graph.inspection.why import Why
from beluga_graph.temporal.connection.connection import address_of
from beluga_graph.temporal.connection.pollers import get_last_polls
from beluga_graph.temporal.connection.sdk_errors import translate_errors
from beluga_graph.temporal.connection.waiting_tasks import WaitingTask, get_workflow_queue, list_waiting
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.connection.workflow_defects import find_defect
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.workflow.activity_ids import make_activity_id

__all__ = ["explain_run", "find_driving"]

_Kind: TypeAlias = Literal["workflow", "activity"]

_WORKFLOW: _Kind = "workflow"
_WORK = {"workflow": "work", "activity": "attempts"}
_PLACE = "with the workers on Temporal"
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


async def find_driving(client: Client, found: DescribeWorkflowExecutionResponse, run: RunSnapshot) -> Driving:
    """Return who drives a run, from the server's description of its last execution."""
    if found.workflow_execution_info.HasField("close_time"):
        return Driving()
    if found.pending_workflow_task.attempt > 1:
        defect = await find_defect(client, run.run_id, found.pending_workflow_task)
        if defect is not None:
            return Driving(problem=str(defect))
    for queue, kind in await _find_unserved(client, found):
        text = f"no worker takes its {_WORK[kind]} from the task queue {queue!r}: signals and answers are kept, "
        return Driving(problem=f"{text}and it goes on when a worker does")
    if not run.tokens and any(task.kind == _WORKFLOW for task in list_waiting(found)):
        queue = get_workflow_queue(found)
        return Driving(problem=f"it has not begun: its first work waits in the task queue {queue!r} for a worker")
    tokens = {make_activity_id(token.name, token.attempt): token.name for token in run.tokens}
    moments = Moments(time.time_ns() // 1_000_000)
    attempts = {
        tokens[pending.activity_id]: AttemptState(_describe_attempt(pending, moments))
        for pending in found.pending_activities
        if pending.activity_id in tokens
    }
    return Driving(place=_PLACE, attempts=attempts)


async def _find_unserved(client: Client, found: DescribeWorkflowExecutionResponse) -> list[tuple[str, _Kind]]:
    """Return the task queues of a run from which no worker seems to take work."""
    waiting: dict[tuple[str, _Kind], WaitingTask] = {}  # the oldest task of each queue
    for task in list_waiting(found):
        waiting.setdefault((task.queue, task.kind), task)
    walks = await _list_polls(client, get_workflow_queue(found), "workflow")
    polls = {(get_workflow_queue(found), _WORKFLOW): walks}
    for queue, kind in waiting:
        if kind == "activity" and walks is not None:
            asked = await _list_polls(client, queue, kind) or {}
            # A full worker asks for no activities, but still for workflow tasks.
            polls[queue, kind] = {each: max(began, walks.get(each, began)) for each, began in asked.items()}
    return [each for each, listed in polls.items() if not _is_served(listed, waiting.get(each))]


async def _list_polls(client: Client, queue: str, kind: _Kind) -> dict[str, float] | None:
    """Return when the last polls of a queue began; `None` on a server that skips time, which does not list workers."""
    try:
        return await get_last_polls(client, queue, kind)
    except RPCError as error:
        if error.status is not RPCStatusCode.UNIMPLEMENTED:
            raise
        return None


def _is_served(polls: dict[str, float] | None, task: WaitingTask | None) -> bool:
    """Return whether workers seem to live that take work from a queue, where perhaps a task waits."""
    if polls is None:
        return True
    newest, now = max(polls.values(), default=0.0), time.time()
    if task is not None and now - task.scheduled_at > task.patience_s and newest < task.scheduled_at:
        return False
    return now - newest < _GONE_S


def _describe_attempt(pending: PendingActivityInfo, moments: Moments) -> str:
    if pending.HasField("next_attempt_schedule_time"):
        next_try = moments.at(pending.next_attempt_schedule_time.ToMilliseconds())
        return f"is given to a worker again {next_try}, after: {pending.last_failure.message}"
    if pending.state == PendingActivityState.PENDING_ACTIVITY_STATE_SCHEDULED:
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
