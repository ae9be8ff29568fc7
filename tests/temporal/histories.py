"""Recorded histories of workflows on a server, and what they replay to; `record_histories.py` records them.

A release must replay the histories of earlier ones. So a recorded history is only replaced if a break with the running
workflows of users is intended. A new pattern gets a new name in `PATTERNS`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

from temporalio import workflow
from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter
from temporalio.worker import (
    ContinueAsNewInput,
    HandleSignalInput,
    HandleUpdateInput,
    Interceptor,
    Replayer,
    StartActivityInput,
    UnsandboxedWorkflowRunner,
    WorkflowInboundInterceptor,
    WorkflowInterceptorClassInput,
    WorkflowOutboundInterceptor,
)

from beluga_graph.temporal.connection.history import Execution
from beluga_graph.temporal.mirror.replay import ReplayedRun, replay_execution
from beluga_graph.temporal.workflow.outbox_workflow import OutboxWorkflow
from beluga_graph.temporal.workflow.session_workflow import SessionWorkflow
from beluga_graph.temporal.workflow.wire import pack, unpack

__all__ = [
    "FOLDER",
    "OTHERS",
    "PATTERNS",
    "Pattern",
    "read_golden",
    "read_histories",
    "replay",
    "show",
    "show_replayed",
]

FOLDER = Path(__file__).with_name("histories")


@dataclass(frozen=True)
class Pattern:
    """A run to record: an entry of the parity flows, and how it runs."""

    entry: str
    durability: Any = "commit"
    options: Mapping[str, Any] = field(default_factory=dict)


PATTERNS: Mapping[str, Pattern] = {
    "chain": Pattern("crash_chain"),
    "loop": Pattern("crash_loop"),
    "branch": Pattern("choosing"),
    "fan_out": Pattern("bounded_fan_out"),
    "nested": Pattern("crash_nested"),
    "race": Pattern("crash_race"),
    "collect": Pattern("collected"),
    "retry": Pattern("crash_retry"),
    "frame_retry": Pattern("frame_retry"),
    "error_edge": Pattern("error_edge"),
    "failed": Pattern("retry_exhausted"),
    "timeout": Pattern("attempt_timeout"),
    "join_timeout": Pattern("join_timeout"),
    "deadline": Pattern("frame_deadline"),
    "waits": Pattern("three_waits"),
    "wait_timeout": Pattern("default_of_a_wait"),
    "cancelled": Pattern("cancel_waiting"),
    "approval": Pattern("approvals_of_branches"),
    "agent": Pattern("using_tools"),
    "handoff": Pattern("handing_over"),
    "supervisor": Pattern("supervising"),
    "loops": Pattern("nested_loops"),
    "state": Pattern("crash_state"),
    "continued": Pattern("crash_nested", options={"continue_events": 1}),
    "batch": Pattern("sync_fan_out", "batch"),
    "batch_of_routes": Pattern("routed_fan_out", "batch"),
    "ahead": Pattern("crash_loop", "batch"),
    "ahead_state": Pattern("state_of_frames", "batch"),
    "publishing": Pattern("publishing", options={"announces": True}),
}

OTHERS = ("outbox", "session")
"""The workflows of other types that are recorded."""


def read_histories(name: str) -> list[WorkflowHistory]:
    """Return the recorded histories of a workflow's executions."""
    packed = gzip.decompress((FOLDER / f"{name}.json.gz").read_bytes())
    return [WorkflowHistory.from_json(name, history) for history in json.loads(packed)]


def read_golden(name: str) -> list[Any]:
    """Return what the histories replayed to when they were recorded."""
    golden: list[Any] = json.loads((FOLDER / f"{name}.golden.json").read_text())
    return golden


async def replay(history: WorkflowHistory) -> ReplayedRun:
    """Replay one execution. Raises `SnapshotError` if the workflow decides otherwise than the history has it."""
    first = history.events[0].workflow_execution_started_event_attributes
    (packed,) = await DataConverter.default.decode(list(first.input.payloads), [bytes])
    execution = Execution(
        run_id=history.workflow_id,
        execution_id=first.original_execution_run_id,
        given=unpack(packed),
        events=history.events,
        signals=(),
    )
    return await replay_execution(execution, DataConverter.default)


def show(replayed: ReplayedRun) -> list[Any]:
    """Return the steps of an execution and the run after them, as JSON has them."""
    steps = [
        [step.seq, step.at_ms, type(step.trigger).__name__, step.trigger._asdict(), step.patch._asdict()]
        for step in replayed.steps
    ]
    shown: list[Any] = json.loads(json.dumps([steps, replayed.run.to_plain()], default=_show_bytes))
    return shown


async def show_replayed(name: str, history: WorkflowHistory) -> list[Any]:
    """Return what the execution of a run or another workflow replays to, as JSON has it. Raises the replay's error."""
    if name in PATTERNS:
        return show(await replay(history))
    decisions = _Decisions()
    replayer = Replayer(
        workflows=[SessionWorkflow, OutboxWorkflow],
        workflow_runner=UnsandboxedWorkflowRunner(),
        interceptors=[decisions],
    )
    await replayer.replay_workflow(history)
    shown: list[Any] = json.loads(json.dumps(decisions.found, default=_show_bytes))
    return shown


class _Decisions(Interceptor):
    """Notes what a workflow decides: its activities, its state after each request, and what it continues as."""

    def __init__(self) -> None:
        self.found: list[tuple[Any, ...]] = []

    def workflow_interceptor_class(
        self,
        input: WorkflowInterceptorClassInput,  # noqa: A002 - the SDK's name
    ) -> type[WorkflowInboundInterceptor]:
        found = self.found

        class Outbound(WorkflowOutboundInterceptor):
            def start_activity(self, input: StartActivityInput) -> workflow.ActivityHandle[Any]:  # noqa: A002
                found.append((input.activity, input.task_queue, unpack(input.args[0])))
                return super().start_activity(input)

            def continue_as_new(self, input: ContinueAsNewInput) -> Any:  # noqa: A002
                found.append(("continue as new", unpack(input.args[0])))
                super().continue_as_new(input)

        class Inbound(WorkflowInboundInterceptor):
            def init(self, outbound: WorkflowOutboundInterceptor) -> None:
                super().init(Outbound(outbound))

            async def handle_signal(self, input: HandleSignalInput) -> None:  # noqa: A002
                await super().handle_signal(input)
                found.append((input.signal, _state()))

            async def handle_update_handler(self, input: HandleUpdateInput) -> Any:  # noqa: A002
                answer = await super().handle_update_handler(input)
                found.append((input.update, unpack(answer), _state()))
                return answer

        return Inbound


def _state() -> Any:
    instance: Any = workflow.instance()
    return unpack(pack(instance._state()))


def _show_bytes(value: Any) -> str:
    assert isinstance(value, bytes), value
    return value.hex() if len(value) <= 200 else f"{len(value)} bytes, SHA-256 {sha256(value).hexdigest()}"
