"""Edges between the nodes of a shape, and how often a run took each.

Every frame, and the flow itself, has a point where it begins and a point where it ends, so that an edge never crosses
the border of a frame.
"""

from __future__ import annotations

from collections.abc import Iterator

from beluga_graph.kernel.shape import END, FRAME, JOIN, Shape

__all__ = [
    "BEGIN",
    "Edge",
    "EdgeCounts",
    "find_empty_frames",
    "find_error_target",
    "find_join",
    "format_condition",
    "is_frame",
    "is_join",
    "iter_edges",
    "map_targets",
    "name_point",
]

BEGIN = "$start"  # the local name of the point where a frame begins; `END` is that of the point where it ends

Edge = tuple[str, str, str]
"""Source, target, and the condition: `error`, `? ` and the chosen route, `@ ` and the signal that interrupts, or `""`.

An interrupting edge out of a graph begins at the point where the graph begins.
"""


def iter_edges(shape: Shape) -> Iterator[tuple[str, str, str, str]]:
    """Yield each edge of a shape: source, target, kind, label."""

    def resolve(frame: str, target: str) -> str:
        return name_point(frame, END) if target == END else target

    yield BEGIN, resolve("", shape.entry), "plain", ""
    for signal, target, _ in shape.interrupts:
        yield BEGIN, resolve("", target), "interrupt", signal
    for node in shape.nodes.values():
        for target in node.branches:
            yield node.name, resolve(node.frame, target), "branch", "each item" if node.over else ""
        if node.entry is not None:
            yield name_point(node.name, BEGIN), resolve(node.name, node.entry), "plain", ""
        if node.target is not None:
            yield node.name, resolve(node.frame, node.target), "plain", ""
        for route, target, kind in node.routes:
            yield node.name, resolve(node.frame, target), kind, str(route)
        if node.error is not None:
            yield node.name, resolve(node.frame, node.error), "error", "error"
        for signal, target, _ in node.interrupts:
            yield node.name, resolve(node.frame, target), "interrupt", signal
        for signal, target, _ in node.inner_interrupts:
            yield name_point(node.name, BEGIN), resolve(node.name, target), "interrupt", signal


def format_condition(kind: str, label: str) -> str:
    """Return the condition of an edge of this kind and label, as in `Edge`."""
    conditions = {"conditional": f"? {label}", "handoff": f"? {label}", "interrupt": f"@ {label}"}
    return "error" if kind == "error" else conditions.get(kind, "")


def name_point(frame: str, point: str) -> str:
    """Return the name of the point `BEGIN` or `END` of a frame; the frame `""` is the flow itself."""
    return f"{frame}/{point}" if frame else point


def map_targets(shape: Shape) -> dict[tuple[str, str], list[str]]:
    """Return the targets of a shape's edges by source and condition."""
    found: dict[tuple[str, str], list[str]] = {}
    for source, target, kind, label in iter_edges(shape):
        found.setdefault((source, format_condition(kind, label)), []).append(target)
    return found


def find_empty_frames(shape: Shape) -> set[str]:
    """Return the frames that contain no node, or only empty frames. A run passes through them without a visit."""
    found = {node.name for node in shape.nodes.values() if node.kind == FRAME}
    for node in shape.nodes.values():
        around = node.frame if node.kind != FRAME else ""
        while around in found:
            found.discard(around)
            around = shape.nodes[around].frame
    return found


def is_frame(shape: Shape, node: str) -> bool:
    """Return whether a node is a frame. A node that the shape no longer has is not."""
    known = shape.nodes.get(node)
    return known is not None and known.kind == FRAME


def is_join(shape: Shape, node: str) -> bool:
    """Return whether a node is a join. A node that the shape no longer has is not."""
    known = shape.nodes.get(node)
    return known is not None and known.kind == JOIN


def find_join(shape: Shape, node: str) -> str:
    """Return the join of a fan-out, `""` for any other node."""
    known = shape.nodes.get(node)
    return (known.join or "") if known is not None else ""


def find_error_target(shape: Shape, node: str) -> str | None:
    """Return the target of a node's error edge. The error edge of a fan-out may be declared at its join."""
    known = shape.nodes.get(node)
    if known is None or known.error is not None or known.join is None:
        return None if known is None else known.error
    return find_error_target(shape, known.join)


class EdgeCounts:
    """Counts how often each edge of a shape was taken."""

    def __init__(self, shape: Shape) -> None:
        self.counts: dict[Edge, int] = {}
        self.new: list[Edge] = []
        """The edges taken in the current step, in order."""
        self._shape = shape
        self._targets = map_targets(shape)
        self._empty_frames = find_empty_frames(shape)

    def count(self, source: str, target: str, condition: str) -> None:
        """Count the move from one node to another: one edge, or several where the run passed through empty frames."""
        for edge in self._find_path(source, target, condition):
            self.counts[edge] = self.counts.get(edge, 0) + 1
            self.new.append(edge)

    def _find_path(self, source: str, target: str, condition: str) -> list[Edge]:
        # The error edge of a fan-out may be declared at its join.
        for first in (source, find_join(self._shape, source)):
            paths: list[list[Edge]] = [
                [(first, reached, condition)] for reached in self._targets.get((first, condition), ())
            ]
            for path in paths:
                _, reached, _ = path[-1]
                if reached == target:
                    return path
                if reached in self._empty_frames and all(reached != edge[0] for edge in path):
                    paths += [[*path, (reached, further, "")] for further in self._targets.get((reached, ""), ())]
        return [(source, target, condition)]
