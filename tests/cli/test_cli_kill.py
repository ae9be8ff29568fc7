"""The demo, killed again and again: finished work is not repeated, and the report has the same bytes."""

import asyncio
import os
import pty
import random
import signal
import time
from collections import Counter
from hashlib import sha256
from pathlib import Path

import pytest
from cli_documents import ROOT, invoke, spawn, spawn_gated, wait_for, write_documents

from beluga_graph import Engine, RunStatus, StepInfo

KILLS = 10
DOCUMENTS = 120
CHILD = (str(ROOT / "tests/cli/cli_logging_child.py"),)


def steps_on(store: Path) -> list[StepInfo]:
    """Return the steps of the store's one run."""

    async def look() -> list[StepInfo]:
        async with Engine(store) as engine:
            runs = await engine.runs()
            assert len(runs) <= 1
            return await engine.history(runs[0].run_id) if runs else []

    return asyncio.run(look()) if store.exists() else []


def finished(steps: list[StepInfo]) -> list[str]:
    return [step.token for step in steps if step.trigger == "NodeFinished"]


@pytest.mark.parametrize("durability", ["commit", "batch"])
def test_a_run_that_was_killed_ten_times_writes_the_same_report(tmp_path: Path, durability: str) -> None:
    documents = write_documents(tmp_path / "documents", DOCUMENTS)
    by_digest = {sha256(path.read_bytes()).hexdigest(): path.name for path in documents.glob("*_*.*")}
    whole = invoke("demo", documents, "--store", tmp_path / "whole", "--output", tmp_path / "whole.md", "--slow", 0)
    assert whole.exit_code == 0, whole.output

    seed = int.from_bytes(os.urandom(4), "big")
    print(f"{seed=}")
    chance = random.Random(seed)
    store, report, log = tmp_path / "store", tmp_path / "report.md", tmp_path / "log"
    command = (log, "demo", documents, "--store", store, "--output", report, "--durability", durability)
    log.touch()
    before: list[StepInfo] = []
    for life in range(KILLS):
        reads_before = log.read_text().split()
        process = spawn(*command, "--slow", 0.05, program=CHILD)
        if life % 3:  # else somewhere in the start of the process
            wait_for(process, ("", "kill it at any moment", " documents, ")[life % 3])
        time.sleep(chance.uniform(0.0, 0.25 if life % 3 else 0.6))
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL
        steps = steps_on(store)
        assert steps[: len(before)] == before, "what was committed is still there, and the same"
        assert_no_second_read(before, log.read_text().split()[len(reads_before) :], by_digest)
        before = steps

    reads_before = log.read_text().split()
    process = spawn(*command, "--slow", 0, program=CHILD)
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert len(finished(before)) > 20, "the kills came in the middle"
    done = sum(token.endswith("/document#1") for token in finished(before))
    assert (
        f"{done} of {DOCUMENTS} documents were done ({len(finished(before))} nodes); nothing of that runs again"
        in output
    )
    steps = steps_on(store)
    assert steps[: len(before)] == before
    assert_no_second_read(before, log.read_text().split()[len(reads_before) :], by_digest)
    assert set(Counter(finished(steps)).values()) == {1}, "every node finished once"
    here = len(finished(steps)) - len(finished(before))
    assert f"{here} run by this process, {len(finished(before))} were done before" in output
    assert report.read_bytes() == (tmp_path / "whole.md").read_bytes()
    assert finished(steps_on(tmp_path / "whole")) != []
    assert sorted(finished(steps)) == sorted(finished(steps_on(tmp_path / "whole")))


def assert_no_second_read(before: list[StepInfo], reads: list[str], by_digest: dict[str, str]) -> None:
    """Check that a process read no document whose read was on disk before the process began."""
    outputs = [event.output for step in before for event in step.events if event.node == "read"]
    done = {output.fields["document"].fields["path"] for output in outputs}
    again = done & {by_digest[digest] for digest in reads if digest in by_digest}
    assert not again


def test_a_killed_process_leaves_the_cursor_visible(tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents")
    parent, child = pty.openpty()
    command = ("demo", documents, "--store", tmp_path / "store", "--output", tmp_path / "report.md", "--slow", 0.2)
    process = spawn(*command, stdin=child, stdout=child, stderr=child, text=False)
    os.close(child)
    seen = b""
    while b" nodes" not in seen:
        seen += os.read(parent, 4096)
    time.sleep(0.3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while True:
        try:
            seen += os.read(parent, 4096)
        except OSError:  # all output was read, and the process has ended
            break
    os.close(parent)
    assert b"reading" in seen
    assert seen.rfind(b"\x1b[?25h") > seen.rfind(b"\x1b[?25l")


def test_a_run_that_another_process_drives_is_busy(tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents")
    command = ("demo", documents, "--store", tmp_path / "store", "--output", tmp_path / "report.md")
    first = spawn_gated(1, *command)
    try:
        wait_for(first, "kill it at any moment")
        second = spawn(*command)
        output, _ = second.communicate()
        assert second.returncode == 4, output
        assert "another process is working on it: wait until it ends, or stop it" in output
        assert "Traceback" not in output
    finally:
        first.kill()
        first.communicate()


def test_ctrl_c_stops_and_explains_how_to_continue(tmp_path: Path) -> None:
    documents = write_documents(tmp_path / "documents")
    command = ("demo", documents, "--store", tmp_path / "store", "--output", tmp_path / "report.md")
    process = spawn_gated(4, *command)
    wait_for(process, "documents, ")
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate()
    assert process.returncode == 130, output
    assert "the same command continues from here" in output
    assert "Traceback" not in output
    again = invoke(*command, "--slow", 0)
    assert again.exit_code == 0, again.output
    assert "continuing run" in again.output
    assert steps_on(tmp_path / "store")[-1].events[-1].type == "done"
    assert RunStatus.completed in invoke("runs", "--store", tmp_path / "store").output
