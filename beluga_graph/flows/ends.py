"""The ends of edges, as a caller gives them: `START`, `END`, a node, a node's name, or the function of a node."""

from __future__ import annotations

from typing import Any

from beluga_graph.errors import BadName
from beluga_graph.plan.declared import Declared, Node, Terminal

__all__ = ["name_end"]


def name_end(graph: Declared, end: Any) -> str:
    """Return the name of an end of an edge. A name is not looked up: its node may be declared later.

    Raises `BadName` for a node of another graph, and `TypeError` for any other object.
    """
    if isinstance(end, Terminal):
        return end.name
    if isinstance(end, Node):
        if end.graph != graph.name:
            rule = f"it belongs to graph {end.graph!r}"
            raise BadName(graph.name, f"node {end.name!r}", rule, "add that flow as a node with g.add")
        return end.name
    if isinstance(end, str):
        return end
    name = getattr(end, "__name__", None)
    if name in graph.nodes:
        return str(name)
    msg = f"graph {graph.name!r}: {end!r} cannot be an end of an edge: give START, END, a node or a node's name"
    raise TypeError(msg)
