"""A process is killed around the relay of a message: the next process relays it, and no message twice."""

import json
from pathlib import Path
from typing import Any

import pytest
from killed_processes import run_child

HERE = Path(__file__).parent
TOPICS = ["run.started", "first.a", "first.b", "second", "run.completed"]


def walk(folder: Path, dies_at: str = "-", when: str = "-", on: str = "same") -> dict[str, Any] | None:
    """Return the output of the process; `None` if it was killed."""
    output = run_child(HERE / "bus_child.py", folder, dies_at, when, on)
    said: dict[str, Any] | None = None if output is None else json.loads(output)
    return said


@pytest.mark.parametrize("on", ["same", "own"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("dies_at", TOPICS)
def test_each_message_of_a_committed_step_is_published_once_despite_kills(
    tmp_path: Path, dies_at: str, when: str, on: str
) -> None:
    for _ in range(2 if when == "before" else 1):  # as long as the bus does not have it, each new process dies, too
        assert walk(tmp_path, dies_at, when, on) is None
    said = walk(tmp_path, on=on)
    assert said is not None
    assert said["trace"] == TOPICS
    assert said["left"] == 0
    assert set(said["heard"]) <= set(TOPICS)
    again = walk(tmp_path, on=on)
    assert again == {"trace": TOPICS, "heard": [], "left": 0}
