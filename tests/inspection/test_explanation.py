"""The parts of an explanation that need no engine: interrupting signals, and signals that have arrived."""

from collections.abc import Mapping

from beluga_graph.inspection.commands import PythonCalls, ShellCommands
from beluga_graph.inspection.explanation import Circumstances, Driving, explain
from beluga_graph.inspection.moments import Moments
from beluga_graph.inspection.why import Why
from beluga_graph.kernel.shape import END, FUNCTION, WAIT_NODE, NodeShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import RunStarted

LIMITS = {"max_visits": 100, "max_steps": 1000, "max_width": 50, "max_interruptions": 5}


def why_of(shape: Shape, unread: Mapping[str, int]) -> Why:
    """Start a run and explain why it does not go on."""
    run = Snapshot(run_id="r", plan=shape.fingerprint, started_ms=1_000, value=b"")
    run.apply(advance(shape, run, RunStarted(1_000)))
    around = Circumstances(
        now_ms=2_000,
        changed_ms=1_000,
        unread=unread,
        entered={},
        driving=Driving(place="here"),
        commands=PythonCalls(),
    )
    return explain(shape, run, around)


def shape_of(*nodes: NodeShape, interrupts: tuple[tuple[str, str, tuple[str, ...]], ...] = ()) -> Shape:
    named = {node.name: node for node in nodes}
    return Shape(name="flow", fingerprint="f", entry=nodes[0].name, nodes=named, limits=LIMITS, interrupts=interrupts)


WORK = NodeShape(name="work", local="work", kind=FUNCTION, target=END, interrupts=(("change", "fix", ()),))
WAIT = NodeShape(name="wait", local="wait", kind=WAIT_NODE, target=END, signal="go")
FIX = NodeShape(name="fix", local="fix", kind=FUNCTION, target=END)


def test_a_signal_that_interrupts_is_named_with_what_it_interrupts() -> None:
    why = why_of(shape_of(WORK, FIX, interrupts=(("stop", "fix", ("fix",)),)), {})
    assert {(each.kind, each.signal): each.text for each in why.triggers} == {
        ("drive", ""): "its engine: it makes 1 attempt",
        ("signal", "stop"): "signal 'stop', which interrupts the run",
        ("signal", "change"): "signal 'change', which interrupts 'work'",
    }
    assert [(reason.kind, reason.text) for reason in why.reasons] == [("attempt", "attempt 1 is under way here")]


def test_a_signal_that_has_arrived_is_read_by_the_engine_and_not_asked_for_again() -> None:
    why = why_of(shape_of(WAIT), {"go": 1, "other": 1})
    assert [(each.kind, each.text) for each in why.triggers] == [
        ("drive", "its engine: it reads the signals and answers that have arrived")
    ]
    assert [(reason.kind, reason.text) for reason in why.reasons] == [
        ("signal", "signal 'go' has arrived, and is not read yet")
    ]


def test_a_wait_for_another_signal_than_the_one_that_interrupts_is_still_a_wait() -> None:
    why = why_of(shape_of(WAIT, FIX, interrupts=(("stop", "fix", ("fix",)),)), {"stop": 1})
    assert [(reason.kind, reason.text) for reason in why.reasons] == [("signal", "waits for signal 'go'")]
    assert [each.kind for each in why.triggers] == ["drive", "signal"]


def test_times_are_relative_and_absolute() -> None:
    moments = Moments(1_000_000_000)
    assert moments.at(1_000_000_500) == "in less than a second (1970-01-12 13:46:40Z)"
    assert moments.at(1_000_001_000) == "in 1 second (1970-01-12 13:46:41Z)"
    assert moments.at(999_910_000) == "90 seconds ago (1970-01-12 13:45:10Z)"
    assert moments.since(999_820_000) == "for 3 minutes (since 1970-01-12 13:43:40Z)"
    assert moments.since(1_000_000_000 - 7_200_000).startswith("for 2 hours (")
    assert moments.since(1_000_000_000 - 3 * 86_400_000).startswith("for 3 days (")


def test_commands_quote_any_run_id() -> None:
    commands = ShellCommands(("--store", "a b"), "serve")
    assert commands.answer("r 1", "x#1") == "beluga-graph answer 'r 1' 'x#1' approve --store 'a b'"
    assert commands.signal("-r", "go", is_typed=True) == "beluga-graph signal --store 'a b' -- -r go JSON"
    assert commands.resume("r") == "beluga-graph resume r --flow MODULE:FLOW --store 'a b'"
    assert commands.drive() == "beluga-graph serve MODULE:FLOW --store 'a b'"
