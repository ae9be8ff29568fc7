"""Interrupting edges in the kernel: what a signal drops, when it waits, and who gets it."""

from __future__ import annotations

from typing import Any

import pytest
from stepping import Walk, fan_out, frame, function, join, once, timer, wait

from beluga_graph.kernel.ops import ADD_LISTENER, REMOVE_LISTENER
from beluga_graph.kernel.shape import END, NodeShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.transition import EMPTY_PATCH, advance
from beluga_graph.kernel.triggers import NodeFinished, PlanAdopted, SignalReceived, TimerFired


def on(signal: str, target: str, *exempt: str) -> tuple[tuple[str, str, tuple[str, ...]], ...]:
    """Return one interrupting edge."""
    return ((signal, target, exempt),)


def test_a_signal_moves_control_from_a_running_node_to_the_target_with_its_payload_in_one_step() -> None:
    walk = Walk(function("a", "z", interrupts=on("stop", "b")), function("b", "z"), function("z", END))
    assert walk.run.waits == {"stop": ["a#1"]}
    late = NodeFinished("a#1", 1, 2000, (b"out",))
    patch = walk.signal("stop")
    assert walk.running == ["b#1"]
    assert walk.run.tokens["b#1"].value == b"payload"
    assert patch.events == (("signal", "a", "a#1", {"name": "stop", "target": "b"}, 0),)
    assert (walk.run.inbox, walk.run.waits) == ({"stop": 1}, {})
    assert walk.decide(late) == EMPTY_PATCH


def test_the_end_of_a_node_that_is_decided_first_leaves_the_signal_unread() -> None:
    walk = Walk(function("a", "z", interrupts=on("stop", "b")), function("b", "z"), function("z", END))
    walk.finish("a#1")
    assert walk.signal("stop") == EMPTY_PATCH
    assert walk.run.inbox == {}


def test_a_position_is_served_once() -> None:
    walk = Walk(function("a", "z", interrupts=on("stop", "a")), function("z", END))
    first = SignalReceived("stop", 0, b"1", 1000)
    assert walk.decide(first) != EMPTY_PATCH
    assert walk.decide(first) == EMPTY_PATCH
    assert walk.running == ["a#2"]
    walk.signal("stop", b"2")
    assert walk.run.tokens["a#3"].value == b"2"


@pytest.mark.parametrize(
    ("source", "token"),
    [
        (wait("s", "go", "z", timeout_ms=10, interrupts=on("stop", "b")), "s#1"),
        (timer("s", 10, "z", interrupts=on("stop", "b")), "s#1"),
    ],
)
def test_a_signal_interrupts_a_wait_and_a_pause_with_their_timers(source: NodeShape, token: str) -> None:
    walk = Walk(source, function("b", "z"), function("z", END))
    assert walk.armed == {f"t:{token}": 1010}
    walk.signal("stop")
    assert (walk.tokens, walk.armed, walk.run.waits) == (["b#1"], {}, {})


def test_a_signal_interrupts_a_node_that_waits_for_its_next_attempt() -> None:
    walk = Walk(function("a", "z", retry=once(), interrupts=on("stop", "b")), function("b", "z"), function("z", END))
    walk.fail("a#1", retryable=True)
    walk.signal("stop")
    assert (walk.running, walk.armed) == (["b#1"], {})


def test_a_signal_drops_a_whole_sub_flow_with_its_deadline() -> None:
    walk = Walk(
        frame("s", "s/f", "z", timeout_ms=50, interrupts=on("stop", "b")),
        fan_out("s/f", "s/x", "s/y", join="s/j"),
        function("s/x", "s/j"),
        wait("s/y", "go", "s/j", timeout_ms=20),
        join("s/j", END),
        function("b", "z"),
        function("z", END),
    )
    walk.spread("s#1[0]/f#1", 0, 1)
    walk.signal("stop")
    assert (walk.tokens, walk.run.scopes, walk.armed, walk.run.waits) == (["b#1"], {}, {}, {})
    assert list(walk.run.places) == [""]


