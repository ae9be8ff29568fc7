"""A picture with every look: all kinds of nodes in each status, all kinds of lines, taken and not."""

from __future__ import annotations

from itertools import count

from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.theme import KIND_WORDS, LINE_WORDS, STATUS_SIGNS
from beluga_graph.kernel.shape import END, FRAME
from beluga_graph.trace.edges import BEGIN, name_point
from beluga_graph.trace.visits import NodeStats

__all__ = ["board"]

STATUSES = [*STATUS_SIGNS]


def board() -> tuple[Picture, Overlay]:
    """Return the picture, and the overlay of a run."""
    boxes: list[Box] = []
    lines: list[Line] = []
    stats: dict[str, NodeStats] = {}
    number = count()

    def point(kind: str, frame: str, path: str) -> Box:
        name = name_point(path, BEGIN if kind == BEGIN_KIND else END)
        return Box(id=f"{frame or 'n'}{kind}", name=name, label=kind.upper(), kind=kind, frame=frame)

    def node(kind: str, status: str, frame: str = "", path: str = "") -> Box:
        label = f"{kind} {status}"
        box = Box(
            id=f"n{next(number)}", name=name_point(path, label), label=label, kind=kind, frame=frame, note="a note"
        )
        stats[box.name] = NodeStats(status=status, visits=bool(status), attempts=1, busy_ms=850)
        return box

    def add_line(source: Box, target: Box, kind: str) -> None:
        label = kind if kind in ("conditional", "handoff", "branch") else ""
        ends = (source.name, target.name)
        lines.append(Line(id=f"e{len(lines)}", source=source.id, target=target.id, kind=kind, label=label, ends=ends))

    boxes.append(point(BEGIN_KIND, "", ""))
    rows = [[node(kind, status) for status in STATUSES] for kind in KIND_WORDS if kind != FRAME]
    kinds = [*LINE_WORDS]
    for index, row in enumerate(rows):
        for column, box in enumerate(row):
            boxes.append(box)
            above = rows[index - 1][column] if index else boxes[0]
            add_line(above, box, kinds[index % len(kinds)])
    for status in STATUSES:
        frame = node(FRAME, status)
        boxes.append(frame)
        add_line(boxes[0], frame, "plain")
        boxes.append(point(BEGIN_KIND, frame.id, frame.name))
        inside = [node("function", inner, frame.id, frame.name) for inner in ("", status)]
        boxes.extend(inside)
        boxes.append(point(END_KIND, frame.id, frame.name))
        add_line(boxes[-4], inside[0], "plain")
        add_line(*inside, "conditional")
        add_line(inside[1], boxes[-1], "error")
    boxes.append(point(END_KIND, "", ""))
    for box in rows[-1]:
        add_line(box, boxes[-1], "plain")
    counts = {line.id: 1 + index % 2 for index, line in enumerate(lines) if index % 3}
    shown = Picture(name="board", boxes=tuple(boxes), lines=tuple(lines))
    return shown, Overlay(run_id="r", status="running", seq=3, stats=stats, counts=counts)
