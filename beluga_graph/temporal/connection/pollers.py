"""Pollers: which workers ask a task queue for work.

A worker asks in long polls of up to a minute. The server lists it with the time when its last poll began, for five
minutes after that, whether it was stopped, killed or lives. So being listed does not prove that a worker lives. An
empty list proves that no worker does, except one that is full: it asks for activities only when it has a free slot.
"""

from __future__ import annotations

import asyncio
from typing import Literal

from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import DescribeTaskQueueRequest
from temporalio.client import Client
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph.errors import TemporalUnavailable
from beluga_graph.temporal.connection.connection import address_of
from beluga_graph.temporal.connection.sdk_errors import translate_errors

__all__ = ["get_last_polls", "is_served", "require_worker"]

_KINDS = {
    "workflow": TaskQueueType.TASK_QUEUE_TYPE_WORKFLOW,
    "activity": TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
}
_WAIT_S = 5.0  # a worker that was just started is not listed at once
_EVERY_S = 0.25


async def get_last_polls(client: Client, queue: str, kind: Literal["workflow", "activity"]) -> dict[str, float]:
    """Return when the last poll of each listed worker began, in seconds since the epoch on the server's clock.

    The keys are the identities of the workers: those of one process share one, by default.
    """
    request = DescribeTaskQueueRequest(
        namespace=client.namespace, task_queue=TaskQueue(name=queue), task_queue_type=_KINDS[kind]
    )
    answer = await client.workflow_service.describe_task_queue(request)
    polls: dict[str, float] = {}
    for poller in answer.pollers:
        began = poller.last_access_time.ToMicroseconds() / 1e6
        polls[poller.identity] = max(began, polls.get(poller.identity, began))
    return polls


async def require_worker(client: Client, queue: str, *, flow: str | None) -> None:
    """Return when workers are listed for a task queue: that of a version of a flow, for its runs and their attempts.

    `flow` is `None` for the queue of an engine, whose workers only walk.

    Waits up to 5 s for them. A worker that has ended counts until the server forgets it, after five minutes: then the
    `Watchdog` of the run's result finds out. Raises `TemporalUnavailable` that names the queue without workers.
    """
    with translate_errors("", address_of(client)):
        for _ in range(int(_WAIT_S / _EVERY_S)):
            if await is_served(client, queue, has_attempts=flow is not None):
                return
            await asyncio.sleep(_EVERY_S)
    start = "start one with `beluga-graph worker module:flow`, or with engine.worker([flow])"
    if flow is None:
        text = f"no worker serves the task queue {queue!r}: {start}"
    else:
        text = f"no worker serves flow {flow!r} in this version (task queue {queue!r}): {start}, from the same code"
    raise TemporalUnavailable(address_of(client), text)


async def is_served(client: Client, queue: str, *, has_attempts: bool) -> bool:
    """Return whether workers are listed for a queue, also for attempts if it has any."""
    try:
        if not await get_last_polls(client, queue, "workflow"):
            return False
        return not has_attempts or bool(await get_last_polls(client, queue, "activity"))
    except RPCError as error:
        if error.status is not RPCStatusCode.UNIMPLEMENTED:  # a server that skips time does not list workers
            raise
        return True