def test_a_signal_interrupts_a_sub_flow_that_waits_for_its_next_try() -> None:
    walk = Walk(
        frame("s", "s/x", "z", retry=once(), interrupts=on("stop", "b")),
        function("s/x", END),
        function("b", "z"),
        function("z", END),
    )
    walk.fail("s#1[0]/x#1")
    assert walk.run.waits == {"stop": ["s#2"]}
    walk.fire("t:s#2")
    assert (walk.running, walk.run.waits) == (["s#2[0]/x#1"], {"stop": ["s#2"]})
    walk.signal("stop")
    assert walk.tokens == ["b#1"]


def queued(**more: Any) -> Walk:
    """Return a run with one branch under way, and two in the queue."""
    walk = Walk(
        fan_out("f", "a", join="j", max_concurrency=1, **more),
        function("a", "j", interrupts=on("skip", "m")),
        function("m", "j"),
        join("j", "z"),
        function("z", END),
        function("b", END),
    )
    walk.spread("f#1", 0, 0, 0)
    return walk


def test_a_signal_drops_a_fan_out_with_its_open_and_queued_branches() -> None:
    walk = queued(interrupts=on("stop", "b"))
    walk.finish("f#1[0]/a#1")
    walk.signal("stop")
    assert (walk.tokens, walk.run.scopes, list(walk.run.places), walk.run.waits) == (["b#1"], {}, [""], {})


def test_a_signal_interrupts_a_fan_out_before_its_branches_are_known_and_not_after_its_join_has_begun() -> None:
    early = Walk(
        fan_out("f", "a", join="j", interrupts=on("stop", "b")), function("a", "j"), join("j", "b"), function("b", END)
    )
    early.signal("stop")
    assert early.tokens == ["b#1"]
    late = Walk(
        fan_out("f", "a", join="j", interrupts=on("stop", "b")), function("a", "j"), join("j", "b"), function("b", END)
    )
    late.spread("f#1", 0)
    late.finish("f#1[0]/a#1")
    assert (late.tokens, late.run.waits, late.signal("stop")) == (["j#1"], {}, EMPTY_PATCH)


def test_a_fan_out_without_branches_does_not_listen() -> None:
    walk = Walk(
        fan_out("f", "a", join="j", interrupts=on("stop", "b")), function("a", "j"), join("j", "b"), function("b", END)
    )
    walk.spread("f#1")
    assert (walk.tokens, walk.run.waits) == (["j#1"], {})


def test_an_interrupted_branch_goes_on_in_its_scope_and_the_next_signal_is_for_the_next_branch() -> None:
    walk = queued()
    walk.signal("skip")
    assert (walk.tokens, walk.run.waits) == (["f#1[0]/m#1"], {})
    assert walk.signal("skip") == EMPTY_PATCH, "the queued branches are not under way"
    walk.finish("f#1[0]/m#1")
    assert walk.run.waits == {"skip": ["f#1[1]/a#1"]}
    walk.signal("skip")
    assert walk.tokens == ["f#1[1]/m#1"]


def test_an_interrupting_edge_to_the_join_ends_the_branch_with_the_payload() -> None:
    walk = Walk(fan_out("f", "a", "a", join="j"), function("a", "j", interrupts=on("skip", "j")), join("j", END))
    walk.spread("f#1", 0, 1)
    walk.signal("skip")
    assert (walk.tokens, walk.run.scopes["f#1"].results) == (["f#1[1]/a#1"], {0: b"payload"})
    walk.signal("skip", b"more")
    assert (walk.tokens, walk.run.scopes["f#1"].results) == (["j#1"], {0: b"payload", 1: b"more"})


