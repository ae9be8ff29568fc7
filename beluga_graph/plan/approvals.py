"""Approvals: a wait for a person's answer before each node that requires approval."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from beluga_graph.errors import DuplicateNode
from beluga_graph.kernel.shape import CHOICE, TOOL, WAIT_NODE
from beluga_graph.plan.declared import Branch, Declared, DeclaredNode, Interrupt

__all__ = ["APPROVAL", "ASKS", "add_questions", "make_reviser"]

ASKS, APPROVAL = ".asks", ".approval"  # suffixes of the nodes that ask about a node


def add_questions(graph: Declared) -> Declared:
    """Return the graph with a question before each node that requires approval; edges to the node go to the question.

    If a function decides whether to ask, it is a choice before the question. No frame is opened, so the node keeps the
    state, the error edge and the interrupting edges that it would have without approval.
    """
    if not any(node.requires_approval for node in graph.nodes.values()):
        return graph
    nodes: dict[str, DeclaredNode] = {}
    entries: dict[str, str] = {}  # by node that is asked about: the first node that asks
    edges: list[tuple[str, str]] = []
    branches: dict[str, Branch] = {}
    errors: dict[str, str] = {}
    interrupts: dict[tuple[str, str], Interrupt] = {}
    for node in graph.nodes.values():
        for first in _question_nodes(graph, node):
            nodes[first.name] = first
            entries.setdefault(node.name, first.name)
            if node.name in graph.errors:
                errors[first.name] = graph.errors[node.name]
            interrupts |= {(first.name, signal): e for (s, signal), e in graph.interrupts.items() if s == node.name}
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
        interrupts={
            source: replace(edge, target=entry(edge.target))
            for source, edge in {**graph.interrupts, **interrupts}.items()
        },
    )


def make_reviser(annotation: Any) -> Callable[[Any, Any], Any]:
    """Return a function that checks the value a person gives instead, against the type of the step's input."""

    def revise(original: Any, value: Any) -> Any:
        from pydantic import TypeAdapter  # noqa: PLC0415 - only a modified value needs it

        del original
        return TypeAdapter(annotation).validate_python(value)

    return revise


def _question_nodes(graph: Declared, node: DeclaredNode) -> list[DeclaredNode]:
    """Return the nodes that ask about a node, in order. Raises `DuplicateNode`."""
    if not node.requires_approval:
        return []
    kind = TOOL if node.kind == TOOL else "step"
    found = [
        DeclaredNode(
            name=_question(node), kind=WAIT_NODE, asked=node.name, asks=kind, revise=node.revise, agent=node.agent
        )
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
