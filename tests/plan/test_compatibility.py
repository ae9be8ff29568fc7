"""The effect of a changed graph on a run, by the position of the run: a table of positions and changes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from stepping import Walk, fan_out, frame, function, join, once, shape, timer, wait

from beluga_graph.errors import BadRename, GraphChanged
from beluga_graph.kernel.shape import AGENT, END, FieldShape, NodeShape, Shape
from beluga_graph.plan.compatibility import assess_changes
from beluga_graph.plan.diff import diff_shapes
from beluga_graph.plan.plan import fingerprint_of
from beluga_graph.plan.renames import guess_renames

N = FieldShape(name="n", reducer="set", type="int")
NODES = (
    function("a", "w", error="mend"),
    wait("w", "go", "t", timeout_ms=90, checked=True, output_type="int"),
    timer("t", 50, "f"),
    fan_out("f", "b", "c", join="j"),
    function("b", "b2"),
    function("b2", "j"),
    function("c", "j"),
    join("j", "s"),
    frame("s", "s/x", "m", retry=once(), state=(N,)),
    function("s/x", "s/y"),
    function("s/y", END),
    fan_out("m", "d", "e", join="k", over=True, max_concurrency=1),
    function("d", "k"),
    function("e", "k"),
    join("k", "z", collect=True),
    function("z", routes=(("again", "a", "conditional"), ("done", END, "conditional"))),
    function("mend", END),
)


def run_at(at: str) -> Walk:
    """Return a run that has reached this position."""
    walk = Walk(*NODES)
    for name, go in WAY.items():
        if name == at:
            break
        go(walk)
    return walk


def _fire(walk: Walk) -> None:
    walk.fire("t:t#1")


WAY: dict[str, Callable[[Walk], Any]] = {
    "a": lambda walk: walk.finish("a#1"),
    "w": lambda walk: walk.signal("go"),
    "w received": lambda walk: walk.finish("w#1"),
    "t": _fire,
    "f": lambda walk: walk.spread("f#1", 0, 1),
    "b and c": lambda walk: walk.finish("f#1[1]/c#1"),
    "b": lambda walk: walk.finish("f#1[0]/b#1"),
    "b2": lambda walk: walk.finish("f#1[0]/b2#1"),
    "j": lambda walk: walk.finish("j#1"),
    "s/x": lambda walk: walk.fail("s#1[0]/x#1"),
    "s again": lambda walk: walk.fire("t:s#2"),
    "s/x again": lambda walk: walk.finish("s#2[0]/x#1"),
    "s/y": lambda walk: walk.finish("s#2[0]/y#1"),
    "m": lambda walk: walk.spread("m#1", 0, 0),
    "d and d": lambda walk: walk.finish("m#1[0]/d#1"),
    "d": lambda walk: walk.finish("m#1[1]/d#1"),
    "k": lambda walk: walk.finish("k#1"),
    "z": lambda walk: None,
}


def graph(without: str = "", *more: NodeShape, **changed: dict[str, Any]) -> Shape:
    """Return the shape with some nodes removed, added or changed; `__` in a name is a slash."""
    changed = {name.replace("__", "/"): fields for name, fields in changed.items()}
    nodes = [replace(node, **changed.get(node.name, {})) for node in NODES if node.name not in without.split()]
    return shape(*nodes, *more)


def refused(at: str, new: Shape) -> list[str]:
    walk = run_at(at)
    return [str(found) for found in assess_changes(walk.run, walk.shape, new) if not found.safe]


HERE = "the run is at this node"
ON = "the run continues from this node"

TABLE: list[tuple[str, Shape, list[str]]] = [
    # Nodes and edges.
    ("a", graph(a={"target": "t"}), [f"node 'a': target was 'w' and is 't': {ON}"]),
    ("a", graph(a={"error": None}), ["node 'a': error was 'mend' and is none: a failure continues from this node"]),
    ("a", graph(a={"kind": AGENT}), [f"node 'a': kind was 'function' and is 'agent': {HERE}"]),
    ("w", graph(a={"target": "t"}), []),
    ("w", graph("a", z={"routes": (("again", "w", "conditional"), ("done", END, "conditional"))}), []),
    ("a", graph("w", a={"target": "t"}), [f"node 'a': target was 'w' and is 't': {ON}"]),
    ("a", graph("t", w={"target": "f"}), []),
    ("a", graph("", function("new", "z")), []),
    ("z", graph(z={"routes": (("done", END, "conditional"),)}), [
        f"node 'z': routes was 'again' to 'a', 'done' to '$end' and is 'done' to '$end': {ON}",
    ]),
    # Out of what is parked.
    ("w", graph("", function("new", "t"), w={"target": "new"}), []),
    ("w", graph("t", w={"target": "f"}), []),
    ("w", graph(w={"error": "mend"}), []),
    ("w", graph(w={"interrupts": (("stop", "mend", ()),)}), []),
    ("w received", graph(w={"target": "f"}), [f"node 'w': target was 't' and is 'f': {ON}"]),
    ("t", graph("", function("new", "f"), t={"target": "new"}), []),
    ("t", graph("", function("new", "w"), a={"target": "new"}), []),
    # What is free everywhere.
    *[
        (at, graph(
            a={"retry": once(), "timeout_ms": 5, "description": "x", "agent": "x"},
            b={"input_type": "x", "output_type": "x"},
            w={"timeout_ms": 7},
            t={"delay_ms": 7},
            f={"max_concurrency": 1},
            j={"timeout_ms": 7},
            s={"retry": None, "timeout_ms": 7},
            m={"max_concurrency": None},
        ), [])
        for at in WAY
    ],
    # Waits and timers.
    ("a", graph(w={"signal": "went"}), []),
    ("w", graph(w={"signal": "went"}), [
        "node 'w': signal was 'go' and is 'went': the run waits here, and senders know the old name",
    ]),
    ("w received", graph(w={"signal": "went"}), []),
    ("w", graph(w={"default": b"\x03"}), ["node 'w': default was none and is 3: the run waits here"]),
    ("w received", graph(w={"default": b"\x03"}), []),
    *[
        (at, graph(w={"output_type": "str"}), [
            "node 'w': payload was 'int' and is 'str': the run waits here, and sent signals have the old type",
        ])
        for at in ("w", "w received")
    ],
    ("w", graph(w={"checked": False, "output_type": "Any"}), [
        "node 'w': payload was 'int' and is none: the run waits here, and sent signals have the old type",
    ]),
    ("t", graph(w={"output_type": "str"}), []),
    ("t", graph("t w", a={"target": "f"}), [f"node 't' is gone: {HERE}"]),
    # Fan-outs with a branch for each target, and their joins.
    ("f", graph(f={"branches": ("c", "b")}), [f"node 'f': branches was 'b', 'c' and is 'c', 'b': {ON}"]),
    ("f", graph(j={"wait": 1, "collect": True, "error": "mend"}), []),
    ("b and c", graph(f={"branches": ("c", "b")}), [
        "node 'f': branches was 'b', 'c' and is 'c', 'b': its results are in the order of its branches",
    ]),
    ("b and c", graph(j={"wait": 1}), ["node 'j': wait was all and is 1: its branches are open"]),
    ("j", graph(j={"wait": 1}), []),
    ("j", graph(j={"collect": True}), ["node 'j': collect was False and is True: the join is running"]),
    ("b and c", graph(j={"error": "mend"}), [
        "node 'j': error was none and is 'mend': a failure of its branches continues from this node",
    ]),
    ("b and c", graph(j={"target": "z"}), [f"node 'j': target was 's' and is 'z': {ON}"]),
    ("b and c", graph(f={"error": "mend"}), [
        "node 'f': error was none and is 'mend': a failure inside it continues from this node",
    ]),
    ("b and c", graph("b2", b={"target": "j"}), [f"node 'b': target was 'b2' and is 'j': {ON}"]),
    ("b2", graph("", function("b1", "b2"), b={"target": "b1"}), []),
    # A node that is still there, with the edges that it had, and not any more in the scope that is open.
    ("b2", graph("", function("out", "b2"), b={"target": "j"}, b2={"target": "j"}, mend={"target": "out"}), [
        f"node 'b2': fan_outs was 'f' and is none: {HERE}",
    ]),
    # Frames and their state.
    ("j", graph(s={"entry": "s/y", "state": ()}), []),
    ("s/x", graph(s={"entry": "s/y"}), []),
    ("s again", graph(s={"entry": "s/y"}), ["node 's': entry was 's/x' and is 's/y': the run begins this frame again"]),
    ("s again", graph(s={"state": ()}), []),
    ("s/x", graph(s={"state": ()}), [
        "node 's': state field 'n' is gone: the run is inside it and holds its value",
    ]),
    ("s/x", graph(s={"state": (replace(N, reducer="add"),)}), [
        "node 's': state field 'n' was int (set) and is int (add): the run is inside it and holds its value",
    ]),
    ("s/x", graph(s={"state": (N, replace(N, name="o"))}), []),
    ("s/x", graph(s={"target": "z"}), [f"node 's': target was 'm' and is 'z': {ON}"]),
    ("s/x", graph(s={"error": "mend"}), [
        "node 's': error was none and is 'mend': a failure inside it continues from this node",
    ]),
    ("s/x", graph("s/y", s__x={"target": END}), [f"node 's/x': target was 's/y' and is '$end': {ON}"]),
    ("s/y", graph("s/x", s={"entry": "s/y"}), []),
    ("s/x", graph("s s/x s/y", j={"target": "m"}), [
        "node 's' is gone: the run is inside it",
        f"node 's/x' is gone: {HERE}",
    ]),
    ("m", graph("s s/x s/y", j={"target": "m"}), []),
    # Fan-outs over items.
    ("m", graph("e", m={"branches": ("d",)}), [f"node 'm': branches was 'd', 'e' and is 'd': {ON}"]),
    ("d and d", graph("e", m={"branches": ("d",)}), []),
    ("d and d", graph("", function("h", "k"), m={"branches": ("d", "e", "h")}), []),
    ("d and d", graph(m={"branches": ("e", "d")}), [
        "node 'm': branches was 'd', 'e' and is 'e', 'd': a queued branch would begin elsewhere",
    ]),
    ("d", graph(m={"branches": ("e", "d")}), []),
    ("d", graph(m={"over": False}), ["node 'm': over was True and is False: its branches are open"]),
    ("k", graph("d e", function("h", "k"), m={"branches": ("h",)}), []),
    ("k", graph(m={"join": "j"}, k={"target": END}), [
        "node 'm': join was 'k' and is 'j': its branches are open",
        f"node 'k': target was 'z' and is '$end': {ON}",
        f"node 'k': fan_outs was none and is 'm': {HERE}",
    ]),
    ("z", graph("m d e k", s={"target": "z"}), []),
]  # fmt: skip


@pytest.mark.parametrize(("at", "new", "expected"), TABLE)
def test_the_effect_of_a_change_depends_on_the_position_of_the_run(at: str, new: Shape, expected: list[str]) -> None:
    assert refused(at, new) == expected


def test_the_state_of_the_run_itself_always_counts() -> None:
    walk = Walk(function("a", END))
    old = replace(walk.shape, state=(N,))
    new = replace(walk.shape, state=(replace(N, name="m"), replace(N, name="o")))
    assert [(str(found), found.safe) for found in assess_changes(walk.run, old, new)] == [
        ("the graph: state field 'm' is new: a new field has its default", True),
        ("the graph: state field 'n' is gone: the run holds its value", False),
        ("the graph: state field 'o' is new: a new field has its default", True),
    ]


def test_whether_a_field_is_required_is_neither_in_the_fingerprint_nor_a_change() -> None:
    old, new = (replace(shape(function("a", END)), state=(replace(N, required=it),)) for it in (False, True))
    assert fingerprint_of(old.to_plain()) == fingerprint_of(new.to_plain())
    assert diff_shapes(old, new) == []


def test_a_failed_wait_is_a_wait() -> None:
    walk = run_at("w")
    walk.fire("t:w#1")
    assert walk.run.status == "failed"
    found = assess_changes(walk.run, walk.shape, graph(w={"signal": "went", "error": "mend"}))
    assert {one.change.what: one.safe for one in found} == {"signal": False, "error": True}


SCOPES = (
    fan_out("f", "s", "t", join="j"),
    frame("s", "s/w", "j", retry=once()),
    wait("s/w", "go", "s/b"),
    function("s/b", END),
    timer("t", 50, "c"),
    function("c", "j"),
    join("j", "z", wait=1),
    function("z", END),
)


@pytest.mark.parametrize("move", [None, "signal", "timer", "both", "join"])
def test_the_edges_out_of_a_scope_are_free_while_all_inside_of_it_is_parked(move: str | None) -> None:
    walk = Walk(*SCOPES)
    walk.spread("f#1", 0, 1)
    if move in ("signal", "both"):
        walk.signal("go")
    if move in ("timer", "both", "join"):
        walk.fire("t:f#1[1]/t#1")
    if move == "join":
        walk.finish("f#1[1]/c#1")
    changed = {"s": {"target": "more"}, "j": {"target": "more2"}, "f": {"error": "z"}}
    nodes = [replace(node, **changed.get(node.name, {})) for node in SCOPES]
    found = assess_changes(walk.run, walk.shape, shape(*nodes, function("more", "j"), function("more2", "z")))
    unsafe = {str(one.change.node) for one in found if not one.safe}
    assert unsafe == {None: set(), "signal": {"s", "j", "f"}, "timer": {"j", "f"}, "both": {"s", "j", "f"}}.get(
        move, {"j", "f"}
    )


def test_an_interrupting_edge_may_be_added_where_a_run_is_but_not_taken_away() -> None:
    edges = (("stop", "mend", ()),)
    walk = run_at("w")
    more = graph(w={"interrupts": edges})
    assert [found.safe for found in assess_changes(walk.run, walk.shape, more)] == [True]
    assert [found.safe for found in assess_changes(walk.run, more, walk.shape)] == [False]
    other = graph(w={"interrupts": (("stop", END, ()),)})
    (found,) = assess_changes(walk.run, more, other)
    assert str(found.change) == "node 'w': interrupts was 'stop' to 'mend' and is 'stop' to '$end'"
    assert found.safe, "the run is parked"
    assert [found.safe for found in assess_changes(run_at("w received").run, more, other)] == [False]
    elsewhere = run_at("t")
    assert [found.safe for found in assess_changes(elsewhere.run, more, elsewhere.shape)] == [True]
    whole = replace(walk.shape, interrupts=edges)
    assert [found.safe for found in assess_changes(walk.run, walk.shape, whole)] == [True]
    assert [found.safe for found in assess_changes(walk.run, whole, walk.shape)] == [False]
    moved = replace(walk.shape, interrupts=(("stop", END, ()),))
    assert [found.safe for found in assess_changes(walk.run, whole, moved)] == [True]
    assert [found.safe for found in assess_changes(run_at("a").run, whole, moved)] == [False]


def test_every_change_is_safe_for_a_run_that_has_ended() -> None:
    walk = Walk(function("a", END))
    walk.finish("a#1")
    assert [found.safe for found in assess_changes(walk.run, walk.shape, shape(function("b", END)))] == [
        True,
        True,
        True,
    ]


def test_every_change_is_one_line_of_text() -> None:
    old = replace(shape(function("a", END, retry=once()), timeout_ms=1), types=("A",), input_type="int")
    new = replace(shape(function("a", END), function("b", END), limits={"max_steps": 2}), types=("B",))
    assert [str(change) for change in diff_shapes(old, new)] == [
        "the graph: timeout_ms was 1 and is none",
        "the graph: input_type was 'int' and is none",
        "the graph: limit 'max_steps' was 1000 and is 2",
        "the graph: type 'A' is gone",
        "the graph: type 'B' is new",
        "node 'a': retry was 3 attempts from 10 ms on and is none",
        "node 'b' is new",
    ]


def test_a_renamed_node_is_compared_with_its_former_self() -> None:
    walk = run_at("a")
    new = graph(
        "a",
        function("b1", "w", error="mend"),
        z={"routes": (("again", "b1", "conditional"), ("done", END, "conditional"))},
    )
    assert [str(found) for found in assess_changes(walk.run, walk.shape, new) if not found.safe] == [
        f"node 'a' is gone: {HERE}"
    ]
    found = assess_changes(walk.run, walk.shape, replace(new, entry="b1"), (("a", "b1"),))
    assert [str(one) for one in found] == ["node 'a' is now 'b1': you named this rename"]


@pytest.mark.parametrize(
    ("renames", "message"),
    [
        ({"q": "z"}, "rename of 'q': the graph of the run has no such node"),
        ({"a": "q"}, "rename of 'a': the new graph has no node 'q'"),
        ({"a": "z"}, "rename to 'z': both 'a' and 'z' would be 'z'"),
        ({"a": "new", "w": "new"}, "rename to 'new': both 'a' and 'w' would be 'new'"),
        ({"s/x": "new"}, "rename of 's/x': it would leave its frame 's' as 'new'"),
        ({"a": "s/x"}, "rename of 'a': it would leave its frame '' as 's/x'"),
    ],
)
def test_an_impossible_rename_is_refused(renames: dict[str, str], message: str) -> None:
    walk = run_at("a")
    with pytest.raises(BadRename) as caught:
        assess_changes(walk.run, walk.shape, graph("", function("new", END)), tuple(renames.items()))
    assert message in str(caught.value)
    assert caught.value.graph == "hand-built"


def test_a_guessed_rename_has_the_kind_and_the_edges_of_the_removed_node() -> None:
    ab = (function("a", "b"), function("b", "c"), function("c", END))
    assert guess_renames(shape(*ab), shape(function("x", "b"), *ab[1:])) == {"a": "x"}
    assert guess_renames(shape(*ab), shape(function("x", "y"), function("y", "c"), ab[2])) == {"a": "x", "b": "y"}
    assert guess_renames(shape(*ab), shape(timer("x", 1, "b"), *ab[1:])) == {}
    assert guess_renames(shape(*ab), shape(function("x", "c"), *ab[1:])) == {}
    inside = function("s/x", END)
    framed = shape(frame("s", "s/x", END), inside)
    assert guess_renames(framed, shape(frame("p", "p/x", END), replace(inside, name="p/x", frame="p"))) == {"s": "p"}


def test_two_candidates_make_no_guess() -> None:
    old = shape(fan_out("f", "a", "b", join="j"), function("a", "j"), function("b", "j"), join("j", END))
    new = shape(fan_out("f", "x", "y", join="j"), function("x", "j"), function("y", "j"), join("j", END))
    assert guess_renames(old, new) == {}


def test_the_error_lists_the_changes_and_the_ways_out() -> None:
    error = GraphChanged("r", ("node 'a' is gone: the run is at this node",), {"a": "b"})
    assert str(error) == (
        "run 'r': the graph has changed where the run is:\n"
        "  node 'a' is gone: the run is at this node\n"
        "restore what changed; if a node was only renamed, resume('r', rename={'a': 'b'}); "
        "fork the run from a step before it; or cancel it"
    )
    assert "resume('r', rename={…})" in str(GraphChanged("r", ("x",)))
