"""The picture of a flow: the boxes and lines that every format draws, and nothing else.

Each frame, and the flow itself, has a point where it begins and a point where it ends, so that each line stays within
one frame. A frame can therefore be laid out by itself, or folded into one box.
"""

from __future__ import annotations

from dataclasses import dataclass

from beluga_graph.draw.text import format_duration, format_moment
from beluga_graph.kernel.shape import END, FAN_OUT, FRAME, JOIN, TIMER_NODE, WAIT_NODE, NodeShape, Shape
from beluga_graph.trace.edges import BEGIN, Edge, format_condition, iter_edges, name_point

__all__ = ["BEGIN_KIND", "END_KIND", "Box", "Line", "Picture", "build_picture", "describe_node"]

BEGIN_KIND, END_KIND = "start", "end"


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A node as it is drawn: a card, a frame, or a point."""

    id: str
    """Letters and digits only: safe in every format, and always the same for the same node."""
    name: str
    """Path of the node; for a point, its frame's path and `$start` or `$end`."""
    label: str
    """The text shown in the box."""
    kind: str
    """A kind of node, or `start` or `end` for a point."""
    frame: str = ""
    """Id of the frame that contains the box; `""` for the flow itself."""
    note: str = ""
    """Settings of the node, such as the time that a timer sleeps or the number of branches that a join waits for."""
    folded: bool = False
    """Whether this is a frame whose inside is not drawn."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """An edge as it is drawn: between two boxes of one frame."""

    id: str
    """Letters and digits only, and always the same for the same edge, at every depth."""
    source: str
    """Id of a box."""
    target: str
    """Id of a box."""
    kind: str
    """`plain`, `branch` (out of a fan-out), `conditional`, `handoff`, `error` or `interrupt` (by a signal)."""
    label: str = ""
    """The text shown at the line."""
    ends: tuple[str, str]
    """The names of the two boxes."""

    @property
    def edge(self) -> Edge:
        """The edge of a trace that this line draws."""
        return (*self.ends, format_condition(self.kind, self.label))


@dataclass(frozen=True, slots=True, kw_only=True)
class Picture:
    """All boxes and lines of a flow."""

    name: str
    """Name of the flow."""
    boxes: tuple[Box, ...]
    """Each frame comes before the boxes in it."""
    lines: tuple[Line, ...]
    """In order of declaration."""

    def list_boxes(self, frame: str) -> list[Box]:
        """Return the boxes directly in the frame of this id; `""` is the flow itself."""
        return [box for box in self.boxes if box.frame == frame]

    def list_kinds(self) -> tuple[list[str], list[str]]:
        """Return the kinds of boxes and the kinds of lines that occur, in order of first use, for a legend."""
        return list(dict.fromkeys(box.kind for box in self.boxes)), list(dict.fromkeys(li.kind for li in self.lines))


def build_picture(shape: Shape, depth: int | None = None) -> Picture:
    """Return the picture of a flow. Frames deeper than `depth` are folded; 0 folds all frames.

    Raises `ValueError` for a depth below 0.
    """
    if depth is not None and depth < 0:
        msg = f"depth is {depth}: give 0 to fold all sub-flows, or None to open them all"
        raise ValueError(msg)
    boxes: list[Box] = []
    ids = {name: f"n{number}" for number, name in enumerate(shape.nodes)}
    _add_level(shape, "", depth, ids, boxes)
    drawn = {box.name: box for box in boxes}
    lines: list[Line] = []
    for number, (source, target, kind, label) in enumerate(iter_edges(shape)):
        if source in drawn and target in drawn:
            line = Line(
                id=f"e{number}",  # the same at every depth
                source=drawn[source].id,
                target=drawn[target].id,
                kind=kind,
                label=label,
                ends=(source, target),
            )
            lines.append(line)
    return Picture(name=shape.name, boxes=tuple(boxes), lines=tuple(lines))


def _add_level(shape: Shape, frame: str, depth: int | None, ids: dict[str, str], boxes: list[Box]) -> None:
    """Add the boxes of a frame, between the points where it begins and ends."""
    owner = ids.get(frame, "")
    begin, end = (name_point(frame, point) for point in (BEGIN, END))
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
                note=describe_node(node),
                folded=folded,
            )
        )
        if node.kind == FRAME and not folded:
            _add_level(shape, node.name, None if depth is None else depth - 1, ids, boxes)
    boxes.append(Box(id=f"{owner or 'n'}end", name=end, label="END", kind=END_KIND, frame=owner))


def describe_node(node: NodeShape) -> str:
    """Return the settings of a node that differ from the defaults of its kind, in a few words."""
    parts: list[str] = []
    if node.kind == WAIT_NODE and node.received:
        parts.append("checks the payload")
    elif node.kind == WAIT_NODE:
        parts.append("asks a person" if node.asks else f"signal {node.signal}")
    elif node.kind == TIMER_NODE:
        parts.append(_describe_pause(node))
    elif node.kind == JOIN:
        parts.append("all" if node.wait is None else f"first {node.wait}")
        if node.collect:
            parts.append("collects failures")
    elif node.kind == FAN_OUT and node.max_concurrency is not None:
        parts.append(f"{node.max_concurrency} at once")
    if node.retry is not None and node.retry.attempts > 1:
        parts.append(f"up to {node.retry.attempts} attempts")
    if node.timeout_ms is not None:
        parts.append(f"within {format_duration(node.timeout_ms)}")
    if node.due_ms is not None and node.kind != TIMER_NODE:
        parts.append(f"by {format_moment(node.due_ms)}")
    if node.decides_time and node.kind != TIMER_NODE:
        parts.append("computed time limit")
    return ", ".join(parts)


def _describe_pause(node: NodeShape) -> str:
    if node.decides_time:
        return "for a computed time"
    return format_duration(node.delay_ms) if node.due_ms is None else f"until {format_moment(node.due_ms)}"
