"""Comparing two runs: shared history counts once, and a difference is reported once, where it began."""

import asyncio
import random
from dataclasses import dataclass
from decimal import Decimal
from enum import Enum
from typing import Annotated, Any

import pytest
from pydantic import BaseModel
from sample_runs import HOSTILE, choosing, looping, spreading, waiting

from beluga_graph import END, START, Context, Engine, Graph, RunComparison, RunNotFound, add
from beluga_graph.codec import Unregistered
from beluga_graph.inspection.comparison import ABSENT
from beluga_graph.inspection.differences import are_same, differences
from beluga_graph.storage.keys import Keys
from stores.base import Delete


class Circles(BaseModel):
    made: Annotated[int, add] = 0


def parts(found: RunComparison) -> list[Any]:
    return [part and (part.run_id, part.seq, part.token, part.event) for part in found.divergences]


def visits(found: RunComparison) -> dict[str, tuple[int, int]]:
    return {node.node: node.visits for node in found.nodes if node.differs}


async def test_a_run_does_not_differ_from_itself_or_from_an_equal_run() -> None:
    async with Engine() as engine:
        await engine.execute(spreading, 30, run_id="a")
        await engine.execute(spreading, 30, run_id="b")
        found = await engine.compare("a", "b")
        assert (found.differs, found.shared_steps, parts(found)) == (False, 0, [None, None])
        itself = await engine.compare("a", "a")
    assert (itself.differs, itself.shared_steps) == (False, itself.first.seq)
    assert itself.first == itself.second


async def test_the_order_in_which_branches_finish_is_not_a_difference() -> None:
    mixed = Graph("mixed")

    @mixed.node
    async def work(value: int) -> int:
        for _ in range(random.randrange(8)):
            await asyncio.sleep(0)
        return value

    mixed.fan_out("each", to=work, over=lambda count: list(range(count)), join="all")
    mixed.join("all", sum)
    mixed.edge(START, "each")
    mixed.edge("all", END)
    async with Engine() as engine:
        for run_id in ("a", "b"):
            await engine.execute(mixed, 40, run_id=run_id)
        orders = [[step.token for step in await engine.history(run_id)] for run_id in ("a", "b")]
        assert orders[0] != orders[1]
        assert not (await engine.compare("a", "b")).differs


async def test_paths_diverge_where_different_visits_begin() -> None:
    async with Engine() as engine:
        await engine.execute(choosing, 1, run_id="a")
        await engine.execute(choosing, 99, run_id="b")
        found = await engine.compare("a", "b")
    assert parts(found) == [("a", 3, "left#1", "begins"), ("b", 3, "right#1", "begins")]
    assert visits(found) == {"left": (1, 0), "right": (0, 1)}
    assert [(value.name, value.values) for value in found.outputs] == [("look#1", (1, 99)), ("weigh#1", (1, 99))]
    assert {value.name: value.values for value in found.state} == {"way": ("left", "right"), "seen": ([1], [99])}
    assert (found.input_differs, found.output_differs) == (True, True)


async def test_a_fork_shares_the_history_of_its_source() -> None:
    async with Engine() as engine:
        await engine.execute(choosing, 50, run_id="a")
        fork = await engine.fork("a", 2, run_id_new="b", update={"way": "l"})
        await fork.result()
        found = await engine.compare("a", "b")
        again = await engine.fork("b", 1, run_id_new="c")
        await again.result()
        other = await engine.compare("c", "a")
    assert found.shared_steps == 2
    assert (found.first.forked_from, found.second.forked_from) == (None, ("a", 2))
    assert parts(found) == [("a", 3, "right#1", "begins"), ("b", 2, "left#1", "begins")]
    assert visits(found) == {"left": (0, 1), "right": (1, 0)}
    assert [value.name for value in found.outputs] == []
    assert [value.name for value in found.state] == ["way"]
    assert other.shared_steps == 2
    assert other.first.forked_from == ("b", 1)


