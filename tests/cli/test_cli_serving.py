"""The command that serves flows: what it runs, hands back, prints and publishes."""

import asyncio
import json
import os
import signal
from pathlib import Path

import cli_flows
import pytest
from cli_documents import spawn, wait_for
from cli_runs import HERE, PATIENCE_S, as_json, begin, eventually, log, said, serving, status

from beluga_graph import EventBus


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_server_finishes_running_nodes_and_another_process_continues(
    store: Path, tmp_path: Path, number: signal.Signals
) -> None:
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    (tmp_path / "log").unlink(missing_ok=True)
    with serving(store, "cli_flows:gated") as process:
        eventually(lambda: log(tmp_path) == ["r first begins"])
        process.send_signal(number)
        (tmp_path / "open").touch()  # so the node ends within the grace
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, output) == (0, "stopped; every run was handed back\n")
    # If the process sees the file before the signal, it begins and finishes one more node.
    assert log(tmp_path) in (done := ["r first begins", "r first ends"], [*done, "r second"])
    with serving(store, "cli_flows:gated"):
        eventually(lambda: status(store, "r") == "completed")
    assert log(tmp_path) == [*done, "r second"]


def test_a_node_that_exceeds_the_grace_runs_again_elsewhere(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    (tmp_path / "log").unlink(missing_ok=True)
    with serving(store, "cli_flows:gated", grace=0.05) as process:
        eventually(lambda: log(tmp_path) == ["r first begins"])
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert (process.returncode, output) == (0, "stopped; every run was handed back\n")
    (tmp_path / "open").touch()
    with serving(store, "cli_flows:gated"):
        eventually(lambda: status(store, "r") == "completed")
    assert log(tmp_path) == ["r first begins", "r first begins", "r first ends", "r second"]


def test_a_served_run_is_answered_signalled_and_cancelled_from_another_process(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    begin(store, cli_flows.gated, str(tmp_path), "c", "running")
    with serving(store, "cli_flows:asking", "cli_flows:gated"):
        said("answer", "r", "pay.approval#1", "approve", "--store", store)
        eventually(lambda: "r pay" in log(tmp_path))
        said("signal", "r", "shipped", '"by sea"', "--store", store)
        eventually(lambda: status(store, "r") == "completed")
        assert as_json("show", "r", "--store", store)["output"] == "by sea"
        assert said("cancel", "c", "--store", store) == "run 'c' is cancelled"


def test_why_reports_the_process_that_drives_a_run_and_its_death(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    (tmp_path / "log").unlink(missing_ok=True)
    with serving(store, "cli_flows:gated"):
        eventually(lambda: log(tmp_path) == ["r first begins"])
        driven = as_json("why", "r", "--store", store)
        assert [reason["kind"] for reason in driven["reasons"]] == ["attempt"]
        assert "is under way in another engine, on this machine" in driven["reasons"][0]["text"]
    killed = as_json("why", "r", "--store", store)
    assert [reason["kind"] for reason in killed["reasons"]] == ["owner", "attempt"]
    assert "has died" in killed["reasons"][0]["text"]
    assert killed["reasons"][0]["command"] == f"beluga-graph serve MODULE:FLOW --store {store}"


def test_serve_creates_the_store_and_reports_it_in_json_lines(store: Path) -> None:
    process = spawn("serve", "cli_flows:asking", "cli_flows:gated", "--store", store, "--json", cwd=HERE)
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == {"event": "ready", "flows": ["asking", "gated"], "new_store": True}
    assert (store / "data.mdb").exists()
    process.send_signal(signal.SIGTERM)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert json.loads(output) == {"event": "stopped"}
    assert process.returncode == 0


def test_the_ends_of_served_runs_are_printed_and_published_on_a_bus(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    process = spawn("serve", "cli_flows:asking", "--store", store, "--bus", store, cwd=HERE)
    try:
        wait_for(process, "SIGTERM or Ctrl-C ends it")
        said("answer", "r", "pay.approval#1", "approve", "--store", store)
        said("signal", "r", "shipped", '"by sea"', "--store", store)
        eventually(lambda: status(store, "r") == "completed")
        process.send_signal(signal.SIGTERM)
        output, _ = process.communicate(timeout=PATIENCE_S)
    finally:
        process.kill()
    assert "run 'r' is completed\n" in output
    assert output.endswith("stopped; every run was handed back\n")

    async def topics() -> list[str]:
        async with EventBus(store) as bus:
            return [event.topic for event in await bus.trace("r")]

    assert asyncio.run(topics())[-1] == "run.completed"


def test_serve_refuses_wrong_arguments(store: Path) -> None:
    assert "Missing argument" in said("serve", "--store", store, code=2)
    assert "has no 'nothing'" in said("serve", "cli_flows:nothing", "--store", store, code=1)
    assert "Invalid value for '--max-runs'" in said(
        "serve", "cli_flows:asking", "--max-runs", 0, "--store", store, code=2
    )
    assert "two flows are called 'asking'" in said(
        "serve", "cli_flows:asking", "cli_flows:asking_again", "--store", store, code=2
    )
    assert not store.exists()


def test_ctrl_c_leaves_a_resumed_run_on_disk(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    (tmp_path / "log").unlink(missing_ok=True)
    process = spawn("resume", "r", "--flow", "cli_flows:gated", "--store", store, cwd=HERE)
    eventually(lambda: log(tmp_path) == ["r first begins"])
    os.kill(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, output) == (130, "")
    (tmp_path / "open").touch()
    assert "gone through" in said("resume", "r", "--flow", "cli_flows:gated", "--store", store)
