"""The ends of edges, as a caller gives them: `START`, `END`, a node, a node's name, or the function of a node."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from beluga_graph.errors import AmbiguousExit, BadName
from beluga_graph.plan.declared import Declared, Node, Terminal

__all__ = ["name_end", "name_routes", "name_targets"]


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


def name_targets(graph: Declared, fan_out: str, targets: Sequence[Any], *, over: bool) -> tuple[str, ...]:
    """Return the names of a fan-out's targets. Raises `AmbiguousExit` unless there are some, or one with `over`."""
    where = f"fan-out {fan_out!r}"
    if over and len(targets) != 1:
        raise AmbiguousExit(
            graph.name, where, f"{len(targets)} targets with over=", "give one target that takes an item"
        )
    if not targets:
        raise AmbiguousExit(graph.name, where, "it has no target", "give to= at least one node")
    return tuple(name_end(graph, target) for target in targets)


def name_routes(graph: Declared, source: str, routes: Mapping[Any, Any]) -> dict[Any, str]:
    """Return the names of the targets of a branch. Raises `AmbiguousExit` without a route, `BadName` for a bad one."""
    if not routes:
        raise AmbiguousExit(graph.name, f"node {source!r}", "its branch has no route", "give at least one")
    for route in routes:
        if not isinstance(route, str | int):
            rule = f"its branch has the route {route!r:.100}, and a route is a text, a whole number or a bool"
            raise BadName(graph.name, f"node {source!r}", rule, "let `choose` return one of these")
    return {route: name_end(graph, target) for route, target in routes.items()}