def circling() -> Graph:
    """Return a flow with routes back and out only: a longer run makes every visit that a shorter one makes."""
    g = Graph("circling", state=Circles)

    @g.node
    async def turn(ctx: Context, value: int) -> int:
        ctx.update(made=1)
        return value

    def choose(ctx: Context, value: int) -> str:
        return "out" if ctx.state.made >= value else "back"

    g.edge(START, turn)
    g.branch(turn, choose, {"back": turn, "out": END})
    return g


async def test_paths_diverge_at_a_route_that_begins_no_visit_of_its_own() -> None:
    async with Engine() as engine:
        await engine.execute(circling(), 4, run_id="a")
        await (await engine.fork("a", 2, run_id_new="b", replace={"made": 9})).result()
        found = await engine.compare("a", "b")
        details = [(part.token, part.event, part.detail) for part in found.divergences if part]
    assert details == [("turn#3", "begins", ""), ("turn#2", "chooses", "'out'")]
    assert [part and (part.run_id, part.seq) for part in found.divergences] == [("a", 3), ("b", 2)]


async def test_two_forks_of_one_run_share_the_steps_before_the_first_fork() -> None:
    async with Engine() as engine:
        await engine.execute(looping, 9, run_id="a")
        for run_id, seq in (("b", 3), ("c", 6)):
            await (await engine.fork("a", seq, run_id_new=run_id)).result()
        found = await engine.compare("b", "c")
    assert (found.shared_steps, found.differs) == (3, False)
    assert found.first.attempts == found.second.attempts == 9


async def test_the_time_between_a_source_and_its_fork_is_not_counted() -> None:
    async with Engine() as engine:
        await engine.execute(spreading, 9, run_id="a")
        await engine.execute(looping, 500, run_id="between")
        await (await engine.fork("a", 4, run_id_new="b")).result()
        found = await engine.compare("a", "b")
        steps = await engine.history("b")
        source = await engine.history("a")
    own = steps[-1].at_ms - steps[0].at_ms
    assert found.second.took_ms == own + source[3].at_ms - source[0].at_ms
    assert found.second.busy_ms <= 9 * 4 * found.second.took_ms


async def test_a_fork_without_its_source_is_compared_from_the_fork_on() -> None:
    async with Engine() as engine:
        await engine.execute(choosing, 50, run_id="a")
        await engine.execute(choosing, 50, run_id="same")
        await (await engine.fork("a", 2, run_id_new="b")).result()
        assert (await engine.compare("same", "b")).second.lost_before is None
        await gone(engine, "a")
        found = await engine.compare("same", "b")
        assert found.second.lost_before == found.second.forked_from == ("a", 2)
        assert parts(found) == [None, None]
        await engine.execute(choosing, 1, run_id="a")  # another run of that name is not its source
        assert (await engine.compare("same", "b")).second.lost_before == ("a", 2)


async def gone(engine: Engine, run_id: str) -> None:
    """Remove a run from the store."""
    keys = Keys(run_id)
    run = [key for letter in b"HLNSC" for key, _ in engine.store.scan(bytes([letter]) + keys.run_key)]
    engine.store.commit(*map(Delete, run))


async def test_failures_are_compared_by_their_text() -> None:
    async with Engine() as engine:
        await engine.execute(spreading, 3, run_id="a")
        await engine.execute(spreading, 4, run_id="b")
        found = await engine.compare("a", "b")
        assert parts(found)[0] is None
        assert parts(found)[1][2:] == ("each#1[3]/inside#1", "begins")
        assert visits(found) == {"inside": (3, 4), "inside/check": (3, 4)}


async def test_runs_of_different_flows_are_compared_by_their_common_parts() -> None:
    async with Engine() as engine:
        await engine.execute(looping, 2, run_id="a")
        run = await engine.start(waiting, HOSTILE, run_id="b")
        while await run.status() != "waiting":
            await engine.snapshot("b")
        found = await engine.compare("a", "b")
        assert (found.same_flow, found.same_plan, found.differs) == (False, False, True)
        assert [(part.run_id, part.seq) for part in found.divergences if part] == [("a", 1), ("b", 1)]
        with pytest.raises(RunNotFound):
            await engine.compare("a", "nobody")


