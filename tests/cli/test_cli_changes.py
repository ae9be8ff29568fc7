"""The commands for flows that have changed: `resume --rename`, and `check` with several versions."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cli_documents import spawn

from beluga_graph import Engine, Workflow, sleep, wait_signal

OLD = Workflow("flow", sleep("nap", 3600), sleep("doze", 3600))
RENAMED = """
from beluga_graph import Workflow, sleep
flow = Workflow("flow", sleep("pause", 3600), sleep("doze", 3600))
"""
KEEPS = "the run keeps its version, so register that one too"
VERSIONS = """
from beluga_graph import Workflow, wait_signal
one, two = (Workflow("flow", wait_signal("go"), version=version) for version in "12")
"""


def begin(folder: Path, flow: Workflow) -> None:
    """Start a run in this process, and leave it in the store."""

    async def start() -> None:
        async with Engine(folder / "store") as engine:
            await engine.start(flow, 1, run_id="r")

    asyncio.run(start())


def call(folder: Path, *args: str) -> tuple[int, str]:
    """Return the exit code of a command, and its output on one line."""
    process = spawn(*args, "--store", folder / "store", cwd=folder)
    output, _ = process.communicate()
    return process.returncode, " ".join(output.split())


def test_resume_continues_a_run_at_a_renamed_node(tmp_path: Path) -> None:
    begin(tmp_path, OLD)
    (tmp_path / "renamed.py").write_text(RENAMED)
    resume = ("resume", "r", "--flow", "renamed:flow")
    code, output = call(tmp_path, *resume)
    assert code == 1
    assert "node 'nap' is gone: the run is at this node" in output
    assert output.endswith("these renames are: --rename=nap=pause")
    code, output = call(tmp_path, *resume, "--rename=nap=pause")
    assert code == 0, output
    assert output.startswith("run 'r' waits for its timer")
    assert call(tmp_path, *resume) == (0, output), "it has adopted the graph"


@pytest.mark.parametrize(
    ("renames", "code", "message"),
    [
        (("nap",), 2, "is not a rename: write OLD=NEW"),
        (("nap=",), 2, "is not a rename: write OLD=NEW"),
        (("nap=pause", "nap=doze"), 2, "'nap' has two new names: 'pause' and 'doze'"),
        (("nap=x",), 1, "the new graph has no node 'x'"),
        (("x=pause",), 1, "the graph of the run has no such node"),
    ],
)
def test_an_impossible_rename_is_refused(tmp_path: Path, renames: tuple[str, ...], code: int, message: str) -> None:
    begin(tmp_path, OLD)
    (tmp_path / "renamed.py").write_text(RENAMED)
    options = [part for rename in renames for part in ("--rename", rename)]
    found, output = call(tmp_path, "resume", "r", "--flow", "renamed:flow", *options)
    assert found == code
    assert message in output.replace("│", "").replace("  ", " ")


def test_check_takes_the_versions_of_a_flow_together(tmp_path: Path) -> None:
    begin(tmp_path, Workflow("flow", wait_signal("go"), version="1"))
    (tmp_path / "versions.py").write_text(VERSIONS)
    assert call(tmp_path, "check", "versions:two") == (
        1,
        f"run cannot continue with r the graph: version was '1' and is '2': {KEEPS}",
    )
    assert call(tmp_path, "check", "versions:one", "versions:two") == (
        0,
        "unfinished runs: 1; all can continue with versions:one, versions:two",
    )
