"""The commands that list, resume, fork and check runs: their effects, exit codes, text and JSON."""

import json
from pathlib import Path

import cli_flows
from cli_documents import ENVIRONMENT, invoke, spawn
from cli_runs import as_json, begin, eventually, log, said, serving, status

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
