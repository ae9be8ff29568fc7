"""Task queues of single nodes: their paths are checked against the flows that an engine knows."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import SequenceMatcher

from beluga_graph.errors import UnknownNode
from beluga_graph.plan.plan import Plan

__all__ = ["check_node_queues"]

_NEAREST = 3


def check_node_queues(node_queues: Iterable[str], plans: Sequence[Plan]) -> None:
    """Raise `UnknownNode` for a queue of a node that none of these flows has. Does nothing if there is no flow."""
    known = list(dict.fromkeys(path for plan in plans for path in plan.shape.nodes))
    flows = ", ".join(sorted(plan.name for plan in plans))
    for path in node_queues:
        if known and path not in known:
            nearest = sorted(known, key=lambda other: SequenceMatcher(None, path, other).ratio(), reverse=True)
            way_out = f"correct the path (the nearest are {', '.join(map(repr, nearest[:_NEAREST]))}), "
            way_out += "or call engine.register first with the flow that has the node"
            raise UnknownNode(flows, f"node_queues of {path!r}", "no node has this path", way_out)
