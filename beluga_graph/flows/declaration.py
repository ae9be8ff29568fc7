"""The declaration of a node in a graph, with the checks that need no other node."""

from __future__ import annotations

from beluga_graph.errors import DuplicateNode
from beluga_graph.flows.checks import check_name, check_signal_name
from beluga_graph.plan.declared import Declared, DeclaredNode

__all__ = ["declare_node"]


def declare_node(graph: Declared, node: DeclaredNode) -> None:
    """Add a node to a graph. Raises `BadName` and `DuplicateNode`."""
    check_name(graph.name, node.name)
    if node.name in graph.nodes:
        way_out = "give name= another one" if node.kind in ("function", "frame") else "choose another name"
        raise DuplicateNode(graph.name, f"node {node.name!r}", "the name is taken", way_out)
    check_signal_name(graph.name, node)
    graph.nodes[node.name] = node
