"""The picture of a graph that does not compile: all that was declared, as far as it can be drawn."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

from beluga_graph.draw.picture import BEGIN, BEGIN_KIND, END_KIND, Box, Line, Picture, inner_point, note_of
from beluga_graph.errors import GraphError
from beluga_graph.kernel.shape import END as LEAVE
from beluga_graph.kernel.shape import NodeShape, RetryShape
from beluga_graph.plan.compile import completed
from beluga_graph.plan.declared import END, START, Declared, DeclaredNode

__all__ = ["sketch"]


def sketch(graph: Declared) -> Picture:
    """Return a picture of what was declared. Nothing is checked; an edge is left out if one of its ends is missing."""
    boxes: list[Box] = []
    lines: list[Line] = []
    _level(graph, None, boxes, lines)
    return Picture(name=graph.name, boxes=tuple(boxes), lines=tuple(lines))


def _level(graph: Declared, frame: Box | None, boxes: list[Box], lines: list[Line]) -> None:
    """Add what a graph, or the sub-flow in a frame, declares."""
    with suppress(GraphError):  # a node that is implied has the name of another one: it is left out
        graph = completed(graph)
    owner, path = (frame.id, frame.name) if frame is not None else ("", "")
    begin, end = (inner_point(path, point) for point in (BEGIN, LEAVE))
    here = {START.name: Box(id=f"{owner or 'n'}start", name=begin, label="START", kind=BEGIN_KIND, frame=owner)}
    boxes.append(here[START.name])
    for node in graph.nodes.values():
        name = inner_point(path, node.name)
        kind, note = node.kind, note_of(_shape_of(node))
        box = here[node.name] = Box(id=f"n{len(boxes)}", name=name, label=node.name, kind=kind, frame=owner, note=note)
        boxes.append(box)
        if node.flow is not None:
            _level(node.flow, box, boxes, lines)
    here[END.name] = Box(id=f"{owner or 'n'}end", name=end, label="END", kind=END_KIND, frame=owner)
    boxes.append(here[END.name])
    for left, entered, kind, label in _edges(graph):
        if left in here and entered in here and left != END.name and entered != START.name:
            source, target = here[left], here[entered]
            ends = (source.name, target.name)
            number = f"e{len(lines)}"
            lines.append(Line(id=number, source=source.id, target=target.id, kind=kind, label=label, ends=ends))


def _edges(graph: Declared) -> Iterator[tuple[str, str, str, str]]:
    """Yield each edge: the names of its two ends, its kind, its label."""
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


def _shape_of(node: DeclaredNode) -> NodeShape:
    """Return what a note is made from."""
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
    )