def test_branches_are_interrupted_in_the_order_in_which_they_began() -> None:
    walk = Walk(
        fan_out("f", "a", "a", join="j"),
        function("a", "j", retry=once(), interrupts=on("skip", "m")),
        function("m", "j"),
        join("j", END),
    )
    walk.spread("f#1", 0, 1)
    walk.fail("f#1[0]/a#1", retryable=True)
    walk.fire("t:f#1[0]/a#1")
    walk.signal("skip")
    assert walk.tokens == ["f#1[1]/a#1", "f#1[0]/m#1"]


def test_an_inner_edge_wins_over_an_outer_one() -> None:
    walk = Walk(
        frame("s", "s/x", "z", interrupts=on("stop", "b"), inner_interrupts=on("stop", "s/m", "s/m")),
        function("s/x", END, interrupts=on("stop", "s/y")),
        function("s/y", END),
        function("s/m", END),
        function("b", "z"),
        function("z", END),
        interrupts=on("stop", "z", "z"),
    )
    assert walk.run.waits == {"stop": ["", "s#1", "s#1[0]/", "s#1[0]/x#1"]}
    walk.signal("stop")
    assert walk.tokens == ["s#1[0]/y#1"]
    walk.signal("stop")
    assert walk.tokens == ["s#1[0]/m#1"], "the sub-flow itself"
    walk.signal("stop")
    assert walk.tokens == ["b#1"], "the edge out of the sub-flow exempts nothing in it"
    walk.signal("stop")
    assert walk.tokens == ["z#1"], "the whole graph"
    assert walk.signal("stop") == EMPTY_PATCH


def test_a_wait_in_another_branch_gets_the_signal_if_it_is_older() -> None:
    walk = Walk(
        fan_out("f", "w", "a", join="j"),
        wait("w", "x", "j"),
        function("a", "j", interrupts=on("x", "m")),
        function("m", "j"),
        join("j", END),
    )
    walk.spread("f#1", 0, 1)
    walk.signal("x")
    assert walk.tokens == ["f#1[1]/a#1"]
    walk.signal("x")
    assert walk.tokens == ["f#1[1]/m#1"]


def test_the_whole_graph_is_not_interrupted_while_it_handles_the_signal_but_after_that_again() -> None:
    walk = Walk(
        function("a", "b"),
        function("b", END),
        function("plan", "a"),
        interrupts=on("change", "plan", "plan"),
    )
    walk.signal("change", b"1")
    assert (walk.tokens, walk.run.waits) == (["plan#1"], {})
    assert walk.signal("change", b"2") == EMPTY_PATCH
    walk.finish("plan#1")
    assert (walk.tokens, walk.run.waits) == (["a#2"], {"change": [""]})
    walk.signal("change", b"2")
    assert walk.run.tokens["plan#2"].value == b"2"
    walk.finish("plan#2")
    walk.finish("a#3")
    walk.finish("b#1")
    assert walk.run.status == "completed"
    assert walk.is_bare


def test_the_whole_graph_is_dropped_with_its_scopes() -> None:
    walk = Walk(
        fan_out("f", "a", "s", join="j"),
        function("a", "j"),
        frame("s", "s/x", "j2", timeout_ms=9),
        function("s/x", END),
        function("j2", "j"),
        join("j", END),
        function("undo", END),
        interrupts=on("cancel", "undo", "undo"),
    )
    walk.spread("f#1", 0, 1)
    walk.signal("cancel")
    assert (walk.tokens, walk.run.scopes, walk.armed, list(walk.run.places)) == (["undo#1"], {}, {}, [""])
    walk.finish("undo#1")
    assert walk.is_bare


def test_an_edge_to_the_end_ends_the_graph_with_the_payload() -> None:
    inner = Walk(frame("s", "s/x", "z", inner_interrupts=on("enough", END)), function("s/x", END), function("z", END))
    inner.signal("enough")
    assert inner.run.tokens["z#1"].value == b"payload"
    whole = Walk(function("a", END), interrupts=on("enough", END))
    whole.signal("enough")
    assert (whole.run.status, whole.run.output, whole.is_bare) == ("completed", b"payload", True)