@dataclass(frozen=True)
class Never:
    """A value whose comparison raises."""

    x: int

    def __eq__(self, other: object) -> bool:
        raise ArithmeticError

    def __hash__(self) -> int:
        return self.x


class Mood(Enum):
    """An Enum whose members do not equal themselves."""

    GLAD = 1
    SAD = 2

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = Enum.__hash__


@pytest.mark.parametrize(
    ("one", "other", "where"),
    [
        (1, True, [("", 1, True)]),
        (1, 1.0, [("", 1, 1.0)]),
        (float("nan"), float("nan"), []),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}, []),
        ({1: "x"}, {True: "x"}, [("[1]", "x", ABSENT), ("[True]", ABSENT, "x")]),
        ([1, 2], [1, 2, 3], [("[2]", ABSENT, 3)]),
        ({"a": [{"b": 1}]}, {"a": [{"b": 2}]}, [('["a"][0]["b"]', 1, 2)]),
        (Unregistered("m:A", {"x": 1}), Unregistered("m:A", {"x": 2}), [(".x", 1, 2)]),
        (Unregistered("m:A", {}), Unregistered("m:B", {}), [("", Unregistered("m:A", {}), Unregistered("m:B", {}))]),
        ({1, 2}, {2, 1}, []),
        (b"a", b"b", [("", b"a", b"b")]),
        (None, None, []),
        (Decimal("sNaN"), Decimal("sNaN"), []),
        (Decimal("NaN"), Decimal("NaN"), []),
        (Decimal("sNaN"), Decimal("NaN"), [("", Decimal("sNaN"), Decimal("NaN"))]),
        (Decimal("NaN1"), Decimal(1), [("", Decimal("NaN1"), Decimal(1))]),
        (Decimal("1.0"), Decimal("1.00"), []),
        (0.0, -0.0, []),
        ({"a": [Decimal("sNaN")]}, {"a": [Decimal("sNaN")]}, []),
        ({float("nan"), 1}, {1, float("nan")}, []),
        ({Decimal("NaN")}, {Decimal("NaN")}, []),
        ({1}, {True}, [("", {1}, {True})]),
        (frozenset({(1, float("nan"))}), frozenset({(1, float("nan"))}), []),
        ({float("nan"): 1}, {float("nan"): 2}, [("[nan]", 1, 2)]),
        ({("k", float("nan")): 1}, {("k", float("nan")): 1}, []),
        (Unregistered("m:A", {"x": Decimal("sNaN")}), Unregistered("m:A", {"x": Decimal("sNaN")}), []),
        ({Unregistered("m:A", {"x": [float("nan")]})}, {Unregistered("m:A", {"x": [float("nan")]})}, []),
        (Never(1), Never(1), []),
        (Never(1), Never(2), [(".x", 1, 2)]),
        ({Never(1)}, {Never(1)}, []),
        ({Never(1): 1}, {Never(1): 1}, []),
        (Mood.GLAD, Mood.GLAD, []),
        (Mood.GLAD, Mood.SAD, [("", Mood.GLAD, Mood.SAD)]),
    ],
)
def test_differences_yields_each_place_where_two_values_differ(one: Any, other: Any, where: list[Any]) -> None:
    found = list(differences(one, other))
    assert repr(found) == repr(where)
    assert are_same(one, other) == (not where)
    assert are_same(one, one)


def test_deeply_nested_values_are_compared() -> None:
    one: Any = 1
    other: Any = 2
    for _ in range(1000):
        one, other = [one], [other]
    assert are_same(one, one)
    assert list(differences(one, other)) == [("[0]" * 1000, 1, 2)]


async def test_runs_with_a_value_whose_comparison_raises_are_compared() -> None:
    g = Graph("odd")
    g.edge(START, g.node(name="n")(lambda value: [value, {"deep": value}]))
    g.edge("n", END)
    async with Engine() as engine:
        for run_id in ("a", "b"):
            await engine.execute(g, Decimal("sNaN"), run_id=run_id)
        found = await engine.compare("a", "b")
        assert (found.differs, found.output_differs, found.input_differs) == (False, False, False)
