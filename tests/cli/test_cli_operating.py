"""The commands that act on runs: their effects, exit codes, text and JSON."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cli_flows
import pytest
from cli_documents import ENVIRONMENT, invoke, spawn, wait_for

from beluga_graph import END, START, Engine, EventBus, Graph, RunStatus, Workflow, wait_signal
from beluga_graph.flows.flow import Flow

HERE = Path(__file__).parent
PATIENCE_S = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Return the path of a store that does not exist yet."""
    return tmp_path / "store"


def begin(store: Path, flow: Flow, value: Any, run_id: str, until: str = "waiting") -> None:
    """Start a run in this process, and leave it on disk once it has a status."""

    async def start() -> None:
        async with Engine(store) as engine:
            run = await engine.start(flow, value, run_id=run_id)
            async with asyncio.timeout(PATIENCE_S):
                while await run.status() != until:  # noqa: ASYNC110  # status changes are not announced
                    await asyncio.sleep(0.005)

    asyncio.run(start())


def status(store: Path, run_id: str) -> RunStatus:
    async def ask() -> RunStatus:
        async with Engine(store) as engine:
            return await engine.status(run_id)

    return asyncio.run(ask())


def said(*args: object, code: int = 0) -> str:
    """Return the output of a command on one line."""
    result = invoke(*args)
    assert result.exit_code == code, result.output
    return " ".join(result.output.split())


def as_json(*args: object, code: int = 0) -> Any:
    result = invoke(*args, "--json")
    assert result.exit_code == code, result.output
    assert result.stdout.isascii()
    return json.loads(result.stdout)


def eventually(holds: Callable[[], Any]) -> None:
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, "the condition never became true"
        time.sleep(0.01)


def log(folder: Path) -> list[str]:
    return (folder / "log").read_text().splitlines() if (folder / "log").exists() else []


# Listing.


def test_runs_are_listed_by_status_and_flow_with_whole_ids(store: Path, tmp_path: Path) -> None:
    long = "an-id-that-is-longer-than-the-terminal-is-wide-" + "x" * 40
    begin(store, cli_flows.counting, 1, long, "completed")
    begin(store, cli_flows.asking, str(tmp_path), "asks")
    assert [run["run_id"] for run in as_json("runs", "--store", store, "--status", "waiting")] == ["asks"]
    both = as_json("runs", "--store", store, "--status", "waiting", "--status", "completed")
    assert [run["run_id"] for run in both] == [long, "asks"]
    assert [run["run_id"] for run in as_json("runs", "--store", store, "--flow", "counting")] == [long]
    assert "no such run in" in said("runs", "--store", store, "--flow", "nothing")
    assert "Invalid value for '--status'" in said("runs", "--store", store, "--status", "dead", code=2)
    narrow = spawn("runs", "--store", store, env={**ENVIRONMENT, "COLUMNS": "40", "FORCE_COLOR": "1", "TERM": "dumb"})
    output, _ = narrow.communicate()
    assert long in output


def test_events_are_listed_after_a_step(store: Path) -> None:
    begin(store, cli_flows.counting, 5, "r", "completed")
    assert [event["type"] for event in as_json("events", "r", "--store", store)] == [
        "run_started",
        "node_finished",
        "node_finished",
        "done",
    ]
    assert [event["seq"] for event in as_json("events", "r", "--store", store, "--after", 2)] == [3, 3]
    lines = invoke("events", "r", "--store", store).output.splitlines()
    assert lines[1].split() == ["1.0", "run_started", "output:", "5"]
    assert "error: run 'nobody': no such run" in said("events", "nobody", "--store", store, code=1)


# Input for runs.


@pytest.mark.parametrize(
    ("args", "payload"),
    [
        ((), None),
        (("null",), None),
        (('{"by": "sea", "n": [1, 2.5, true]}',), {"by": "sea", "n": [1, 2.5, True]}),
        (('"quoted"',), "quoted"),
        (("plain words", "--text"), "plain words"),
        (("12", "--text"), "12"),
        (("--text", "--", "-1"), "-1"),
        (("--", "-1"), -1),
    ],
)
def test_a_signal_carries_json_or_text(store: Path, tmp_path: Path, args: tuple[str, ...], payload: Any) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    assert said("signal", "--store", store, "r", "shipped", *args) == "signal 'shipped' is accepted for run 'r'"
    said("answer", "r", "pay.approval#1", "approve", "--store", store)
    done = as_json("resume", "r", "--flow", "cli_flows:asking", "--store", store)
    assert (done["outcome"]["status"], done["outcome"]["output"]) == ("completed", payload)