def test_a_failed_run_listens_again_once_it_is_resumed() -> None:
    walk = Walk(function("a", "z", interrupts=on("stop", "b")), function("b", "z"), function("z", END))
    walk.fail("a#1")
    assert walk.signal("stop") == EMPTY_PATCH
    walk.resume()
    walk.signal("stop")
    assert walk.running == ["b#1"]


def test_a_typed_payload_is_checked_first_and_after_a_misfit_the_resumed_run_waits_for_another() -> None:
    walk = Walk(
        function("a", END),
        wait("b.stop", "stop", "b", checked=True, received=True),
        function("b", END),
        interrupts=on("stop", "b.stop", "b.stop", "b"),
    )
    walk.signal("stop", b"misfit")
    assert (walk.running, walk.run.tokens["b.stop#1"].value) == (["b.stop#1"], b"misfit")
    walk.fail("b.stop#1")
    walk.resume()
    assert walk.run.waits == {"stop": ["b.stop#1"]}
    walk.signal("stop", b"good")
    walk.finish("b.stop#1")
    assert (walk.running, walk.run.waits) == (["b#1"], {}), "the handling of the signal is not interrupted"


def test_the_visits_of_a_target_are_limited() -> None:
    walk = Walk(function("a", END, interrupts=on("again", "a")), limits={"max_visits": 2})
    walk.signal("again")
    walk.signal("again")
    assert (walk.run.status, walk.run.error and walk.run.error[1]) == ("failed", "LimitReached")
    assert walk.run.waits == {"again": ["a#3"]}


def test_an_adopted_graph_listens_by_its_own_edges() -> None:
    old = (function("a", "z"), wait("w", "go", "z", interrupts=on("stop", "b")), function("b", "z"), function("z", END))
    walk = Walk(wait("w", "go", "z", interrupts=on("stop", "b")), *old[2:])
    assert walk.run.waits == {"go": ["w#1"], "stop": ["w#1"]}
    new = Shape(
        name="hand-built",
        fingerprint="g",
        entry="w",
        nodes={node.name: node for node in (wait("w", "go", "z", interrupts=on("halt", "b")), *old[2:])},
        limits=walk.shape.limits,
        interrupts=on("cancel", "b", "b"),
    )
    patch = advance(new, walk.run, PlanAdopted("g", 5))
    assert [op for op in patch.ops if op[0] in (ADD_LISTENER, REMOVE_LISTENER)] == [
        (REMOVE_LISTENER, "stop", "w#1"),
        (ADD_LISTENER, "cancel", ""),
        (ADD_LISTENER, "halt", "w#1"),
    ]
    walk.shape = new
    walk.run.apply(patch)
    walk.signal("halt")
    assert walk.tokens == ["b#1"]


def test_a_timer_that_comes_late_is_stale() -> None:
    walk = Walk(timer("t", 10, "z", interrupts=on("stop", "b")), function("b", "z"), function("z", END))
    walk.signal("stop")
    assert walk.decide(TimerFired("t:t#1", 1010, 1010)) == EMPTY_PATCH


def test_a_shape_with_interrupting_edges_comes_back_from_its_plain_form_and_one_without_names_none() -> None:
    walk = Walk(
        frame("s", "s/x", END, interrupts=on("stop", END), inner_interrupts=on("x", "s/x", "s/x")),
        function("s/x", END),
        interrupts=on("cancel", END),
    )
    assert Shape.from_plain(walk.shape.to_plain()) == walk.shape
    assert Snapshot.from_plain(walk.run.to_plain()).to_plain() == walk.run.to_plain()
    bare = Walk(function("a", END)).shape.to_plain()
    assert "interrupts" not in bare
    assert "interrupts" not in bare["nodes"][0]
