"""Sketch: the picture of a graph that does not compile, with the declared nodes and edges."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture, describe_node
from beluga_graph.errors import GraphError
from beluga_graph.kernel.shape import END as LEAVE
from beluga_graph.kernel.shape import NodeShape, RetryShape
from beluga_graph.plan.compile import complete_graph
from beluga_graph.plan.declared import END, START, Declared, DeclaredNode
from beluga_graph.plan.times import to_due_ms
from beluga_graph.trace.edges import BEGIN, name_point

__all__ = ["sketch"]


def sketch(graph: Declared) -> Picture:
    """Return the picture of a declared graph. Checks nothing; leaves out edges to or from nodes that do not exist."""
    boxes: list[Box] = []
    lines: list[Line] = []
    _add_level(graph, None, boxes, lines)
    return Picture(name=graph.name, boxes=tuple(boxes), lines=tuple(lines))


def _add_level(graph: Declared, frame: Box | None, boxes: list[Box], lines: list[Line]) -> None:
    """Add the boxes and lines of a graph, or of the sub-flow in a frame."""
    with suppress(GraphError):  # an implied node whose name is taken is left out
        graph = complete_graph(graph)
    owner, path = (frame.id, frame.name) if frame is not None else ("", "")
    begin, end = (name_point(path, point) for point in (BEGIN, LEAVE))
    here = {START.name: Box(id=f"{owner or 'n'}start", name=begin, label="START", kind=BEGIN_KIND, frame=owner)}
    boxes.append(here[START.name])
    for node in graph.nodes.values():
        name = name_point(path, node.name)
        kind, note = node.kind, describe_node(_build_shape(node))
        box = here[node.name] = Box(id=f"n{len(boxes)}", name=name, label=node.name, kind=kind, frame=owner, note=note)
        boxes.append(box)
        if node.flow is not None:
            _add_level(node.flow, box, boxes, lines)
    here[END.name] = Box(id=f"{owner or 'n'}end", name=end, label="END", kind=END_KIND, frame=owner)
    boxes.append(here[END.name])
    for left, entered, kind, label in _iter_edges(graph):
        if left in here and entered in here and left != END.name and entered != START.name:
            source, target = here[left], here[entered]
            ends = (source.name, target.name)
            number = f"e{len(lines)}"
            lines.append(Line(id=number, source=source.id, target=target.id, kind=kind, label=label, ends=ends))


def _iter_edges(graph: Declared) -> Iterator[tuple[str, str, str, str]]:
    """Yield each edge: source, target, kind, label."""
    for node in graph.nodes.values():
        for target in node.to:
            yield node.name, target, "branch", "each item" if node.over is not None else ""
    for source, target in graph.edges:
        yield source, target, "plain", ""
    for source, branch in graph.branches.items():
        for route, target in branch.routes.items():
            yield source, target, branch.kinds.get(route, "conditional"), str(route)
    for source, target in graph.errors.items():
        yield source, target, "error", "error"
    for (source, signal), edge in graph.interrupts.items():
        yield source or START.name, edge.target, "interrupt", signal


def _build_shape(node: DeclaredNode) -> NodeShape:
    """Return the part of a node's shape that `describe_node` reads."""
    retry = node.retry
    return NodeShape(
        name=node.name,
        local=node.name,
        kind=node.kind,
        retry=RetryShape(attempts=retry.attempts, initial_ms=0, factor=1.0, maximum_ms=0, jitter=0.0)
        if retry
        else None,
        timeout_ms=round(node.timeout * 1000) if node.timeout is not None else None,
        max_concurrency=node.max_concurrency,
        wait=node.wait,
        collect=node.collect,
        signal=node.signal,
        asks=node.asks,
        delay_ms=round(node.seconds * 1000),
        due_ms=to_due_ms(node.due) if node.due is not None else None,
        decides_time=node.decide is not None,
    )
