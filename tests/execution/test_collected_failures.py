"""A failure that a join collects names its branch and the item of that branch."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from beluga_graph import END, START, Engine, Failure, Graph, Limits, ParallelAgent, step
from beluga_graph.kernel.snapshot import Snapshot
from stores import LMDBStore

ITEMS = [{"n": n, "text": "x" * (9_000 if n % 2 else 1)} for n in range(6)]


def last_part(item: dict[str, Any]) -> int:
    """Fail in the last node of the branch, which does not get the item."""
    if item["n"] % 3:
        raise ValueError(f"no {item['n']}")
    return item["n"]


def collecting(*, frame: bool = False, nested: bool = False, chain: bool = False, most: int | None = None) -> Graph:
    """Return a flow with a branch per item and a join that collects failures."""
    g = Graph("collecting")

    @g.node
    async def prepare(item):
        return {"n": item["n"]}

    if frame:
        inner = Graph("inner")
        inner.node(name="last_part")(last_part)
        inner.edge(START, "last_part")
        inner.edge("last_part", END)
        g.add(inner, name="last_part")
    else:
        g.node(last_part)
    first = "prepare" if chain else "last_part"
    g.edge("prepare", "last_part")
    g.edge("last_part", "in")
    if not chain:
        g.declare().nodes.pop("prepare")
        g.declare().edges.remove(("prepare", "last_part"))
    g.fan_out("out", to=first, over=lambda value: ITEMS, join="in", max_concurrency=most)
    g.join("in", on_error="collect")
    if nested:
        g.fan_out("outer", to=["out"], join="outer_in")
        g.join("outer_in", lambda results: results[0], on_error="collect")
        g.edge(START, "outer")
        g.edge("in", "outer_in")
        g.edge("outer_in", END)
    else:
        g.edge(START, "out")
        g.edge("in", END)
    return g


def assert_told(results: list[Any]) -> None:
    assert [result if not isinstance(result, Failure) else "failed" for result in results] == [
        0, "failed", "failed", 3, "failed", "failed",
    ]  # fmt: skip
    for branch, result in enumerate(results):
        if isinstance(result, Failure):
            assert (result.branch, result.item, result.message) == (branch, ITEMS[branch], f"no {branch}")


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("chain", [False, True])
@pytest.mark.parametrize("frame", [False, True])
async def test_a_collected_failure_names_its_branch_and_item(
    frame: bool, chain: bool, nested: bool, most: int | None
) -> None:
    async with Engine() as engine:
        assert_told(await engine.execute(collecting(frame=frame, chain=chain, nested=nested, most=most), 1))


async def test_the_item_of_a_branch_with_its_own_target_is_the_shared_value() -> None:
    def refuse(value: Any) -> None:
        raise ValueError("no")

    g = Graph("refusing")
    g.add(step("refuse", refuse))
    g.edge(START, "refuse")
    g.edge("refuse", END)
    results = await ParallelAgent("p", [g], on_error="collect").invoke({"a": 1})
    assert (results["refusing"].branch, results["refusing"].item) == (0, {"a": 1})


async def test_a_failure_that_no_join_collected_names_no_branch() -> None:
    g = Graph("g")
    g.node(name="n")(last_part)
    g.node(name="handle")(lambda failure: [failure.branch, failure.item, failure.input])
    g.edge(START, "n")
    g.edge("n", END)
    g.edge("handle", END)
    g.on_error("n", "handle")
    assert await g.invoke({"n": 1}) == [None, None, {"n": 1}]


async def test_a_run_that_continued_in_another_process_names_the_same_branch(tmp_path: Path) -> None:
    stop = asyncio.Event()

    def flow(wait: bool) -> Graph:
        g = Graph("stopping", limits=Limits(max_visits=100))

        @g.node
        async def work(item):
            if wait and item["n"] == 5:
                stop.set()
                await asyncio.Event().wait()
            return last_part(item)

        g.fan_out("out", to=work, over=lambda value: ITEMS, join="in", max_concurrency=1)
        g.join("in", on_error="collect")
        g.edge(START, "out")
        g.edge("in", END)
        return g

    async with Engine(LMDBStore(tmp_path)) as engine:
        await engine.start(flow(True), 1, run_id="r")
        await stop.wait()
    async with Engine(LMDBStore(tmp_path)) as engine:
        engine.register(flow(False))
        assert_told(await (await engine.resume("r")).result())


def test_a_snapshot_that_was_stored_without_items_can_be_read() -> None:
    run = Snapshot(run_id="r", plan="p", started_ms=0, value=b"\x01")
    plain = run.to_plain()
    older = {**plain, "places": {name: parts[:7] for name, parts in plain["places"].items()}}
    assert Snapshot.from_plain(older).to_plain() == plain
    with pytest.raises(ValueError, match="zip"):
        Snapshot.from_plain({**plain, "places": {"": plain["places"][""][:6]}})
