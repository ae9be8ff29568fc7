"""Each example runs offline, as a program, and prints the result of its pattern."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from servers import Server

ROOT = Path(__file__).parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))

PRINTED = {
    "sequential": """\
Go 1.18 brought generics. Interfaces say what a type must be able to do.
""",
    "parallel": """\
sentiment: mixed: warm, with one complaint
topics: room, staff, breakfast
entities: Lisbon (place)
""",
    "loop": """\
def mean(xs: list[float]) -> float: return sum(xs) / len(xs) if xs else 0.0
APPROVED
ended by the condition
""",
    "handoffs": """\
> I was charged twice on my last invoice, number 17
[transfer_to_billing: transferred to billing: charged twice, invoice 17]
[handed off to billing]
[refund: invoice 17 was refunded]
Invoice 17 is refunded.
> Thank you!
Any time!
""",
    "conditional_handoffs": """\
ada:
  transferring to premium support
  At once! (You serve ada with high priority.)
bob:
  Our free desk helps within 3 days.
""",
    "workflow": """\
ingest: the archive is not ready yet; once more in 0.01 s
ingest: 3 documents loaded (start processing)
process/process: A summary of 3 documents.
review: waiting
review: approved
publish: published once, as documents-1:publish#1
published once, as documents-1:publish#1
""",
    "approval": """\
may pay.approval#1 have to='ada' amount=1230?
paid 50 to ada
""",
    "nightly": """\
nightly@2026-03-28T02:30:00+01:00: 3 orders, 23 in all
nightly@2026-03-29T03:00:00+02:00: 3 orders, 23 in all
next: 2026-03-30 02:30:00+02:00
nightly@2026-03-31T02:30:00+02:00: 3 orders, 23 in all
nightly@2026-04-01T02:30:00+02:00: 3 orders, 23 in all
nightly@2026-04-02T02:30:00+02:00: 3 orders, 23 in all
nightly@2026-04-03T02:30:00+02:00: 3 orders, 23 in all
next: 2026-04-04 02:30:00+02:00
""",
    "reminders": """\
12:00 call Ada
17:30 call Ada and Bob
cancelled: she called
""",
    "temporal": """\
total: 90
ship: shipped, paid by card
shipped, paid by card
""",
    "streaming": """\

[planner calls transfer_to_analyst]
[handed off to analyst]
analyst: Looking it up.\x20
[analyst calls metric]
analyst: We grew by 12 percent this year.
writer: A year of growth: twelve percent, and no end in sight.
""",
}

SUPERVISED = {
    "supervisor -> transfer_to_data-collector {'message': 'sales of north'}",
    "supervisor -> transfer_to_data-collector {'message': 'sales of west'}",
    "data-collector -> sales {'region': 'north'}",
    "data-collector -> sales {'region': 'west'}",
    "  120 thousand",
    "  no data (KeyError: 'west')",
    "supervisor -> transfer_to_analyzer {'message': 'add up: north 120; there is no west'}",
    "analyzer -> total {'amounts': [120]}",
    "  The north alone sold 120.",
    "We sold 120 thousand, all of it in the north; the west has no data.",
}

TRACED = {
    "Task completed: Research phase finished",
    "run.started by report",
    "report.drafted by draft, because of report-of-research-1:draft#1",
    "run.completed by report",
    "report.approved by reviewer, because of report.drafted",
}
OBSERVED = """\
flowchart LR
    p0["draft"]
    p1["report"]
    p2["researcher"]
    p3["reviewer"]
    t0(["report.drafted"])
    t1(["run.completed"])
    t2(["run.started"])
    t3(["task.complete"])
    t4(["report.approved"])
    s0["reviewer"]
    s1["log"]
    s2["writer"]
    p0 --> t0
    t0 --> s0
    p1 --> t1
    p1 --> t2
    p2 --> t3
    t3 --> s1
    t3 --> s2
    p3 --> t4
