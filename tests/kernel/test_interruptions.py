"""Which node is to blame for the deaths of its owners, counted on a run of two branches."""

from __future__ import annotations

from stepping import Walk, fan_out, function, join

from beluga_graph.kernel.interruptions import (
    count_interruptions,
    find_guilty,
    needs_trial,
    order_by_interruptions,
)
from beluga_graph.kernel.shape import END
from beluga_graph.kernel.triggers import RunTakenOver
from beluga_graph.kernel.work import list_work

A, B = "f#1[0]/a#1", "f#1[1]/b#1"


def branches(limit: int = 5) -> Walk:
    """Return a run with two nodes under way, at `A` and `B`."""
    walk = Walk(
        fan_out("f", "a", "b", join="j"),
        function("a", "j"),
        function("b", "j"),
        join("j", END),
        limits={"max_interruptions": limit},
    )
    walk.spread("f#1", 0, 1)
    return walk


def interrupt(walk: Walk, **counts: int) -> None:
    walk.decide(RunTakenOver(walk.now, tuple(({"a": A, "b": B}[name], count) for name, count in counts.items())))


def test_a_death_counts_against_every_node_that_was_running() -> None:
    walk = branches()
    assert count_interruptions(walk.shape, walk.run) == ((A, 1), (B, 1))


def test_deaths_beside_others_count_only_up_to_half_of_the_limit() -> None:
    walk = branches(5)
    for _ in range(4):
        walk.decide(RunTakenOver(walk.now, count_interruptions(walk.shape, walk.run)))
    assert [walk.run.tokens[name].interruptions for name in (A, B)] == [3, 3]


def test_a_node_needs_a_trial_once_it_has_half_of_the_limit() -> None:
    for limit, half in ((1, 1), (2, 1), (5, 3), (6, 3)):
        walk = branches(limit)
        interrupt(walk, a=half, b=half - 1)
        needing = [name for name in (A, B) if needs_trial(walk.shape, walk.run, walk.run.tokens[name])]
        assert needing == [A], f"max_interruptions {limit}"


def test_a_node_is_guilty_when_it_was_interrupted_more_often_than_allowed() -> None:
    walk = branches(5)
    interrupt(walk, a=5, b=6)
    assert [token.name for token in find_guilty(walk.shape, walk.run)] == [B]


def test_a_node_that_does_not_run_is_neither_counted_nor_guilty() -> None:
    walk = branches(1)
    interrupt(walk, a=2, b=2)
    walk.finish(A)
    assert [token.name for token in find_guilty(walk.shape, walk.run)] == [B]
    assert count_interruptions(walk.shape, walk.run) == ((B, 2),)


def test_the_node_with_the_fewest_interruptions_comes_first() -> None:
    walk = branches()
    interrupt(walk, a=2, b=1)
    ordered = order_by_interruptions(walk.run, list_work(walk.shape, walk.run))
    assert [item[0] for item in ordered] == [B, A]
