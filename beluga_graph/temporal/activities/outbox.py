"""The activity that adds messages of a run to the run's outbox."""

from __future__ import annotations

from datetime import timedelta

from temporalio import activity
from temporalio.client import Client, WorkflowExecutionStatus
from temporalio.exceptions import ApplicationError
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph.temporal.activities.progress import Progress
from beluga_graph.temporal.workflow.inputs import unpack_input
from beluga_graph.temporal.workflow.wire import ADD_MESSAGES, ADD_TO_OUTBOX, OUTBOX_WORKFLOW

__all__ = ["add_to_outbox"]

_FULL_BYTES = 30_000_000  # of a history; the server ends workflows whose history has 50 MB
_RPC = timedelta(seconds=10)


@activity.defn(name=ADD_TO_OUTBOX)
async def add_to_outbox(packed: bytes) -> None:
    """Add a batch of messages to an outbox, which begins if it is not open; see `wire`.

    The outbox drops a batch that it has, so this may be tried again. Raises an `ApplicationError` that the server
    tries again: if the outbox is full, it gets the messages after a bus has accepted others.
    """
    given = unpack_input(packed, is_final=False)
    async with Progress().send_heartbeats():
        client = activity.client()
        await _check_space(client, given["outbox"])
        await client.start_workflow(
            OUTBOX_WORKFLOW,
            given["input"],
            id=given["outbox"],
            task_queue=given["task_queue"],
            start_signal=ADD_MESSAGES,
            start_signal_args=[given["batch"]],
            rpc_timeout=_RPC,
        )


async def _check_space(client: Client, outbox_id: str) -> None:
    """Raise if the history of an open outbox is so long that more messages could make the server end it."""
    try:
        found = await client.get_workflow_handle(outbox_id).describe(rpc_timeout=_RPC)
    except RPCError as error:
        if error.status is RPCStatusCode.NOT_FOUND:
            return
        raise
    size = found.raw_description.workflow_execution_info.history_size_bytes
    if found.status is WorkflowExecutionStatus.RUNNING and size > _FULL_BYTES:
        text = f"the history of {outbox_id!r} has {size:,} bytes, and its messages wait for a bus: "
        text += "start a worker that has one, with bus= or --bus"
        raise ApplicationError(text, type="OutboxFull")
