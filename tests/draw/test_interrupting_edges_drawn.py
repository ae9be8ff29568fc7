"""Interrupting edges in drawings of every format, and in the trace of a run."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from beluga_graph import END, START, Engine, Graph
from beluga_graph.draw.formats.networkx_graph import to_networkx
from beluga_graph.draw.picture import build_picture
from beluga_graph.draw.sketch import sketch
from beluga_graph.draw.theme import LINE_WORDS


async def hang(value: Any) -> Any:
    await asyncio.Event().wait()


def flow() -> Graph:
    """Return a graph with edges out of a node in a sub-flow, out of the sub-flow, and out of both graphs."""
    g, inner = Graph("g"), Graph("inner")
    inner.node(name="work")(hang)
    inner.node(name="rest")(hang)
    inner.node(name="mend")(hang)
    inner.edge(START, "work")
    for name in ("work", "rest", "mend"):
        inner.edge(name, END)
    inner.on_signal("work", "node", "rest")
    inner.on_signal(inner, "inside", "mend")
    inner.on_signal(inner, "enough", END)
    g.add(inner)
    g.node(name="after")(hang)
    g.node(name="last")(lambda value: value)
    g.edge(START, "inner")
    g.edge("inner", "after")
    g.edge("after", END)
    g.edge("last", END)
    g.on_signal("inner", "outside", "after")
    g.on_signal(g, "all <&>", "last")
    return g


def test_every_format_draws_the_edges_and_explains_them() -> None:
    g = flow()
    assert '-.->|"outside"|' in g.mermaid()
    assert LINE_WORDS["interrupt"] in g.mermaid()
    assert "style=dotted" in g.dot() or 'style="dotted"' in g.dot()
    assert f"{LINE_WORDS['interrupt']}: dotted" in g.dot()
    svg = g.svg()
    assert "w-interrupt" in svg
    assert f"<title>{LINE_WORDS['interrupt']}: all &lt;&amp;&gt;</title>" in svg
    assert "w-interrupt" in g.html()


def test_a_node_that_checks_a_payload_is_not_drawn_as_a_wait_for_the_signal() -> None:
    g = flow()
    g.on_signal("last", "again", "last", type=str)
    notes = {box.name: box.note for box in build_picture(g.plan().shape).boxes}
    assert notes["last.again"] == "checks the payload"


def test_an_edge_out_of_a_graph_leaves_the_point_where_it_begins() -> None:
    lines = {(*line.ends, line.label) for line in build_picture(flow().plan().shape).lines if line.kind == "interrupt"}
    assert lines == {
        ("inner/work", "inner/rest", "node"),
        ("inner/$start", "inner/mend", "inside"),
        ("inner/$start", "inner/$end", "enough"),
        ("inner", "after", "outside"),
        ("$start", "last", "all <&>"),
    }
    sketched = {(*line.ends, line.label) for line in sketch(flow().declare()).lines if line.kind == "interrupt"}
    assert sketched == lines


def test_networkx_has_the_edges_with_their_signals() -> None:
    edges = to_networkx(flow().plan().shape).edges(data=True)
    found = {(source, target, data["route"]) for source, target, data in edges if data["kind"] == "interrupt"}
    assert {("inner/work", "inner/rest", "node"), ("inner", "after", "outside"), ("START", "last", "all <&>")} <= found


@pytest.mark.parametrize(
    ("signals", "edge"),
    [
        (["node"], ("inner/work", "inner/rest", "@ node")),
        (["inside"], ("inner/$start", "inner/mend", "@ inside")),
        (["enough"], ("inner/$start", "inner/$end", "@ enough")),
        (["outside"], ("inner", "after", "@ outside")),
        ([], ("$start", "last", "@ all <&>")),
    ],
)
async def test_a_run_takes_the_edges(signals: list[str], edge: tuple[str, str, str]) -> None:
    g = flow()
    drawn = {line.edge for line in build_picture(g.plan().shape).lines}
    async with Engine() as engine:
        run = await engine.start(g, 1)
        for signal in signals:
            await run.signal(signal, 2)
        await run.signal("all <&>", 3)
        assert await run.result(10) == 3
        counts = (await engine.trail(run.id)).edge_counts
        page = await engine.html(run.id)
    assert counts[edge] == 1
    assert set(counts) <= drawn
    assert "interrupted" in page
