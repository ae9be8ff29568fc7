"""Failures that pass through joins and edges: the values that a node gets in place of a result."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from beluga_graph import END, START, Engine, Failure, Graph, RunFailed, UnclosedFanOut

BROKEN = Failure("broken", "ValueError", "no", 1, 5)
AT_JOIN = replace(BROKEN, branch=0, item=5)


def spread(name: str, *, straight: bool = False, **join: Any) -> Graph:
    """Return a graph with a branch that breaks and one that works; `straight`: an error edge to the join."""
    g = Graph(name)

    @g.node
    async def broken(value: int) -> int:
        raise ValueError("no")

    @g.node
    async def works(value: int) -> int:
        return value + 1

    g.join("join", **join)
    g.fan_out("spread", to=[broken, works], join="join")
    g.edge(START, "spread")
    g.edge(broken, "join")
    g.edge(works, "join")
    g.edge("join", END)
    if straight:
        g.on_error(broken, "join")
    return g


async def test_a_join_that_collects_can_return_the_failures_that_it_got() -> None:
    async with Engine() as engine:
        assert await engine.execute(spread("collects", on_error="collect"), 5) == [AT_JOIN, 6]


async def test_a_failure_on_an_error_edge_to_the_join_is_the_result_of_its_branch() -> None:
    async with Engine() as engine:
        assert await engine.execute(spread("straight", straight=True), 5) == [AT_JOIN, 6]


async def test_the_failure_of_a_join_contains_the_input_of_the_join() -> None:
    async def refuses(results: list[Any]) -> None:
        raise RuntimeError("not these")

    async with Engine() as engine:
        with pytest.raises(RunFailed) as raised:
            await engine.execute(spread("refuses", fn=refuses, on_error="collect"), 5)
    failure = raised.value.cause
    assert (failure.node, failure.message, failure.input) == ("join", "not these", [AT_JOIN, 6])


async def test_a_sub_flow_without_a_node_passes_its_input_on() -> None:
    empty = Graph("empty")
    empty.edge(START, END)
    outer = Graph("outer")
    outer.add(empty)
    outer.edge(START, "empty")
    outer.edge("empty", END)
    around = Graph("around")
    around.add(outer)
    around.edge(START, "outer")
    around.edge("outer", END)
    async with Engine() as engine:
        assert await engine.execute(around, 5) == 5


@pytest.mark.parametrize("target", ["join", "empty"])
def test_a_branch_without_a_node_of_its_own_is_refused(target: str) -> None:
    empty = Graph("empty")
    empty.edge(START, END)
    g = Graph("g")
    g.join("join")
    g.fan_out("spread", to=[target], join="join")
    if target == "empty":
        g.add(empty)
        g.edge("empty", "join")
    g.edge(START, "spread")
    g.edge("join", END)
    with pytest.raises(UnclosedFanOut, match=f"its branch over '{target}' has no node of its own"):
        g.plan()


@pytest.mark.parametrize("asked", [float("nan"), float("inf"), "soon", None])
async def test_an_exception_with_a_nonsensical_pause_is_an_ordinary_failure(asked: object) -> None:
    g = Graph("asks")

    @g.node
    async def asks(value: int) -> int:
        error = ValueError("later")
        error.retry_after = asked  # type: ignore[attr-defined]  # what some provider's library might do
        raise error

    g.edge(START, asks)
    g.edge(asks, END)
    async with Engine() as engine:
        with pytest.raises(RunFailed, match="later"):
            await engine.execute(g, 1)


async def test_a_nested_join_that_fails_too_late_does_no_harm() -> None:
    """The outer join has enough results and drops the nested join, which fails before it is stopped."""
    reached, let_fail = asyncio.Event(), asyncio.Event()
    g = Graph("late")

    @g.node
    async def works(value: int) -> int:
        await reached.wait()
        asyncio.get_running_loop().call_soon(let_fail.set)
        return value

    @g.node
    async def inner(value: int) -> int:
        return value

    async def fails(results: list[int]) -> int:
        reached.set()
        try:
            await let_fail.wait()
        except asyncio.CancelledError:
            raise RuntimeError("cancelled, and failed at that") from None
        raise RuntimeError("too late")

    g.join("inner_join", fails)
    g.join("join", wait=1)
    g.fan_out("inner_spread", to=[inner], join="inner_join")
    g.fan_out("spread", to=[works, "inner_spread"], join="join")
    g.edge(START, "spread")
    g.edge(works, "join")
    g.edge("inner_join", "join")
    g.edge("join", END)
    async with Engine() as engine:
        assert await engine.execute(g, 3) == [3]