@pytest.mark.parametrize("text", ["plain", "{'a': 1}", "NaN", "", "[" * 100_000, '{"a": Infinity}'])
def test_text_that_is_not_json_is_refused(store: Path, tmp_path: Path, text: str) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    output = said("signal", "r", "shipped", text, "--store", store, code=2)
    assert "is not JSON" in output
    assert "or pass --text" in output
    assert "Traceback" not in output
    assert len(output) < 800


def test_a_signal_to_a_missing_or_ended_run_is_refused(store: Path) -> None:
    begin(store, cli_flows.counting, 1, "over", "completed")
    assert "a run that has ended accepts no signal" in said("signal", "over", "go", "--store", store, code=1)
    assert "no such run in this store" in said("signal", "nobody", "go", "--store", store, code=1)
    assert "it needs the text" in said("signal", "over", "go", "--text", "--store", store, code=2)


def test_a_signal_that_the_graph_has_no_use_for_is_accepted_with_a_note_but_not_one_that_interrupts(
    store: Path,
) -> None:
    graph = Graph("guarded")
    graph.add(Workflow("inner", wait_signal("shipped")))
    graph.edge(START, "inner")
    graph.edge("inner", END)
    graph.on_signal("inner", "skip", END)
    graph.on_signal(graph, "stop", END)
    begin(store, graph, 1, "r")
    for known in ("skip", "stop", "shipped"):
        assert said("signal", "--store", store, "r", known, "1") == f"signal {known!r} is accepted for run 'r'"
    note = said("signal", "--store", store, "r", "other")
    assert note.endswith("has no use for signal 'other'; it waits for or is interrupted by: 'shipped', 'skip', 'stop'")