"""


def run(path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    keyless = {key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")}
    return subprocess.run(
        [sys.executable, "-W", "error", str(path), *arguments],
        cwd=ROOT,
        env={**keyless, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_there_is_an_example_for_each_pattern() -> None:
    assert {path.stem for path in EXAMPLES} == {*PRINTED, "supervisor", "event_bus"}


def test_the_index_links_every_example_and_page() -> None:
    links = re.findall(r"\]\(([^)]+)\)", (ROOT / "examples/README.md").read_text())
    pages = [*sorted((ROOT / "examples/guide").glob("*.md")), *sorted((ROOT / "examples").glob("*_worker/README.md"))]
    assert sorted(links) == sorted(str(path.relative_to(ROOT / "examples")) for path in (*EXAMPLES, *pages))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_runs_offline_and_prints_its_result(path: Path) -> None:
    done = run(path)
    assert (done.returncode, done.stderr) == (0, "")
    if path.stem == "supervisor":  # the order of two parallel workers is not defined
        lines = done.stdout.splitlines()
        assert set(lines) == SUPERVISED
        assert len(lines) == len(SUPERVISED)
        assert lines[-1].startswith("We sold 120 thousand")
    elif path.stem == "event_bus":  # the order of a run's end and of the reactions to its event is not defined
        trace, drawing = done.stdout[: -len(OBSERVED)], done.stdout[-len(OBSERVED) :]
        assert (set(trace.splitlines()), drawing) == (TRACED, OBSERVED)
        assert len(trace.splitlines()) == len(TRACED)
    else:
        assert done.stdout == PRINTED[path.stem]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_short_and_explains_itself(path: Path) -> None:
    assert len(path.read_text().splitlines()) < 80
    shown = run(path, "--help").stdout
    if path.stem in ("approval", "event_bus", "nightly", "reminders", "temporal"):  # it uses no model
        return
    assert "--model" in shown
    assert f"python examples/{path.name} --model openai:NAME" in shown


ASKED = "may pay.approval#1 have to='ada' amount=1230?"


@pytest.mark.parametrize(
    ("answer", "printed"),
    [
        (["approve"], "paid 1230 to ada"),
        (["modify", '{"to": "bob", "amount": 7}'], "paid 7 to bob"),
        (["reject"], "Rejected: no reason was given"),
    ],
    ids=["approve", "modify", "reject"],
)
@pytest.mark.parametrize("killed", [False, True], ids=["parked", "killed"])
def test_a_parked_approval_is_answered_from_another_terminal(
    tmp_path: Path, answer: list[str], printed: str, killed: bool
) -> None:
    program, store = ROOT / "examples/approval.py", str(tmp_path / "runs")
    command = [sys.executable, "-W", "error", str(program), "--store", store]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as asking:
        assert asking.stdout is not None
        assert asking.stdout.readline().strip() == ASKED
        if killed:
            asking.kill()
            asking.wait()
        done = run(program, "--store", store, "answer", "payment-1", "pay.approval#1", *answer)
        assert (done.returncode, done.stderr, done.stdout) == (0, "", "")
        if not killed:
            assert asking.stdout.readline().strip() == printed
    if killed or answer != ["reject"]:  # a failed run that is started again asks again
        again = run(program, "--store", store)
        assert (again.returncode, again.stderr, again.stdout.splitlines()) == (0, "", [ASKED, printed])


def test_a_change_after_the_end_of_a_reminder_is_refused_in_one_line(tmp_path: Path) -> None:
    def remind(verb: str) -> subprocess.CompletedProcess[str]:
        return run(ROOT / "examples/reminders.py", "--store", str(tmp_path / "runs"), verb, "0.01", "call Bob")

    missing = remind("change")
    assert (missing.returncode, missing.stdout, len(missing.stderr.splitlines())) == (1, "", 1)
    assert missing.stderr.startswith("run 'reminder-1': no such run")
    assert remind("start").stdout.endswith(" call Bob\n")
    for verb in ("change", "cancel"):
        late = remind(verb)
        refusal = "run 'reminder-1': it is completed: a run that has ended accepts no signal\n"
        assert (late.returncode, late.stdout, late.stderr) == (1, "", refusal)


def test_a_durable_bus_keeps_its_events_and_publishes_none_twice(tmp_path: Path) -> None:
    program, store = ROOT / "examples/event_bus.py", str(tmp_path / "runs")
    first, second = run(program, "--store", store), run(program, "--store", store)
    assert (first.returncode, first.stderr, second.returncode, second.stderr) == (0, "", 0, "")
    assert set(first.stdout.splitlines()) == TRACED | set(OBSERVED.splitlines())
    assert second.stdout == first.stdout.removeprefix("Task completed: Research phase finished\n")


def test_the_same_program_runs_on_temporal_with_the_same_result(temporal_server: Server) -> None:
    done = run(ROOT / "examples/temporal.py", "--temporal", temporal_server.address)
    assert (done.returncode, done.stderr, done.stdout) == (0, "", PRINTED["temporal"])


def test_a_flow_is_served_by_a_worker_in_another_process(temporal_server: Server) -> None:
    command = [sys.executable, "-W", "error", "-m", "beluga_graph", "worker", "temporal:order"]
    command += ["--temporal", temporal_server.address]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, cwd=ROOT / "examples", stdout=subprocess.PIPE, text=True, env=environment) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith("serving order:")
        done = run(ROOT / "examples/temporal.py", "--temporal", temporal_server.address, "--no-worker")
        assert (done.returncode, done.stderr, done.stdout) == (0, "", PRINTED["temporal"])
        worker.terminate()
        assert worker.wait(60) == 0
