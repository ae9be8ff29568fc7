"""The networkx format: a shape as a graph for analysis with other tools."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beluga_graph.kernel.shape import END, NodeShape, Shape

if TYPE_CHECKING:
    from networkx import MultiDiGraph

__all__ = ["to_networkx"]


def to_networkx(shape: Shape) -> MultiDiGraph[str]:
    """Return the shape as a directed multigraph over node paths, with `START` and `END`.

    Nodes have the attributes `kind`, `frame`, `input_type` and `output_type`. Edges have the attributes `kind` (plain,
    conditional, handoff, error, interrupt, branch, enter, leave) and `route`: that of a conditional edge or a
    handoff, or the signal that interrupts, else `None`. An edge of kind
    `enter` goes from a frame to its entry node; an edge that ends a frame goes to the successors of the frame, with
    the kind `leave`.
    """
    import networkx as nx  # noqa: PLC0415 - importing it takes longer than starting an engine

    graph: MultiDiGraph[str] = nx.MultiDiGraph(name=shape.name)
    graph.add_node("START", kind="start")
    for node in shape.nodes.values():
        graph.add_node(
            node.name,
            kind=node.kind,
            frame=node.frame,
            input_type=node.input_type,
            output_type=node.output_type,
        )
    graph.add_node("END", kind="end")
    graph.add_edge("START", shape.entry, kind="plain")
    for signal, target, _ in shape.interrupts:
        graph.add_edge("START", "END" if target == END else target, kind="interrupt", route=signal)
    for node in shape.nodes.values():
        for target, kind, route in _list_edges(node):
            for end in _resolve_target(shape, node, target):
                through = "leave" if target == END and node.frame else kind
                graph.add_edge(node.name, end, kind=through, route=route)
    return graph


def _list_edges(node: NodeShape) -> list[tuple[str, str, object]]:
    edges: list[tuple[str, str, object]] = [(target, "branch", None) for target in node.branches]
    if node.entry is not None:
        edges.append((node.entry, "enter", None))
    elif node.target is not None:
        edges.append((node.target, "plain", None))
    edges += [(target, kind, route) for route, target, kind in node.routes]
    if node.error is not None:
        edges.append((node.error, "error", None))
    edges += [(target, "interrupt", signal) for signal, target, _ in (*node.interrupts, *node.inner_interrupts)]
    return edges


def _resolve_target(shape: Shape, node: NodeShape, target: str) -> list[str]:
    """Return the final targets of an edge. An edge to the END of a frame continues to the successor of the frame."""
    frame = node.frame
    while target == END:
        if not frame:
            return ["END"]
        outer = shape.nodes[frame]
        target, frame = outer.target or END, outer.frame
    return [target]
