"""The edges that a run took, also through empty frames, where there is no token."""

from __future__ import annotations

import asyncio

import pytest

from beluga_graph import END, START, Engine, Graph
from beluga_graph.draw.picture import build_picture


def empty(name: str, inside: str = "") -> Graph:
    """Return a flow without nodes, or with nothing but such a flow."""
    g = Graph(name)
    if inside:
        g.add(empty(inside))
        g.edge(START, inside)
    g.edge(inside or START, END)
    return g


def ends(*, fails: bool = False, over: int = 0) -> Graph:
    """Return a flow of two nodes with empty flows between them."""
    g = Graph("ends")

    @g.node
    def first(value: int) -> int:
        if fails:
            raise ValueError("no file")
        return value

    g.node(name="second")(lambda value: 2)
    for name, inside in (("one", ""), ("two", "within"), ("three", "")):
        g.add(empty(name, inside))
    routes = {0: "one", 1: "two", 2: "second"}
    g.edge(START, first)
    g.branch(first, lambda value: over, routes)
    g.edge("one", "three")
    g.edge("two", "second")
    g.edge("three", "second")
    g.edge("second", END)
    if fails:
        g.on_error(first, "three")
    return g


async def edges_of(flow: Graph) -> set[tuple[str, str, str]]:
    """Return the edges that a run of a flow took, after checking that each is a line of its picture."""
    async with Engine() as engine:
        run = await engine.start(flow, 0)
        await run.result()
        taken = (await engine.trail(run.id)).edge_counts
    assert set(taken.values()) == {1}
    assert set(taken) <= {line.edge for line in build_picture(flow.plan().shape).lines}
    return {edge for edge in taken if "first" in edge[:2] or "second" in edge[:2] or edge[0] == "one"} - {
        ("$start", "first", ""),
        ("second", "$end", ""),
    }


@pytest.mark.parametrize(
    ("over", "edges"),
    [
        (0, {("first", "one", "? 0"), ("one", "three", ""), ("three", "second", "")}),
        (1, {("first", "two", "? 1"), ("two", "second", "")}),
        (2, {("first", "second", "? 2")}),
    ],
)
def test_a_chosen_route_is_followed_through_empty_frames(over: int, edges: set[tuple[str, str, str]]) -> None:
    assert asyncio.run(edges_of(ends(over=over))) == edges


def test_an_error_edge_is_followed_through_empty_frames() -> None:
    assert asyncio.run(edges_of(ends(fails=True))) == {("first", "three", "error"), ("three", "second", "")}


def test_an_error_edge_at_a_join_is_counted() -> None:
    g = Graph("joined")

    @g.node
    def broken(value: int) -> int:
        raise ValueError("no file")

    g.node(name="handler")(lambda value: 1)
    g.edge(START, "split")
    g.fan_out("split", to=broken, over=lambda value: [value], join="merge")
    g.join("merge")
    g.edge("merge", END)
    g.on_error("merge", "handler")
    g.edge("handler", END)

    async def taken() -> dict[tuple[str, str, str], int]:
        async with Engine() as engine:
            run = await engine.start(g, 0)
            await run.result()
            return (await engine.trail(run.id)).edge_counts

    assert ("merge", "handler", "error") in asyncio.run(taken())
