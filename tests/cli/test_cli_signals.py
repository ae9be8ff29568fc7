"""The commands that signal runs, answer their questions and cancel them: their effects, exit codes, text and JSON."""

import json
from pathlib import Path
from typing import Any

import cli_flows
import pytest
from cli_runs import as_json, begin, log, said

from beluga_graph import END, START, Graph, Workflow, wait_signal


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
