"""The sandbox of the workflow: it loads the kernel and the pure modules only, and no code of a flow."""

from __future__ import annotations

import json
import subprocess
import sys
from secrets import token_hex

import pytest
from parity_waits import pauses
from servers import Server
from temporalio.worker import Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

import beluga_graph.temporal.worker
from beluga_graph.temporal import TemporalEngine

PURE = {
    "beluga_graph",
    "beluga_graph.temporal",
    "beluga_graph.temporal.workflow",
    "beluga_graph.temporal.workflow.attempt_queue",
    "beluga_graph.temporal.workflow.dispatch",
    "beluga_graph.temporal.workflow.session_return",
    "beluga_graph.temporal.workflow.live_record",
    "beluga_graph.temporal.workflow.logged_step",
    "beluga_graph.temporal.workflow.run_options",
    "beluga_graph.temporal.workflow.outbox",
    "beluga_graph.temporal.workflow.pieces",
    "beluga_graph.temporal.workflow.reply_checks",
    "beluga_graph.temporal.workflow.run_workflow",
    "beluga_graph.temporal.workflow.wire",
    "beluga_graph.temporal.workflow.driver",
}
LIST = """
import json, sys
import beluga_graph.temporal.workflow.run_workflow
print(json.dumps([name for name in sys.modules if name.partition(".")[0] in ("beluga_graph", "stores")]))
"""


def test_the_workflow_loads_the_kernel_and_its_pure_modules_only() -> None:
    listed = subprocess.run([sys.executable, "-c", LIST], check=True, capture_output=True, text=True)
    loaded = {name for name in json.loads(listed.stdout) if not f"{name}.".startswith("beluga_graph.kernel.")}
    assert loaded == PURE


async def test_workers_run_the_workflow_in_the_sandbox(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[Worker] = []

    class Noted(Worker):
        def __init__(self, *args: object, **options: object) -> None:
            super().__init__(*args, **options)  # type: ignore[arg-type]
            made.append(self)

    monkeypatch.setattr(beluga_graph.temporal.worker, "Worker", Noted)
    engine = TemporalEngine(temporal_server.address, task_queue=token_hex(4))
    async with engine, engine.worker([pauses()]):
        runners = [worker.config()["workflow_runner"] for worker in made if worker.config()["workflows"]]
    (runner,) = runners
    assert isinstance(runner, SandboxedWorkflowRunner)
    assert not [name for name in runner.restrictions.passthrough_modules if name.startswith(("beluga", "tests"))]
