"""A killed workflow continues after its last finished step, and its deadline does not move."""

from pathlib import Path

import pytest
from killed_processes import run_child

HERE = Path(__file__).parent
TOO_LATE = (
    "run 'r': failed: Timeout: the run passed its deadline of 60 s; mend the cause and resume the run, or cancel it"
)


def walk(folder: Path, dies_in: str = "-", late_s: float = 0) -> str | None:
    """Return the output of the process; `None` if it was killed."""
    return run_child(HERE / "workflow_child.py", folder, dies_in, late_s)


@pytest.mark.parametrize("dies_in", ["ingest", "process", "publish"])
def test_no_finished_step_runs_again_after_a_kill(tmp_path: Path, dies_in: str) -> None:
    assert walk(tmp_path, dies_in) is None
    assert walk(tmp_path) == "11"
    steps = ["ingest", "process", "publish"]
    expected = [name for step in steps for name in [step] * (1 + (step == dies_in))]
    assert (tmp_path / "log").read_text().split() == expected
    assert walk(tmp_path) == "11"
    assert (tmp_path / "log").read_text().split() == expected


def test_the_deadline_survives_a_kill_and_takes_effect_before_the_step_runs_again(tmp_path: Path) -> None:
    assert walk(tmp_path, "process") is None
    assert walk(tmp_path, "process", 59) is None
    assert walk(tmp_path, late_s=60) == TOO_LATE
    assert (tmp_path / "log").read_text().split() == ["ingest", "process", "process"]
