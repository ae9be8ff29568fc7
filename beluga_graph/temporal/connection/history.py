"""The executions of a run's workflow, as the server keeps them: their input, their events, and how they ended.

A run is a chain of executions: one continues as new in the next, and the resume of a failed run begins another one. A
history is read up to the last workflow task that is complete. What the server has accepted since then is not decided
yet: its signals are read, and the rest reaches the run with its next task.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, TypeAlias

from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import Client, WorkflowHistory
from temporalio.converter import WorkflowSerializationContext
from temporalio.service import RPCError, RPCStatusCode

from beluga_graph.errors import RunNotFound, SnapshotError
from beluga_graph.kernel.rules import answer_signal
from beluga_graph.temporal.connection.sdk_errors import NO_RUN
from beluga_graph.temporal.workflow.wire import ANSWER, SIGNAL, WORKFLOW, check_format, unpack

__all__ = ["AcceptedSignal", "Execution", "ExecutionStatus", "find_current", "read_execution", "read_input"]

ExecutionStatus: TypeAlias = Literal["running", "completed", "failed", "cancelled", "terminated", "continued"]
"""How an execution ended; `running` if it goes on, `terminated` also if its time was up."""

_ENDS: Mapping[int, ExecutionStatus] = {
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_COMPLETED: "completed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_FAILED: "failed",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CANCELED: "cancelled",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TERMINATED: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_TIMED_OUT: "terminated",
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_CONTINUED_AS_NEW: "continued",
}
_UPDATES = (
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
    EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_COMPLETED,
)


class AcceptedSignal(NamedTuple):
    """A signal or an answer that the server has accepted."""

    name: str
    payload: bytes
    at_ms: int
    is_seen: bool
    """Whether a complete workflow task has put it into the inbox of the run."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Execution:
    """One execution of a run's workflow, with its history so far."""

    run_id: str
    """The run, which is also the id of the workflow."""
    execution_id: str
    """The run id of Temporal."""
    given: Mapping[str, Any]
    """The input: see `wire`."""
    events: Sequence[HistoryEvent]
    """All events, as the server returned them."""
    signals: tuple[AcceptedSignal, ...]
    """The signals that it has accepted itself, in order."""

    @property
    def status(self) -> ExecutionStatus:
        """How it ended."""
        return _ENDS.get(self.events[-1].event_type, "running")

    @property
    def last_ms(self) -> int:
        """The time of the last event."""
        return self.events[-1].event_time.ToMilliseconds()

    @property
    def next_id(self) -> str:
        """The execution in which this one continues as new; empty if it does not."""
        return self.events[-1].workflow_execution_continued_as_new_event_attributes.new_execution_run_id

    @property
    def history(self) -> WorkflowHistory:
        """The history up to its last complete workflow task. It is empty before the first."""
        return WorkflowHistory(self.run_id, self.events[: _count_complete(self.events)])


async def find_current(client: Client, run_id: str) -> str:
    """Return the id of the last execution of a run. Raises `RunNotFound`."""
    try:
        found = await client.get_workflow_handle(run_id).describe()
    except RPCError as error:
        raise _not_found(run_id, error) from error
    if found.workflow_type != WORKFLOW:
        text = f"the workflow of this id has type {found.workflow_type!r}: it is not a run"
        raise RunNotFound(run_id, text)
    return str(found.run_id)


async def read_input(client: Client, run_id: str, execution_id: str) -> tuple[Mapping[str, Any], str]:
    """Return the input of an execution, and the id of the execution before it; empty for the first.

    Raises `RunNotFound` if the server does not keep it any more, and `SnapshotError` for an unknown format.
    """
    handle = client.get_workflow_handle(run_id, run_id=execution_id)
    try:
        first = await anext(handle.fetch_history_events(page_size=1))
    except RPCError as error:
        raise _not_found(run_id, error) from error
    given = await _decode_input(client, run_id, first)
    continued = first.workflow_execution_started_event_attributes.continued_execution_run_id
    return given, continued or given["previous"]


async def read_execution(client: Client, run_id: str, execution_id: str) -> Execution:
    """Return an execution with its history so far. Raises as `read_input` does."""
    handle = client.get_workflow_handle(run_id, run_id=execution_id)
    try:
        events = (await handle.fetch_history()).events
    except RPCError as error:
        raise _not_found(run_id, error) from error
    seen = _count_complete(events)
    signals = [await _decode_signal(client, run_id, event, i < seen) for i, event in enumerate(events)]
    return Execution(
        run_id=run_id,
        execution_id=execution_id,
        given=await _decode_input(client, run_id, events[0]),
        events=events,
        signals=tuple(signal for signal in signals if signal is not None),
    )


async def _decode_input(client: Client, run_id: str, first: HistoryEvent) -> Mapping[str, Any]:
    payloads = first.workflow_execution_started_event_attributes.input.payloads
    (packed,) = await _decode(client, run_id, payloads, [bytes])
    given: Mapping[str, Any] = unpack(packed)
    try:
        check_format(given, f"the input of run {run_id!r}", "update it")
    except ValueError as error:
        raise SnapshotError(str(error)) from None
    return given


async def _decode_signal(client: Client, run_id: str, event: HistoryEvent, is_seen: bool) -> AcceptedSignal | None:  # noqa: FBT001
    signalled = event.workflow_execution_signaled_event_attributes
    request = event.workflow_execution_update_accepted_event_attributes.accepted_request.input
    if signalled.signal_name == SIGNAL:
        name, payload = await _decode(client, run_id, signalled.input.payloads, [str, bytes])
    elif request.name == ANSWER:
        token, payload = await _decode(client, run_id, request.args.payloads, [str, bytes])
        name = answer_signal(token)
    else:
        return None
    return AcceptedSignal(name, payload, event.event_time.ToMilliseconds(), is_seen)


async def _decode(client: Client, run_id: str, payloads: Iterable[Payload], types: list[type]) -> list[Any]:
    context = WorkflowSerializationContext(namespace=client.namespace, workflow_id=run_id)
    return await client.data_converter.with_context(context).decode(list(payloads), types)


def _count_complete(events: Sequence[HistoryEvent]) -> int:
    """Return the number of events up to the last complete workflow task, with those that it caused itself.

    A replay of later events would decide on them at a time that is not yet certain: the task may be tried again.
    """
    ends = [i for i, event in enumerate(events) if event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_COMPLETED]
    if not ends:
        return 0
    end = ends[-1] + 1
    while end < len(events) and _is_command(events[end]):
        end += 1
    return end


def _is_command(event: HistoryEvent) -> bool:
    attributes = getattr(event, event.WhichOneof("attributes") or "", None)
    return event.event_type in _UPDATES or hasattr(attributes, "workflow_task_completed_event_id")


def _not_found(run_id: str, error: RPCError) -> Exception:
    if error.status != RPCStatusCode.NOT_FOUND:
        return error
    return RunNotFound(run_id, NO_RUN)
