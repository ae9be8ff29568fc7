"""Questions: before a node that requires approval stands a wait for a person's answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from beluga_graph.errors import DuplicateNode
from beluga_graph.kernel.shape import CHOICE, TOOL, WAIT
from beluga_graph.plan.declared import Branch, Declared, DeclaredNode

__all__ = ["APPROVAL", "ASKS", "add_questions", "make_reviser"]

ASKS, APPROVAL = ".asks", ".approval"  # what the nodes that ask about a node are called, after its name


def add_questions(graph: Declared) -> Declared:
    """Put a question before each node that requires approval; what led to the node leads to the question.

    Where a function decides whether to ask, it stands before the question, as a choice. No frame is opened, so
    the node keeps the state, and the error edge, that it would have without approval.
    """
    if not any(node.requires_approval for node in graph.nodes.values()):
        return graph
    nodes: dict[str, DeclaredNode] = {}
    entries: dict[str, str] = {}  # of nodes that are asked about: where to go first
    edges: list[tuple[str, str]] = []
    branches: dict[str, Branch] = {}
    errors: dict[str, str] = {}
    for node in graph.nodes.values():
        for first in _before(graph, node):
            nodes[first.name] = first
            entries.setdefault(node.name, first.name)
            if node.name in graph.errors:
                errors[first.name] = graph.errors[node.name]
            if first.kind == CHOICE:
                assert callable(node.requires_approval)
                branches[first.name] = Branch(node.requires_approval, {True: _question(node), False: node.name})
            else:
                edges.append((first.name, node.name))
        nodes[node.name] = node

    def entry(name: str) -> str:
        return entries.get(name, name)

    for name, node in nodes.items():
        if node.to:
            nodes[name] = replace(node, to=tuple(entry(target) for target in node.to))
    for name, branch in graph.branches.items():
        branches[name] = replace(branch, routes={route: entry(target) for route, target in branch.routes.items()})
    return replace(
        graph,
        nodes=nodes,
        edges=[(source, entry(target)) for source, target in graph.edges] + edges,
        branches=branches,
        errors={source: entry(target) for source, target in {**graph.errors, **errors}.items()},
    )


def make_reviser(annotation: Any) -> Callable[[Any, Any], Any]:
    """Return what checks the other value that a person goes on with against what a step takes."""

    def revise(original: Any, value: Any) -> Any:
        from pydantic import TypeAdapter  # noqa: PLC0415 - only a modified value needs it

        del original
        return TypeAdapter(annotation).validate_python(value)

    return revise


def _before(graph: Declared, node: DeclaredNode) -> list[DeclaredNode]:
    """Return the nodes that ask about a node. Raises `DuplicateNode`."""
    if not node.requires_approval:
        return []
    kind = TOOL if node.kind == TOOL else "step"
    found = [
        DeclaredNode(name=_question(node), kind=WAIT, asked=node.name, asks=kind, revise=node.revise, agent=node.agent)
    ]
    if callable(node.requires_approval):
        found.insert(0, DeclaredNode(name=node.name + ASKS, kind=CHOICE, asked=node.name, agent=node.agent))
    for one in found:
        if one.name in graph.nodes:
            rule = f"{node.name!r} requires approval, and the node that asks for it has this name"
            raise DuplicateNode(graph.name, f"node {one.name!r}", rule, "choose another name")
    return found


def _question(node: DeclaredNode) -> str:
    return node.name + APPROVAL
