"""The workflow of a run in the SDK's own event loop, without a worker: it decides on the tasks of a simulation."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio import workflow
from temporalio.bridge.proto.workflow_activation import ResolveActivity, WorkflowActivation, WorkflowActivationJob
from temporalio.common import Priority, TypedSearchAttributes
from temporalio.converter import DataConverter, DefaultFailureConverter
from temporalio.exceptions import ActivityError, CancelledError
from temporalio.worker import UnsandboxedWorkflowRunner, WorkflowInstance, WorkflowInstanceDetails

from beluga_graph.temporal.workflow.run_workflow import RunWorkflow

__all__ = ["PAYLOADS", "decide", "evict", "new_instance", "resolved"]

PAYLOADS = DataConverter.default.payload_converter


async def new_instance() -> WorkflowInstance:
    """Return a new instance of the workflow. The SDK makes it on the loop of its worker."""
    defn = workflow._Definition.must_from_class(RunWorkflow)
    info = workflow.Info(
        attempt=1,
        continued_run_id=None,
        cron_schedule=None,
        execution_timeout=None,
        first_execution_run_id="r",
        headers={},
        namespace="default",
        original_execution_run_id="r",
        parent=None,
        root=None,
        priority=Priority.default,
        raw_memo={},
        retry_policy=None,
        run_id="r",
        run_timeout=None,
        search_attributes={},
        start_time=datetime.fromtimestamp(0, UTC),
        workflow_start_time=datetime.fromtimestamp(0, UTC),
        task_queue="q",
        task_timeout=timedelta(seconds=10),
        typed_search_attributes=TypedSearchAttributes.empty,
        workflow_id="simulated",
        workflow_type="beluga_graph.Run",
    )
    details = WorkflowInstanceDetails(
        payload_converter_factory=lambda: PAYLOADS,
        failure_converter_class=DefaultFailureConverter,
        interceptor_classes=[],
        defn=defn,
        info=info,
        randomness_seed=1,
        extern_functions={},
        disable_eager_activity_execution=True,
        worker_level_failure_exception_types=[],
        patch_activation_callback=None,
        last_completion_result=None,
        last_failure=None,
    )
    return UnsandboxedWorkflowRunner().create_instance(details)


def decide(instance: WorkflowInstance, act: WorkflowActivation) -> tuple[list[Any], list[int]]:
    """Let a workflow decide on a task; return its commands, and the flags of the SDK."""
    completion = instance.activate(act)
    assert not completion.HasField("failed"), completion.failed.failure
    return list(completion.successful.commands), list(completion.successful.used_internal_flags)


def evict(instance: WorkflowInstance) -> None:
    """Drop a workflow from the cache of its worker: it decides nothing more."""
    act = WorkflowActivation(run_id="r", jobs=[WorkflowActivationJob(remove_from_cache={})])
    assert decide(instance, act)[0] == []


def resolved(seq: int, result: bytes | BaseException | None) -> WorkflowActivationJob:
    """Return the news of an activity's end: its result, its error, or that it was cancelled."""
    job = ResolveActivity(seq=seq)
    if isinstance(result, bytes):
        job.result.completed.result.CopyFrom(PAYLOADS.to_payloads([result])[0])
    else:
        failed = job.result.cancelled if isinstance(result, CancelledError) else job.result.failed
        error = ActivityError(
            "ended",
            scheduled_event_id=1,
            started_event_id=2,
            identity="",
            activity_type="",
            activity_id="",
            retry_state=None,
        )
        error.__cause__ = result
        DefaultFailureConverter().to_failure(error, PAYLOADS, failed.failure)
    return WorkflowActivationJob(resolve_activity=job)
