"""Reads runs from their histories: a replay of the workflow computes the state that the run had."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple

from temporalio import workflow
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import (
    ExecuteWorkflowInput,
    Interceptor,
    Replayer,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInstance,
    WorkflowInstanceDetails,
    WorkflowInterceptorClassInput,
    WorkflowRunner,
)

from beluga_graph.errors import SnapshotError
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.temporal.connection.history import (
    AcceptedSignal,
    Execution,
    ExecutionStatus,
    find_current,
    read_execution,
)
from beluga_graph.temporal.workflow.logged_step import LoggedStep
from beluga_graph.temporal.workflow.pieces import ItemPieces
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.run_workflow import RunWorkflow

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
    begun_inbox: Mapping[str, Sequence[bytes]]
    signals: tuple[AcceptedSignal, ...]
    """The signals that this execution has accepted, in order. Their positions follow those of `begun_inbox`."""
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
    begun = _State(Snapshot.from_plain(given["run"]), ItemPieces(given["items"]), given["inbox"], ())
    state = await _replay(history, converter) if history.events else begun
    inbox = {signal: list(payloads) for signal, payloads in state.inbox.items() if payloads}
    for signal in execution.signals:
        if not signal.is_seen:
            inbox.setdefault(signal.name, []).append(signal.payload)
    return ReplayedRun(
        execution_id=execution.execution_id,
        status=execution.status,
        last_ms=execution.last_ms,
        run=state.run,
        items=state.items,
        inbox=inbox,
        session=given["session"],
        shape=Shape.from_plain(given["shape"]),
        options=RunOptions.from_plain(given["options"]),
        triggers=() if history.events else given["triggers"],
        begun=Snapshot.from_plain(given["run"]),
        begun_items=ItemPieces(given["items"]),
        begun_inbox=given["inbox"],
        signals=execution.signals,
        steps=state.steps,
    )


class _State(NamedTuple):
    """What a workflow holds of its run at one time."""

    run: Snapshot
    items: ItemPieces
    inbox: Mapping[str, Sequence[bytes]]
    steps: tuple[LoggedStep, ...]

    @classmethod
    def of(cls, replayed: RunWorkflow) -> _State:
        """Copy the state of a workflow."""
        driver = replayed.driver
        inbox = {signal: tuple(payloads) for signal, payloads in driver.inbox.items()}
        run = Snapshot.from_plain(driver.run.to_plain())
        return cls(run, ItemPieces(driver.items.to_plain()), inbox, tuple(driver.log))


async def _replay(history: WorkflowHistory, converter: DataConverter) -> _State:
    """Return the state of the workflow at the end of a history."""
    found = _Finder()
    runner = _CopyingRunner(found)
    with ThreadPoolExecutor(1, "replay") as thread:
        replayer = Replayer(
            workflows=[RunWorkflow],
            workflow_task_executor=thread,
            workflow_runner=runner,
            data_converter=converter,
            interceptors=[found],
            debug_mode=True,  # a task may take longer than in a worker, whose tasks are for single events
        )
        result = await replayer.replay_workflow(history, raise_on_replay_failure=False)
    if result.replay_failure is not None or runner.state is None:
        text = f"the history of run {history.workflow_id!r} cannot be replayed: {result.replay_failure}: "
        text += "read it with the release of its workers"
        raise SnapshotError(text) from result.replay_failure
    return runner.state


class _Finder(Interceptor):
    """Finds the workflow that a replayer makes."""

    def __init__(self) -> None:
        self.instance: RunWorkflow | None = None

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002, ARG002 - the SDK's name
    ) -> type[WorkflowInboundInterceptor]:
        finder = self

        class Finding(WorkflowInboundInterceptor):
            async def execute_workflow(self, input: ExecuteWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
                finder.instance = workflow.instance()
                return await super().execute_workflow(input)

        return Finding


class _CopyingRunner(WorkflowRunner):
    """Copies the state of a workflow before the replayer removes it.

    The removal cancels the activities under way, and the workflow decides on that, although its history does not.
    """

    def __init__(self, found: _Finder) -> None:
        self.state: _State | None = None
        self._found = found

    def prepare_workflow(self, defn: Any) -> None:
        """Do nothing: there is no sandbox."""

    def create_instance(self, det: WorkflowInstanceDetails) -> WorkflowInstance:
        """Return an instance of the workflow."""
        instance = UnsandboxedWorkflowRunner().create_instance(det)
        activate = instance.activate

        def copy_and_activate(act: Any) -> Any:
            if self._found.instance is not None and any(job.HasField("remove_from_cache") for job in act.jobs):
                self.state = _State.of(self._found.instance)
            return activate(act)

        instance.activate = copy_and_activate  # type: ignore[method-assign]
        return instance
