"""Renamed nodes: a token keeps its name, and no name is used twice."""

from __future__ import annotations

from dataclasses import replace

import pytest
from stepping import Walk, fan_out, frame, function, join, once, shape, timer, wait

from beluga_graph.kernel.renames import rename_path, split_token_name
from beluga_graph.kernel.shape import END, NodeShape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import PlanAdopted
from beluga_graph.kernel.work import diff_work, list_work


def adopt(walk: Walk, *nodes: NodeShape, **rename: str) -> None:
    """Let a run adopt another shape; `__` in a name is a slash."""
    pairs = tuple((old.replace("__", "/"), new.replace("__", "/")) for old, new in rename.items())
    before = list_work(walk.shape, walk.run)
    walk.shape = replace(shape(*nodes), fingerprint="g")
    patch = advance(walk.shape, walk.run, PlanAdopted("g", walk.now, pairs))
    walk.run.apply(patch)
    change = diff_work(walk.shape, walk.run, patch)
    assert (change.tokens, change.timers, change.new, change.whole) == ((), (), (), False)
    assert list_work(walk.shape, walk.run) == before  # the work of a run does not depend on the names of nodes
    assert Snapshot.from_plain(walk.run.to_plain()).to_plain() == walk.run.to_plain()
    assert walk.run.plan == "g"


def test_a_path_is_renamed_by_the_longest_name_that_it_begins_with() -> None:
    pairs = (("sub", "part"), ("sub/x", "part/y"), ("a", "b"), ("b", "a"))
    paths = ["sub", "sub/z", "sub/x", "sub/x/q", "subs", "a", "b", "c", "a/c"]
    images = ["part", "part/z", "part/y", "part/y/q", "subs", "b", "a", "c", "b/c"]
    assert [rename_path(path, pairs) for path in paths] == images


@pytest.mark.parametrize(
    ("name", "place"), [("n#3", ""), ("f#1[2]/n#3", "f#1[2]/"), ("s#1[0]/f#1[2]/n#3", "s#1[0]/f#1[2]/")]
)
def test_a_token_name_is_split_into_local_name_and_visit(name: str, place: str) -> None:
    assert split_token_name(name, place) == ("n", 3)


def test_a_running_node_keeps_its_token_and_follows_the_new_edges() -> None:
    walk = Walk(function("a", "z"), function("z", END))
    adopt(walk, function("b", "z"), function("z", END), a="b")
    assert (walk.running, walk.run.tokens["a#1"].node) == (["a#1"], "b")
    walk.finish("a#1")
    assert walk.tokens == ["z#1"]


def test_visits_after_the_rename_continue_the_count() -> None:
    walk = Walk(function("a", "c"), function("c", "a"))
    walk.finish("a#1")
    walk.finish("c#1")
    adopt(walk, function("b", "c"), function("c", "b"), a="b")
    walk.finish("a#2")
    walk.finish("c#2")
    assert walk.tokens == ["b#3"]


def test_nodes_that_swap_their_names_reuse_no_token_name() -> None:
    walk = Walk(function("a", "b"), function("b", "a"))
    walk.finish("a#1")
    adopt(walk, function("b", "a"), function("a", "b"), a="b", b="a")
    given = ["a#1", "b#1"]
    for _ in range(4):
        (name,) = walk.tokens
        walk.finish(name)
        given += walk.tokens
    assert given == ["a#1", "b#1", "b#2", "a#2", "b#3", "a#3"]


def test_a_new_node_of_an_old_name_reuses_no_token_name() -> None:
    walk = Walk(function("a", END))
    adopt(walk, function("b", "a"), function("a", END), a="b")
    walk.finish("a#1")
    assert walk.tokens == ["a#2"]


def test_a_wait_is_served_under_its_signal() -> None:
    walk = Walk(wait("w", "go", END, timeout_ms=50))
    adopt(walk, wait("v", "go", END, timeout_ms=50), w="v")
    walk.signal("go")
    assert walk.run.status == "completed"
    assert walk.is_bare


def test_a_timer_fires() -> None:
    walk = Walk(timer("t", 50, END))
    adopt(walk, timer("u", 90, END), t="u")
    assert walk.armed == {"t:t#1": 1050}
    walk.fire("t:t#1")
    assert walk.run.status == "completed"


def test_a_node_between_two_attempts_makes_its_next_attempt() -> None:
    walk = Walk(function("a", END, retry=once()))
    walk.fail("a#1", retryable=True)
    adopt(walk, function("b", END, retry=once()), a="b")
    walk.fire("t:a#1")
    walk.finish("a#1")
    assert walk.run.status == "completed"


def test_a_failed_node_is_armed_again() -> None:
    walk = Walk(function("a", END))
    walk.fail("a#1")
    adopt(walk, function("b", END), a="b")
    assert walk.run.status == "failed"
    walk.resume()
    assert walk.run.tokens["a#1"].node == "b"
    walk.finish("a#1")
    assert walk.run.status == "completed"


