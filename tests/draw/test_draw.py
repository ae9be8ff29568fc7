"""Drawings hold exactly the nodes and edges of the flow."""

import re

import networkx as nx
from hypothesis import given
from hypothesis import strategies as st

from beluga_graph import END, START, Graph

labels = st.text(st.characters(exclude_characters="/#[]$", exclude_categories=["Cc", "Cs"]), min_size=1, max_size=30)


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


@given(st.lists(labels, min_size=4, max_size=4, unique=True).filter(lambda names: not {"START", "END"} & set(names)))
def test_mermaid_shows_every_node_and_edge_once_whatever_the_names(names: list[str]) -> None:
    text = diamond(names).mermaid()
    lines = [line.strip() for line in text.splitlines()]
    assert lines[0] == "flowchart TD"
    nodes = [line for line in lines if re.match(r"n\d+[\[{(>]", line)]
    edges = [line for line in lines if re.match(r"(n\d+|start) (-->|-\.->|==>)", line)]
    assert len(nodes) == 4
    assert len(edges) == 8
    assert len(lines) == 1 + 2 + 4 + 8, "and nothing else"
    assert all(re.fullmatch(r"[A-Za-z0-9 _\-.,:?!()#;\[\]{}>\"|=/\n]*", line) for line in lines)


def test_mermaid_gives_the_same_bytes_each_time() -> None:
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
    assert outer.mermaid() == (
        "flowchart TD\n"
        '    start(("start"))\n'
        '    end_(("end"))\n'
        '    subgraph n0["inner"]\n'
        '        n1["x"]\n'
        "    end\n"
        '    n2["y"]\n'
        "    start --> n1\n"
        "    n1 --> n2\n"
        "    n2 --> end_\n"
    ), "an edge into a frame leads to where it begins, one out of it starts where it ends"


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
