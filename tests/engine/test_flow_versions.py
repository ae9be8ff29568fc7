"""Versions of a flow: runs keep the one that they began with, and several are served side by side."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from beluga_graph import (
    END,
    START,
    Agent,
    BadName,
    Engine,
    Graph,
    GraphChanged,
    LoopAgent,
    ParallelAgent,
    RunConflict,
    RunError,
    SequentialAgent,
    Workflow,
    step,
)
from beluga_graph.plan.plan import fingerprint_of
from beluga_graph.testing import ScriptedModel


def shop(version: str | None, *, name: str = "shop", says: str | None = None) -> Graph:
    """Return a flow that waits for a signal and then says which version of it goes on."""
    g = Graph(name, version=version)

    @g.node
    async def done(value: str) -> str:
        return f"{value} by {says or version}"

    g.wait("paid", "paid", type=str)
    for source, target in ((START, "paid"), ("paid", done), (done, END)):
        g.edge(source, target)
    return g


@step
async def one(value: int) -> int:
    return value


INNER = Workflow("inner", one)
FLOWS: list[Callable[..., Any]] = [
    shop,
    lambda version: Workflow("shop", one, version=version),
    lambda version: Agent("shop", model=ScriptedModel(["yes"]), version=version),
    lambda version: SequentialAgent("shop", [INNER], version=version),
    lambda version: ParallelAgent("shop", [INNER], version=version),
    lambda version: LoopAgent("shop", INNER, version=version),
]


@pytest.mark.parametrize("make", FLOWS)
def test_every_flow_can_have_a_version_which_its_id_carries(make: Callable[..., Any]) -> None:
    flow, without = make("2"), make(None)
    assert (flow.name, flow.version, flow.id, flow.plan().name) == ("shop", "2", "shop@2", "shop@2")
    assert (without.version, without.id, without.plan().name) == (None, "shop", "shop")
    assert list(flow.plan().shape.nodes) == list(without.plan().shape.nodes)
    assert len({make(version).plan().fingerprint for version in (None, "1", "2")}) == 3


@pytest.mark.parametrize("make", FLOWS)
def test_a_flow_without_a_version_has_the_shape_that_it_always_had(make: Callable[..., Any]) -> None:
    shape = make(None).plan().shape
    plain = shape.to_plain()
    assert "version" not in plain
    assert shape.fingerprint == fingerprint_of({**plain, "fingerprint": ""})


@pytest.mark.parametrize("version", ["", "a b", "1@2", "1/2", "é", "x" * 41, 2])
def test_a_version_that_is_no_short_text_is_refused(version: Any) -> None:
    with pytest.raises(BadName, match="1 to 40 letters and digits of ASCII"):
        Graph("shop", version=version)


def test_a_name_with_an_at_sign_is_free_as_long_as_it_has_no_version() -> None:
    assert Graph("shop@home").id == "shop@home"
    with pytest.raises(BadName, match="it contains @"):
        Graph("shop@home", version="2")
    with pytest.raises(BadName, match="1 to 200 characters"):
        Graph("x" * 199, version="2")


async def test_a_name_that_equals_the_id_of_a_version_is_not_taken_for_it() -> None:
    version, name = shop("2"), shop(None, name="shop@2")
    async with Engine() as engine:
        await engine.start(version, "v", run_id="v")
        with pytest.raises(BadName, match="the id 'shop@2' stands for flow 'shop' here"):
            engine.register(name)
        changes = await engine.difference("v", name)
        assert [str(one) for one in changes if not one.safe] == [
            "the graph: version was '2' and is none: it is another flow with the same id"
        ]
        home = shop(None, name="shop@home")
        await engine.start(home, "h", run_id="h")
        with pytest.raises(RunConflict, match="a run of flow 'shop@home', not 'shop@2'"):
            await engine.start(version, "h", run_id="h")


async def test_a_run_of_the_same_id_but_another_name_is_refused(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await engine.start(shop("2"), "v", run_id="v")
    async with Engine(tmp_path) as engine:
        engine.register(shop(None, name="shop@2"))
        with pytest.raises(GraphChanged, match="it is another flow with the same id"):
            await engine.resume("v")


async def test_runs_keep_their_version_and_are_served_side_by_side(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        for version in (None, "1", "2"):
            await engine.start(shop(version), "paid", run_id=f"r{version}")
    async with Engine(tmp_path) as engine:
        for version in (None, "1", "2"):
            engine.register(shop(version))
        assert {run.run_id: run.flow for run in await engine.runs()} == {
            "rNone": "shop",
            "r1": "shop@1",
            "r2": "shop@2",
        }
        for version in (None, "1", "2"):
            run = await engine.resume(f"r{version}")
            await run.signal("paid", "ada")
            assert await run.result(60) == f"ada by {version}"


async def test_a_known_id_goes_on_in_its_version_if_a_later_one_is_started(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await engine.start(shop("1"), "paid", run_id="r")
    async with Engine(tmp_path) as engine:
        with pytest.raises(RunError, match=r"it keeps its version of the flow, 'shop@1'.*known: shop@2"):
            await engine.start(shop("2"), "paid", run_id="r")
        engine.register(shop("1"))
        run = await engine.start(shop("2"), "paid", run_id="r")
        with pytest.raises(RunConflict, match="another input"):
            await engine.start(shop("2"), "other", run_id="r")
        await run.signal("paid", "ada")
        assert await run.result(60) == "ada by 1"
        assert await engine.execute(shop("2"), "paid", run_id="r") == "ada by 1"
        events = [event async for event in engine.stream(shop("2"), "paid", run_id="r")]
        assert events[-1].output == "ada by 1"


async def test_a_run_whose_version_is_not_registered_is_refused_with_those_that_are(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await engine.start(shop("1"), "paid", run_id="r1")
        await engine.start(shop(None), "paid", run_id="r")
    async with Engine(tmp_path) as engine:
        engine.register(shop("2"))
        engine.register(shop("3"))
        engine.register(shop(None, name="other"))
        for run_id, flow_id in (("r1", "shop@1"), ("r", "shop")):
            with pytest.raises(RunError) as refused:
                await engine.resume(run_id)
            assert str(refused.value) == (
                f"run {run_id!r}: it keeps its version of the flow, {flow_id!r}, and only other ones are known here "
                "(known: shop@2, shop@3): call engine.register with that version too, until its runs have ended"
            )
        assert set((await engine.recover()).skipped) == {"r1", "r"}
        await engine.signal("r1", "paid", "ada")  # kept until the version is back
        engine.register(shop("1"))
        assert await (await engine.resume("r1")).result(60) == "ada by 1"


async def test_a_version_may_change_as_a_flow_without_one_may(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        await engine.start(shop("1"), "paid", run_id="r")
    async with Engine(tmp_path) as engine:
        engine.register(shop("1", says="one, repaired"))
        run = await engine.resume("r")
        await run.signal("paid", "ada")
        assert await run.result(60) == "ada by one, repaired"


async def test_a_session_goes_on_from_version_to_version(tmp_path: Path) -> None:
    async with Engine(tmp_path) as engine:
        for number, version in enumerate((None, "1", "2"), 1):
            model = ScriptedModel([f"answer {number}"])
            agent = Agent("desk", model=model, version=version)
            assert await engine.execute(agent, f"question {number}", session="ada") == f"answer {number}"
            assert len(model.requests[0].messages) == 2 * number - 1


def test_a_flow_inside_of_another_one_is_a_node_under_its_name() -> None:
    outer = Graph("outer")
    outer.add(shop("2"))
    outer.edge(START, "shop")
    outer.edge("shop", END)
    assert set(outer.plan().shape.nodes) == {"shop", "shop/paid", "shop/done"}
    assert outer.plan().name == "outer"
