"""Drawings contain exactly the nodes and edges of the flow."""

import networkx as nx

from beluga_graph import END, START, Graph


def diamond(names: list[str]) -> Graph:
    a, b, c, d = names
    g = Graph("g")
    for name in (b, c):
        g.node(name=name)(lambda value: value)
    g.fan_out(a, to=[b, c], join=d)
    g.join(d)
    g.edge(START, a)
    g.on_error(a, END)
    g.branch(d, lambda value: "again", {"again": a, "done": END})
    return g


def test_equal_flows_give_equal_mermaid_text() -> None:
    assert diamond(["a", "b", "c", "d"]).mermaid() == diamond(["a", "b", "c", "d"]).mermaid()


def test_mermaid_of_a_flow_with_a_frame() -> None:
    inner = Graph("inner")
    x = inner.node(name="x")(lambda value: value)
    inner.edge(START, x)
    inner.edge(x, END)
    outer = Graph("outer")
    sub = outer.add(inner)
    y = outer.node(name="y")(lambda value: value)
    outer.edge(START, sub)
    outer.edge(sub, y)
    outer.edge(y, END)
    lines = [line.strip() for line in outer.mermaid().splitlines()]
    assert [line for line in lines if not line.startswith(("%%", "class", "linkStyle"))] == [
        "flowchart TD",
        'nstart(("start"))',
        'subgraph n0["inner"]',
        'n0start((" "))',
        'n1["x"]',
        'n0end(((" ")))',
        "end",
        'n2["y"]',
        'nend((("end")))',
        "nstart --> n0start",
        "n0start --> n1",
        "n0end --> n2",
        "n1 --> n0end",
        "n2 --> nend",
    ], "an edge into a frame goes to its start point, an edge out of it begins at its end point"
    assert 'n0[["inner"]]' in outer.mermaid(depth=0)


def test_the_networkx_graph_has_every_edge_with_its_kind() -> None:
    graph = diamond(["split", "left", "right", "merge"]).to_networkx()
    assert set(graph.nodes) == {"START", "END", "split", "left", "right", "merge"}
    assert sorted((a, b, data["kind"]) for a, b, data in graph.edges(data=True)) == [
        ("START", "split", "plain"),
        ("left", "merge", "plain"),
        ("merge", "END", "conditional"),
        ("merge", "split", "conditional"),
        ("right", "merge", "plain"),
        ("split", "END", "error"),
        ("split", "left", "branch"),
        ("split", "right", "branch"),
    ]
    assert nx.has_path(graph, "START", "END")