def test_an_open_frame_continues_inside_and_after_it() -> None:
    walk = Walk(frame("s", "s/x", "z"), function("s/x", "s/y"), function("s/y", END), function("z", END))
    adopt(
        walk,
        frame("p", "p/x", "z"),
        function("p/x", "p/v"),
        function("p/v", END),
        function("z", END),
        s="p",
        s__y="p__v",
    )
    token = walk.run.tokens["s#1[0]/x#1"]
    assert (token.node, walk.run.scopes["s#1"].node) == ("p/x", "p")
    walk.finish("s#1[0]/x#1")
    assert walk.tokens == ["s#1[0]/v#1"]
    walk.finish("s#1[0]/v#1")
    assert walk.tokens == ["z#1"]


def test_an_open_frame_that_fails_begins_again_under_a_new_name() -> None:
    walk = Walk(frame("s", "s/x", END, retry=once()), function("s/x", END))
    adopt(walk, frame("p", "p/x", END, retry=once()), function("p/x", END), s="p")
    walk.fail("s#1[0]/x#1")
    assert walk.tokens == ["p#2"]
    walk.fire("t:p#2")
    walk.finish("p#2[0]/x#1")
    assert walk.run.status == "completed"
    assert walk.is_bare


def test_a_frame_between_two_tries_opens_under_its_token_s_name() -> None:
    walk = Walk(frame("s", "s/x", END, retry=once(), timeout_ms=500), function("s/x", END))
    walk.fail("s#1[0]/x#1")
    adopt(walk, frame("p", "p/x", END, retry=once(), timeout_ms=500), function("p/x", END), s="p")
    walk.fire("t:s#2")
    assert walk.running == ["s#2[0]/x#1"]
    assert walk.run.scopes["s#2"].node == "p"
    walk.fail("s#2[0]/x#1")
    assert walk.tokens == ["p#3"]
    walk.fire("t:p#3")
    walk.finish("p#3[0]/x#1")
    assert walk.run.status == "completed"
    assert walk.is_bare


def spread(f: str, a: str, j: str) -> list[NodeShape]:
    return [fan_out(f, a, join=j, over=True, max_concurrency=2), function(a, j), join(j, END, timeout_ms=500)]


def test_a_fan_out_opens_under_its_token_s_name() -> None:
    walk = Walk(*spread("f", "a", "j"))
    adopt(walk, *spread("g", "b", "k"), f="g", a="b", j="k")
    walk.spread("f#1", 0, 0, 0)
    assert walk.running == ["f#1[0]/b#1", "f#1[1]/b#1"]
    assert walk.armed == {"s:f#1": 1500}
    walk.finish("f#1[1]/b#1")
    walk.finish("f#1[0]/b#1")
    walk.finish("f#1[2]/b#1")
    assert walk.tokens == ["k#1"]
    walk.finish("k#1")
    assert walk.run.status == "completed"
    assert walk.is_bare


def test_an_open_fan_out_reaches_its_renamed_join() -> None:
    walk = Walk(*spread("f", "a", "j"))
    walk.spread("f#1", 0, 0, 0)
    walk.finish("f#1[0]/a#1")
    adopt(walk, *spread("g", "b", "k"), f="g", a="b", j="k")
    assert walk.running == ["f#1[1]/a#1", "f#1[2]/a#1"]
    walk.finish("f#1[1]/a#1")
    walk.finish("f#1[2]/a#1")
    assert walk.run.tokens["k#1"].node == "k"
    walk.finish("k#1")
    assert walk.is_bare


def test_a_running_join_finishes() -> None:
    walk = Walk(*spread("f", "a", "j"))
    walk.spread("f#1", 0)
    walk.finish("f#1[0]/a#1")
    adopt(walk, *spread("g", "b", "k"), f="g", a="b", j="k")
    assert (walk.tokens, walk.run.tokens["j#1"].node) == (["j#1"], "k")
    walk.finish("j#1")
    assert walk.is_bare


def test_counters_move_in_every_place_of_the_frame_and_in_no_other() -> None:
    old = [
        fan_out("f", "a", join="j", over=True),
        function("a", "s"),
        frame("s", "s/a", "j"),
        function("s/a", END),
        join("j", END),
    ]
    new = [
        fan_out("f", "b", join="j", over=True),
        function("b", "s"),
        frame("s", "s/a", "j"),
        function("s/a", END),
        join("j", END),
    ]
    walk = Walk(*old)
    walk.spread("f#1", 0, 0)
    walk.finish("f#1[0]/a#1")
    adopt(walk, *new, a="b")
    visits = {name: place.visits for name, place in walk.run.places.items()}
    assert visits == {
        "": {"f": 1},
        "f#1[0]/": {"a": 1, "s": 1, "b": 1},
        "f#1[1]/": {"a": 1, "b": 1},
        "f#1[0]/s#1[0]/": {"a": 1},
    }


def test_a_rename_and_its_reverse_restore_the_tokens() -> None:
    walk = Walk(frame("s", "s/x", "z"), function("s/x", END), function("z", END))
    before = dict(walk.run.tokens)
    adopt(walk, frame("p", "p/y", "z"), function("p/y", END), function("z", END), s="p", s__x="p__y")
    adopt(walk, frame("s", "s/x", "z"), function("s/x", END), function("z", END), p="s", p__y="s__x")
    assert walk.run.tokens == before
    walk.finish("s#1[0]/x#1")
    assert walk.tokens == ["z#1"]
