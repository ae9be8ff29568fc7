"""The live records in the heartbeats of attempts under way, as the server describes them."""

from __future__ import annotations

from temporalio.api.workflow.v1 import PendingActivityInfo
from temporalio.api.workflowservice.v1 import DescribeWorkflowExecutionResponse
from temporalio.client import Client
from temporalio.converter import ActivitySerializationContext

from beluga_graph.temporal.live.record import LiveRecord
from beluga_graph.temporal.workflow.wire import WORKFLOW, unpack

__all__ = ["read_heartbeat_records"]


async def read_heartbeat_records(client: Client, found: DescribeWorkflowExecutionResponse) -> list[LiveRecord]:
    """Return the last live records of a run's attempts under way. Skips heartbeats with other details."""
    run_id = found.workflow_execution_info.execution.workflow_id
    records = []
    for pending in found.pending_activities:
        if pending.HasField("heartbeat_details"):
            record = await _read(client, run_id, pending)
            if record is not None and record.run_id == run_id:
                records.append(record)
    return records


async def _read(client: Client, run_id: str, pending: PendingActivityInfo) -> LiveRecord | None:
    context = ActivitySerializationContext(
        namespace=client.namespace,
        activity_id=pending.activity_id,
        activity_type=pending.activity_type.name,
        activity_task_queue=None,
        workflow_id=run_id,
        workflow_type=WORKFLOW,
        is_local=False,
    )
    converter = client.data_converter.with_context(context)
    try:
        (packed,) = await converter.decode(list(pending.heartbeat_details.payloads), [bytes])
        return LiveRecord.from_plain(unpack(packed)["live"])
    except Exception:  # noqa: BLE001 - workers in other languages may put anything into heartbeats
        return None
