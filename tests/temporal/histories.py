"""Recorded histories of runs on a server, and what they replay to; `record_histories.py` records them.

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

from temporalio.client import WorkflowHistory
from temporalio.converter import DataConverter

from beluga_graph.temporal.connection.history import Execution
from beluga_graph.temporal.mirror.replay import ReplayedRun, replay_execution
from beluga_graph.temporal.workflow.wire import unpack

__all__ = ["FOLDER", "PATTERNS", "Pattern", "read_golden", "read_histories", "replay", "show"]

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
}


def read_histories(name: str) -> list[WorkflowHistory]:
    """Return the recorded histories of a run's executions."""
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


def _show_bytes(value: Any) -> str:
    assert isinstance(value, bytes), value
    return value.hex() if len(value) <= 200 else f"{len(value)} bytes, SHA-256 {sha256(value).hexdigest()}"
