"""An accepted answer counts once, whichever process gave it, even if that process is killed right after."""

import asyncio
from pathlib import Path

import pytest
from killed_processes import run_child

from beluga_graph import Engine, RunConflict

HERE = Path(__file__).parent


def child(folder: Path, job: str) -> str | None:
    """Return the output of the process; `None` if it killed itself."""
    return run_child(HERE / "approval_child.py", folder, job)


@pytest.mark.parametrize("jobs", [["park", "answer"], ["answer-here"]], ids=["another process", "the owner"])
def test_an_answer_survives_a_kill_right_after_it_and_counts_once(tmp_path: Path, jobs: list[str]) -> None:
    for job in jobs:
        assert child(tmp_path, job) is None

    async def second_answer() -> None:
        async with Engine(tmp_path / "store") as engine:
            assert await engine.pending() == []
            with pytest.raises(RunConflict, match="has been answered already"):
                await engine.answer("r", "pay.approval#1", "reject")

    asyncio.run(second_answer())
    assert child(tmp_path, "recover") == "12"
    assert (tmp_path / "log").read_text().splitlines() == ["prepare 1", "pay 10", "tell 11"]


def test_a_question_survives_a_kill(tmp_path: Path) -> None:
    assert child(tmp_path, "park") is None

    async def answered() -> None:
        async with Engine(tmp_path / "store") as engine:
            (question,) = await engine.pending()
            assert (question.run_id, question.node, question.value) == ("r", "pay", 2)
            await engine.answer("r", question.id, "approve")

    asyncio.run(answered())
    assert child(tmp_path, "recover") == "4"
    assert (tmp_path / "log").read_text().splitlines() == ["prepare 1", "pay 2", "tell 3"]
