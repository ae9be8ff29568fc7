"""The sandbox of the workflows: they load the kernel and the pure modules only, and no code of a flow."""

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

PACKAGES = {"beluga_graph", "beluga_graph.temporal", "beluga_graph.temporal.workflow"}
WORKFLOW_MODULES = {
    "run_workflow": {
        "activity_ids",
        "attempt_queue",
        "dispatch",
        "driver",
        "inputs",
        "live_options",
        "logged_step",
        "message_queue",
        "outbox",
        "pieces",
        "reply_checks",
        "retries",
        "run_options",
        "run_workflow",
        "server_names",
        "session_return",
        "wire",
    },
    "session_workflow": {"inputs", "pieces", "session_workflow", "wire"},
    "outbox_workflow": {"inputs", "message_queue", "outbox_workflow", "pieces", "retries", "wire"},
}
KERNEL_MODULES = {
    "run_workflow": None,  # any: the whole kernel may decide on runs
    "session_workflow": {"run_session", "structural_names", "triggers", "types"},
    "outbox_workflow": {"structural_names", "triggers", "types"},
}
LIST = """
import json, sys
import beluga_graph.temporal.workflow.{}
print(json.dumps([name for name in sys.modules if name.partition(".")[0] in ("beluga_graph", "stores")]))
"""


@pytest.mark.parametrize("name", WORKFLOW_MODULES)
def test_a_workflow_loads_its_pure_modules_only(name: str) -> None:
    listed = subprocess.run([sys.executable, "-c", LIST.format(name)], check=True, capture_output=True, text=True)
    loaded = set(json.loads(listed.stdout))
    kernel = {each for each in loaded if f"{each}.".startswith("beluga_graph.kernel.")}
    assert loaded - kernel == PACKAGES | {f"beluga_graph.temporal.workflow.{each}" for each in WORKFLOW_MODULES[name]}
    allowed = KERNEL_MODULES[name]
    assert allowed is None or kernel == {"beluga_graph.kernel", *(f"beluga_graph.kernel.{each}" for each in allowed)}


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
    assert len(runners) == 2  # for the runs of the flow, and for what outlives its version
    for runner in runners:
        assert isinstance(runner, SandboxedWorkflowRunner)
        assert not [name for name in runner.restrictions.passthrough_modules if name.startswith(("beluga", "tests"))]