def test_a_question_is_listed_and_answered_once(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    (question,) = as_json("pending", "--store", store)
    assert (question["run_id"], question["id"], question["node"], question["value"]) == (
        "r",
        "pay.approval#1",
        "pay",
        str(tmp_path),
    )
    assert "pay.approval#1" in said("pending", "--store", store)
    told = as_json("answer", "r", "pay.approval#1", "approve", "--reason", "fine", "--store", store)
    assert told == {"run_id": "r", "question": "pay.approval#1", "decision": "approve"}
    again = said("answer", "r", "pay.approval#1", "reject", "--store", store, code=1)
    assert "has been answered already" in again
    assert "no question is pending in" in said("pending", "--store", store)
    waits = said("resume", "r", "--flow", "cli_flows:asking", "--store", store)
    assert waits == "run 'r' waits for signal 'shipped'"
    assert log(tmp_path) == ["r pay"]


def test_only_the_decision_modify_takes_a_value(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, "/nowhere", "r")
    ask = ("answer", "r", "pay.approval#1")
    assert "modify needs it" in said(*ask, "modify", "--store", store, code=2)
    assert "modify needs it" in said(*ask, "approve", "--value", "1", "--store", store, code=2)
    assert "is not JSON" in said(*ask, "modify", "--value", "maybe", "--store", store, code=2)
    assert "Invalid value" in said(*ask, "shrug", "--store", store, code=2)
    wrong = said(*ask, "modify", "--value", "1", "--flow", "cli_flows:asking", "--store", store, code=1)
    assert "cannot take that value" in wrong
    said(*ask, "modify", "--value", json.dumps(str(tmp_path)), "--store", store)
    said("resume", "r", "--flow", "cli_flows:asking", "--store", store)
    assert log(tmp_path) == ["r pay"]


def test_a_rejected_step_fails_its_run_with_the_reason(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    said("answer", "r", "pay.approval#1", "reject", "--reason", "too dear", "--store", store)
    output = said("resume", "r", "--flow", "cli_flows:asking", "--store", store, code=3)
    assert "error: run 'r' is failed at node 'pay.approval': Rejected: too dear; fix the cause and resume it" in output


def test_cancel_ends_a_run_for_good_and_prints_its_final_status(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    begin(store, cli_flows.counting, 1, "over", "completed")
    for _ in range(2):
        assert said("cancel", "r", "--store", store) == "run 'r' is cancelled"
    assert as_json("cancel", "over", "--store", store) == {"run_id": "over", "status": "completed"}
    assert "run 'r' is cancelled" in said("resume", "r", "--flow", "cli_flows:asking", "--store", store, code=3)


# Driving.


def test_resume_continues_to_the_end(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    (tmp_path / "open").touch()
    command = ("resume", "r", "--flow", "cli_flows:gated", "--store", store)
    for _ in range(2):  # for an ended run, the output is the same
        assert said(*command) == "run 'r' is completed after 2 nodes; its output: gone through"
    outcome = as_json(*command)["outcome"]
    assert (outcome["status"], outcome["output"], outcome["steps"]) == ("completed", "gone through", 2)


def test_resume_stops_where_a_run_waits_and_names_what_it_waits_for(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "asks")
    begin(store, cli_flows.napping, None, "naps")
    command = ("--flow", "cli_flows:asking", "--store", store)
    assert said("resume", "asks", *command) == "run 'asks' waits for the answer to question 'pay.approval#1'"
    assert as_json("resume", "asks", *command) == {
        "run_id": "asks",
        "status": "waiting",
        "waits_for": ["the answer to question 'pay.approval#1'"],
    }
    output = said("resume", "naps", "--flow", "cli_flows:napping", "--store", store)
    assert output.startswith("run 'naps' waits for its timer at 2")
    assert (status(store, "asks"), status(store, "naps")) == ("waiting", "waiting")


def test_a_failed_run_exits_with_3_and_continues_once_the_cause_is_fixed(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.failing, str(tmp_path), "r", "failed")
    command = ("resume", "r", "--flow", "cli_flows:failing", "--store", store)
    result = invoke(*command)
    assert (result.exit_code, result.stdout) == (3, "")
    assert result.stderr.startswith("error: run 'r' is failed at node 'charge': ValueError: the till is \\x1b[31mempty")
    assert result.stderr.count("\n") == 1
    assert as_json(*command, code=3)["outcome"]["failure"]["node"] == "charge"
    (tmp_path / "mended").touch()
    assert "its output: charged" in said(*command)


def test_resume_refuses_wrong_flows_and_unknown_runs(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.asking, str(tmp_path), "r")
    wrong = said("resume", "r", "--flow", "cli_flows:counting", "--store", store, code=1)
    assert "its flow 'asking' is not known here (known: counting)" in wrong
    assert "no such run" in said("resume", "nobody", "--flow", "cli_flows:asking", "--store", store, code=1)
    assert "Missing option" in said("resume", "r", "--store", store, code=2)
    assert "its flows are: asking, asking_again, counting, failing, gated, napping" in said(
        "resume", "r", "--flow", "cli_flows:nothing", "--store", store, code=1
    )


def test_a_run_that_another_process_drives_exits_with_4(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    (tmp_path / "log").unlink(missing_ok=True)
    with serving(store, "cli_flows:gated"):
        eventually(lambda: log(tmp_path) == ["r first begins"])
        output = said("resume", "r", "--flow", "cli_flows:gated", "--store", store, code=4)
        assert "another owner drives it" in output


def test_a_fork_continues_from_a_step_with_another_state(store: Path) -> None:
    begin(store, cli_flows.counting, 5, "r", "completed")
    command = ("fork", "r", 2, "--flow", "cli_flows:counting", "--store", store)
    output = said(*command, "--id", "f", "--set", "n=7", "--set", 'names=["a", "b"]')
    assert output == (
        "run 'f' is a fork of 'r' after step 2 run 'f' is completed after 2 nodes; its output: [5, 7, [\"a\", \"b\"]]"
    )
    told = as_json(*command)
    assert told["outcome"]["output"] == [5, 5, []]
    replaced = as_json(*command, "--replace", 'names=["z"]', "--set", "n=8")
    assert replaced["outcome"]["output"] == [5, 8, ["z"]]
    assert told["run_id"] not in ("r", "f")
    assert "the id is taken" in said(*command, "--id", "f", code=1)
    assert "is not an assignment: write FIELD=JSON" in said(*command, "--set", "n", code=2)
    assert "is not JSON" in said(*command, "--set", "n=seven", code=2)
    assert "error: " in said(*command, "--set", "m=1", code=1)
    assert "fork it from an earlier step" in said("fork", "r", 3, *command[3:], code=1)


# Checking.

OLD = """
from beluga_graph import Workflow, step, wait_signal
flow = Workflow("deployed", wait_signal("go"), step("tell", lambda value: value))
"""


def test_check_lists_the_runs_that_a_changed_flow_would_break(store: Path, tmp_path: Path) -> None:
    (tmp_path / "deployed_flow.py").write_text(OLD)
    starting = (
        "import asyncio, sys\nfrom deployed_flow import flow\nfrom beluga_graph import Engine\n"
        "async def main():\n    async with Engine('store') as engine:\n"
        "        run = await engine.start(flow, 1, run_id='r')\n"
        "        while await run.status() != 'waiting':\n            await asyncio.sleep(0.01)\n"
        "asyncio.run(main())\n"
    )
    (tmp_path / "starting.py").write_text(starting)
    process = spawn("starting.py", program=(), cwd=tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 0, output

    def checked(*more: str) -> tuple[int, str]:
        process = spawn("check", "deployed_flow:flow", "--store", store, *more, cwd=tmp_path)
        output, _ = process.communicate()
        return process.returncode, output

    assert checked() == (0, "unfinished runs: 1; all can continue with deployed_flow:flow\n")
    assert json.loads(checked("--json")[1]) == {"checked": 1, "broken": {}}
    (tmp_path / "deployed_flow.py").write_text(OLD.replace('"go"', '"start"'))
    code, output = checked()
    assert code == 1
    assert output.splitlines()[1].split()[0] == "r"
    code, output = checked("--json")
    assert (code, list(json.loads(output)["broken"])) == (1, ["r"])
    process = spawn("resume", "r", "--flow", "deployed_flow:flow", "--store", store, cwd=tmp_path)
    output, _ = process.communicate()
    assert process.returncode == 1
    assert "the graph has changed where the run is" in output


# Maintenance.


def test_prune_deletes_runs_that_ended_long_enough_ago(store: Path, tmp_path: Path) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")
    begin(store, cli_flows.failing, str(tmp_path), "failed", "failed")
    begin(store, cli_flows.asking, str(tmp_path), "asks")
    assert said("prune", "--older-than", "1h", "--store", store).startswith("0 runs pruned")
    assert said("prune", "--dry-run", "--store", store).endswith("1 run would be pruned")
    told = as_json("prune", "--dry-run", "--store", store)
    assert (told["dry_run"], [run["run_id"] for run in told["runs"]]) == (True, ["done"])
    assert [run["run_id"] for run in as_json("runs", "--store", store)] == ["done", "failed", "asks"]
    output = said("prune", "--store", store)
    assert output.endswith("1 run pruned; `compact` gives the space back to the disk")
    assert "done" in output
    told = as_json("prune", "--status", "failed", "--status", "completed", "--store", store)
    assert [run["run_id"] for run in told["runs"]] == ["failed"]
    assert [run["run_id"] for run in as_json("runs", "--store", store)] == ["asks"]
    assert said("verify", "--store", store).endswith("no damage")


@pytest.mark.parametrize("duration", ["7", "d", "-1d", "1 d", "1y", "1d12h", "1e9d", "", "٣d", "nan"])
def test_text_that_is_not_a_duration_is_refused(store: Path, duration: str) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")
    output = said("prune", f"--older-than={duration}", "--store", store, code=2)
    assert "give a number and its unit, such as 90s, 15m, 12h, 7d or 2w" in output


def test_prune_refuses_unfinished_runs(store: Path) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")
    output = said("prune", "--status", "waiting", "--store", store, code=2)
    assert "cancel such runs first" in output
    assert len(as_json("runs", "--store", store)) == 1


def test_prune_bus_deletes_events_and_no_run(store: Path) -> None:
    begin(store, cli_flows.counting, 1, "done", "completed")

    async def publish() -> None:
        async with EventBus(store) as bus:
            for number in range(5):
                await bus.publish("a", number)

    asyncio.run(publish())
    assert said("prune", "--bus", "--older-than", "1h", "--store", store).startswith("0 events pruned")
    assert as_json("prune", "--bus", "--store", store) == {"events": 4}
    assert [run["run_id"] for run in as_json("runs", "--store", store)] == ["done"]
    output = said("prune", "--bus", "--dry-run", "--store", store, code=2)
    assert "are for runs" in output
    assert said("verify", "--store", store).endswith("no damage")


def test_compact_shrinks_the_file_unless_the_store_is_in_use(store: Path, tmp_path: Path) -> None:
    for number in range(20):
        begin(store, cli_flows.counting, number, f"r{number}", "completed")
    said("prune", "--store", store)
    begin(store, cli_flows.gated, str(tmp_path), "r", "running")
    with serving(store, "cli_flows:gated"):
        output = said("compact", "--store", store, code=4)
        assert "is in use: another process has it open; try again once that has ended" in output
    sizes = as_json("compact", "--store", store)
    assert sizes["bytes_after"] == (store / "data.mdb").stat().st_size < sizes["bytes_before"]
    assert said("compact", "--store", store).endswith("bytes after")
    (tmp_path / "open").touch()
    assert "gone through" in said("resume", "r", "--flow", "cli_flows:gated", "--store", store)


# Serving.


@contextmanager
def serving(store: Path, *flows: str, grace: float = 10.0) -> Iterator["subprocess.Popen[str]"]:
    """Serve flows in another process, which is killed at the end."""
    process = spawn("serve", *flows, "--store", store, "--grace", grace, cwd=HERE)
    try:
        wait_for(process, "SIGTERM or Ctrl-C ends it")
        yield process
    finally:
        process.kill()
        process.communicate()


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
