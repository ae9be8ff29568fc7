"""Runs read from their histories: the workflow itself walks again, and so comes to the very state that it had."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
)

from beluga_graph.errors import SnapshotError
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.temporal.executions import Execution, ExecutionStatus, find_current, read_execution
from beluga_graph.temporal.options import RunOptions
from beluga_graph.temporal.pieces import ItemPieces
from beluga_graph.temporal.run_workflow import RunWorkflow
from beluga_graph.temporal.workflow_driver import LoggedStep

__all__ = ["ReplayedRun", "replay_execution", "replay_run"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplayedRun:
    """A run as it is after the last complete workflow task of an execution."""

    execution_id: str
    """The run id of Temporal."""
    status: ExecutionStatus
    """How the execution ended. The status of the run itself is in its snapshot."""
    last_ms: int
    """The time of the last event of the history."""
    run: Snapshot
    items: ItemPieces
    """The items of append fields."""
    inbox: dict[str, list[bytes]]
    """By name: signals that the server has accepted and the run has not read."""
    session: Any
    """The pieces of the conversation that the run continues."""
    shape: Shape
    options: RunOptions
    triggers: tuple[tuple[str, dict[str, Any]], ...]
    """Triggers of the input that the run has not decided yet: all of them before its first workflow task."""
    begun: Snapshot
    """The run as the execution began with it."""
    begun_items: ItemPieces
    steps: tuple[LoggedStep, ...]
    """The steps of this execution, from `begun` to `run`."""


async def replay_run(client: Client, run_id: str) -> ReplayedRun:
    """Return a run as of the last complete workflow task of its last execution.

    Raises `RunNotFound`; `SnapshotError` if the history cannot be read or replayed; errors of the connection.
    """
    found = await read_execution(client, run_id, await find_current(client, run_id))
    while found.next_id:  # it has continued meanwhile
        found = await read_execution(client, run_id, found.next_id)
    return await replay_execution(found, client.data_converter)


async def replay_execution(execution: Execution, converter: DataConverter) -> ReplayedRun:
    """Return the run as of the last complete workflow task of an execution. Raises as `replay_run` does."""
    given, history = execution.given, execution.history
    instance = await _replay(history, converter) if history.events else None
    driver = instance.driver if instance is not None else None
    unread = driver.inbox if driver is not None else given["inbox"]
    inbox = {signal: list(payloads) for signal, payloads in unread.items() if payloads}
    for signal, payload in execution.unseen:
        inbox.setdefault(signal, []).append(payload)
    begun = Snapshot.from_plain(given["run"])
    return ReplayedRun(
        execution_id=execution.execution_id,
        status=execution.status,
        last_ms=execution.last_ms,
        run=driver.run if driver is not None else Snapshot.from_plain(given["run"]),
        items=driver.items if driver is not None else ItemPieces(given["items"]),
        inbox=inbox,
        session=given["session"],
        shape=Shape.from_plain(given["shape"]),
        options=RunOptions.from_plain(given["options"]),
        triggers=() if driver is not None else given["triggers"],
        begun=begun,
        begun_items=ItemPieces(given["items"]),
        steps=tuple(driver.log) if driver is not None else (),
    )


async def _replay(history: WorkflowHistory, converter: DataConverter) -> RunWorkflow:
    """Return the workflow as it is at the end of a history."""
    kept = _Keeper()
    with ThreadPoolExecutor(1, "replay") as thread:
        replayer = Replayer(
            workflows=[RunWorkflow],
            workflow_task_executor=thread,
            workflow_runner=UnsandboxedWorkflowRunner(),
            data_converter=converter,
            interceptors=[kept],
            debug_mode=True,  # a task may take longer than in a worker, whose tasks are for single events
        )
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    if result.replay_failure is not None or kept.instance is None:
        text = f"the history of run {history.workflow_id!r} cannot be replayed: {result.replay_failure}: "
        text += "read it with the release of its workers"
        raise SnapshotError(text) from result.replay_failure
    return kept.instance


class _Keeper(Interceptor):
    """Keeps the workflow that a replayer makes."""

    def __init__(self) -> None:
        self.instance: RunWorkflow | None = None

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - the SDK's name
    ) -> type[WorkflowInboundInterceptor]:
        kept = self

        class Keeping(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
                kept.instance = workflow.instance()
                return await super().execute_workflow(input)

        return Keeping
