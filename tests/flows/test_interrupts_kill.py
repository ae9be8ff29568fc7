"""An interrupting signal is delivered once, wherever the process was killed."""

from pathlib import Path

import pytest
from killed_processes import run_child

HERE = Path(__file__).parent


def walk(folder: Path, dies_in: str = "-", *signals: str) -> str | None:
    """Return the output of the process; `None` if it was killed."""
    return run_child(HERE / "interrupt_child.py", folder, dies_in, *signals)


@pytest.mark.parametrize("dies_in", ["pay", "ship", "refund", "tell"])
def test_a_run_that_was_killed_is_interrupted_once(tmp_path: Path, dies_in: str) -> None:
    assert walk(tmp_path, dies_in, *([] if dies_in in ("pay", "ship") else ["cancel=late"])) is None
    assert walk(tmp_path, "-", *(["cancel=late"] if dies_in in ("pay", "ship") else [])) == "late"
    lines = (tmp_path / "log").read_text().split()
    assert [line for line in lines if not line.startswith("ship")] == [
        *["pay:7"] * (1 + (dies_in == "pay")),
        *["refund:late"] * (1 + (dies_in == "refund")),
        *["tell:late"] * (1 + (dies_in == "tell")),
    ]
    assert walk(tmp_path) == "late"


def test_a_second_signal_stays_unread_across_a_kill(tmp_path: Path) -> None:
    assert walk(tmp_path, "refund", "cancel=1", "cancel=2") is None
    assert walk(tmp_path) == "1"
    assert (tmp_path / "log").read_text().split().count("refund:1") == 2
