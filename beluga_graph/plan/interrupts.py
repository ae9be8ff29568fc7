"""Interrupting edges of a declared graph: what they imply, and the checks that need the whole compiled graph."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace

from beluga_graph.errors import AmbiguousExit, DuplicateNode
from beluga_graph.kernel.shape import END, FAN_OUT, FRAME, WAIT_NODE, InterruptShape, NodeShape, Shape
from beluga_graph.plan.declared import END as TERMINAL_END
from beluga_graph.plan.declared import WHOLE_GRAPH, Declared, DeclaredNode, Interrupt

__all__ = ["add_follower_edges", "add_payload_checks", "check_waits_inside", "freeze_interrupts"]

_NOT_IN_NAMES = re.compile(r"[/#\[\]$\x00-\x1f\x7f]")


def add_follower_edges(graph: Declared) -> Declared:
    """Let the handler of a step's signal continue where the step does: give it the same outgoing edges.

    A handler with edges of its own keeps them. It is declared after its step, which may itself be a handler.
    """
    edges, branches = list(graph.edges), dict(graph.branches)
    left = {source for source, _ in edges} | set(branches)
    for node in graph.nodes.values():
        if not node.follows or node.name in left:
            continue
        edges += [(node.name, target) for source, target in edges if source == node.follows]
        if node.follows in branches:
            branches[node.name] = branches[node.follows]
    return replace(graph, edges=edges, branches=branches)


def add_payload_checks(graph: Declared) -> Declared:
    """Put a node that checks the payload before the target of each interrupting edge with a type.

    It shares the error edge of the target. Raises `DuplicateNode`.
    """
    nodes, edges, errors = dict(graph.nodes), list(graph.edges), dict(graph.errors)
    interrupts: dict[tuple[str, str], Interrupt] = {}
    for (source, signal), edge in graph.interrupts.items():
        if edge.type is None:
            interrupts[source, signal] = edge
            continue
        name = f"{edge.target}.{_NOT_IN_NAMES.sub('_', signal)[:100]}"
        check = DeclaredNode(name=name, kind=WAIT_NODE, signal=signal, type=edge.type, receives_for=edge.target)
        if nodes.setdefault(name, check) != check:
            rule = f"it is the name of the node that checks the payload of {signal!r} before {edge.target!r}"
            raise DuplicateNode(graph.name, f"node {name!r}", rule, "rename the node, or give such edges one type")
        if nodes[name] is check:
            edges.append((name, edge.target))
            if edge.target in graph.errors:
                errors[name] = graph.errors[edge.target]
        interrupts[source, signal] = replace(edge, target=name)
    return replace(graph, nodes=nodes, edges=edges, errors=errors, interrupts=interrupts)


def freeze_interrupts(graph: Declared, source: str, paths: Mapping[str, str]) -> tuple[InterruptShape, ...]:
    """Return the interrupting edges out of a node of a completed graph, or out of the graph itself."""

    def list_exempt(edge: Interrupt) -> tuple[str, ...]:
        """Return the nodes that handle the signal, which the edge out of the graph around them does not interrupt."""
        if source != WHOLE_GRAPH or edge.target == TERMINAL_END.name:
            return ()
        target = graph.nodes[edge.target]
        handler = target.receives_for or target.asked or target.name
        return tuple(
            paths[node.name] for node in graph.nodes.values() if handler in (node.name, node.asked, node.receives_for)
        )

    return tuple(
        (signal, paths[edge.target], list_exempt(edge))
        for (left, signal), edge in graph.interrupts.items()
        if left == source
    )


def check_waits_inside(shape: Shape) -> None:
    """Refuse a signal that would both end a wait and interrupt a source around that wait. Raises `AmbiguousExit`."""
    _check(shape, "the graph", shape.interrupts, shape.nodes)
    for node in shape.nodes.values():
        if node.inner_interrupts:
            _check(shape, f"sub-flow {node.name!r}", node.inner_interrupts, _inside(shape, node))
        if node.interrupts:
            _check(shape, f"node {node.name!r}", node.interrupts, _inside(shape, node))


def _check(shape: Shape, source: str, edges: tuple[InterruptShape, ...], inside: Mapping[str, NodeShape]) -> None:
    signals = {signal for signal, _, _ in edges}
    for node in inside.values():
        if node.kind == WAIT_NODE and not node.received and node.signal in signals:
            rule = f"the signal {node.signal!r} would both end this wait and interrupt {source} around it"
            if source == f"node {node.name!r}":
                rule = f"the signal {node.signal!r} would both end this wait and interrupt it"
            raise AmbiguousExit(shape.name, f"node {node.name!r}", rule, "give one of the two another signal")


def _inside(shape: Shape, source: NodeShape) -> dict[str, NodeShape]:
    """Return a node with all that is in it: the sub-flow of a frame, the branches of a fan-out."""
    found = {source.name: source}
    if source.kind == FRAME:
        found |= {name: node for name, node in shape.nodes.items() if name.startswith(f"{source.name}/")}
    if source.kind == FAN_OUT:
        todo = list(source.branches)
        while todo:
            name = todo.pop()
            if name not in found and name not in (END, source.join):
                found |= _inside(shape, shape.nodes[name])
                todo += _iter_next(shape.nodes[name])
    return found


def _iter_next(node: NodeShape) -> Iterator[str]:
    """Yield the nodes that may come next in the same scope."""
    yield from (target for _, target, _ in (*node.routes, *node.interrupts))
    yield from (target for target in (node.target, node.error, node.join) if target is not None)
