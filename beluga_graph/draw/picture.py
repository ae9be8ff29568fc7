"""The picture of a flow: the boxes and lines that every format draws, and nothing else.

Each frame, and the flow itself, has a point where its walk begins and one where it ends, so that each line
stays within one frame: a frame can be laid out by itself, and folded into one box.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from beluga_graph.draw.text import shown_duration
from beluga_graph.kernel.shape import END, FAN_OUT, FRAME, JOIN, TIMER, WAIT, NodeShape, Shape

__all__ = [
    "BEGIN",
    "BEGIN_KIND",
    "END_KIND",
    "Box",
    "Edge",
    "Line",
    "Picture",
    "edge_of",
    "edges",
    "hollow_frames",
    "inner_point",
    "note_of",
    "picture",
    "targets_of",
]

BEGIN = "$start"  # beside `END`: what the two points of a frame are called
BEGIN_KIND, END_KIND = "start", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A node of the flow as it is drawn: a card, a frame, or a point."""

    id: str
    """Letters and digits only: safe in every format, and the same each time."""
    name: str
    """Path of the node; of a point, its frame's path and `$start` or `$end`."""
    label: str
    kind: str
    """A kind of the shape, or `start` and `end`."""
    frame: str = ""
    """Id of the frame that it stands in; "" is the flow itself."""
    note: str = ""
    """What else there is to know: how long a timer sleeps, how many a join waits for."""
    folded: bool = False
    """Whether this is a frame of which the inside is not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An edge of the flow as it is drawn: between two boxes of one frame."""

    id: str
    source: str
    target: str
    kind: str
    """`plain`, `branch` (out of a fan-out), `conditional`, `handoff` or `error`."""
    label: str = ""
    ends: tuple[str, str]
    """The names of the two boxes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All boxes, each frame before what stands in it, and all lines."""

    name: str
    boxes: tuple[Box, ...]
    lines: tuple[Line, ...]

    def inside(self, frame: str) -> list[Box]:
        """Return the boxes that stand directly in the frame of this id; `""` for the flow itself."""
        return [box for box in self.boxes if box.frame == frame]

    def kinds(self) -> tuple[list[str], list[str]]:
        """Return the kinds of the boxes and of the lines that occur, in order of first use: what a legend tells."""
        return list(dict.fromkeys(box.kind for box in self.boxes)), list(dict.fromkeys(li.kind for li in self.lines))


Edge = tuple[str, str, str]
"""The names of two boxes; and by what one leads to the other: `error`, `? ` with the route chosen, or `""`."""


def edge_of(line: Line) -> Edge:
    """Return which edge of a run's way a line draws."""
    return (*line.ends, _by(line.kind, line.label))


def _by(kind: str, label: str) -> str:
    return {"error": "error", "conditional": f"? {label}", "handoff": f"? {label}"}.get(kind, "")


def targets_of(shape: Shape) -> dict[tuple[str, str], list[str]]:
    """Return where each node or point leads to, by its name and by what leads there, as an edge of a run's way says."""
    found: dict[tuple[str, str], list[str]] = {}
    for source, target, kind, label in edges(shape):
        found.setdefault((source, _by(kind, label)), []).append(target)
    return found


def hollow_frames(shape: Shape) -> set[str]:
    """Return the frames that hold nothing, or only such frames: a run passes them by."""
    found = {node.name for node in shape.nodes.values() if node.kind == FRAME}
    for node in shape.nodes.values():
        around = node.frame if node.kind != FRAME else ""
        while around in found:
            found.discard(around)
            around = shape.nodes[around].frame
    return found


def inner_point(frame: str, point: str) -> str:
    """Return the name of the point where a frame's walk begins or ends; the frame `""` is the flow itself."""
    return f"{frame}/{point}" if frame else point


def picture(shape: Shape, depth: int | None = None) -> Picture:
    """Return what there is to draw of a flow. Frames deeper than `depth` are folded; 0 folds them all.

    Raises `ValueError` for a depth below 0.
    """
    if depth is not None and depth < 0:
        msg = f"depth is {depth}: give 0 to fold all sub-flows, or None to open them all"
        raise ValueError(msg)
    boxes: list[Box] = []
    ids = {name: f"n{number}" for number, name in enumerate(shape.nodes)}
    _level(shape, "", depth, ids, boxes)
    drawn = {box.name: box for box in boxes}
    lines: list[Line] = []
    for number, (source, target, kind, label) in enumerate(edges(shape)):
        if source in drawn and target in drawn:
            ends = (source, target)
            made = Line(
                id=f"e{number}",  # the same at every depth
                source=drawn[source].id,
                target=drawn[target].id,
                kind=kind,
                label=label,
                ends=ends,
            )
            lines.append(made)
    return Picture(name=shape.name, boxes=tuple(boxes), lines=tuple(lines))


def _level(shape: Shape, frame: str, depth: int | None, ids: dict[str, str], boxes: list[Box]) -> None:
    """Add what stands in a frame, between the points where it begins and ends."""
    owner = ids.get(frame, "")
    begin, end = (inner_point(frame, point) for point in (BEGIN, END))
    boxes.append(Box(id=f"{owner or 'n'}start", name=begin, label="START", kind=BEGIN_KIND, frame=owner))
    for node in shape.nodes.values():
        if node.frame != frame:
            continue
        folded = node.kind == FRAME and depth == 0
        boxes.append(
            Box(
                id=ids[node.name],
                name=node.name,
                label=node.local,
                kind=node.kind,
                frame=owner,
                note=note_of(node),
                folded=folded,
            )
        )
        if node.kind == FRAME and not folded:
            _level(shape, node.name, None if depth is None else depth - 1, ids, boxes)
    boxes.append(Box(id=f"{owner or 'n'}end", name=end, label="END", kind=END_KIND, frame=owner))


def edges(shape: Shape) -> Iterator[tuple[str, str, str, str]]:
    """Yield each edge: the names of its two ends, its kind, its label."""

    def end(frame: str, target: str) -> str:
        return inner_point(frame, END) if target == END else target

    yield BEGIN, end("", shape.entry), "plain", ""
    for node in shape.nodes.values():
        for target in node.branches:
            yield node.name, end(node.frame, target), "branch", "each item" if node.over else ""
        if node.entry is not None:
            yield inner_point(node.name, BEGIN), end(node.name, node.entry), "plain", ""
        if node.target is not None:
            yield node.name, end(node.frame, node.target), "plain", ""
        for route, target, kind in node.routes:
            yield node.name, end(node.frame, target), kind, str(route)
        if node.error is not None:
            yield node.name, end(node.frame, node.error), "error", "error"


def note_of(node: NodeShape) -> str:
    """Return what sets a node apart from others of its kind, in a few words."""
    parts: list[str] = []
    if node.kind == WAIT:
        parts.append("asks a person" if node.asks else f"signal {node.signal}")
    elif node.kind == TIMER:
        parts.append(shown_duration(node.delay_ms))
    elif node.kind == JOIN:
        parts.append("all" if node.wait is None else f"first {node.wait}")
        if node.collect:
            parts.append("collects failures")
    elif node.kind == FAN_OUT and node.max_concurrency is not None:
        parts.append(f"{node.max_concurrency} at once")
    if node.retry is not None and node.retry.attempts > 1:
        parts.append(f"up to {node.retry.attempts} attempts")
    if node.timeout_ms is not None:
        parts.append(f"within {shown_duration(node.timeout_ms)}")
    return ", ".join(parts)
