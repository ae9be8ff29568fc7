"""A picture as text for Graphviz: exactly its boxes and lines, the same bytes each time.

Labels are untrusted: they stand in quotes, with what DOT, its escapes and its entities mean written so that it means
itself. The legend stands in comments, so that the graph holds the flow's nodes and edges alone.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from beluga_graph.draw.layout.ranks import back_lines
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clipped
from beluga_graph.draw.theme import KIND_WORDS, LIGHT, LINE_WORDS, STATUS_KEY
from beluga_graph.kernel.shape import AGENT, CHOICE, FAN_OUT, FRAME, HANDOFF, JOIN, TIMER, TOOL, WAIT

__all__ = ["dot", "quoted"]

_SHAPES = {
    AGENT: "component",
    TOOL: "cds",
    FAN_OUT: "trapezium",
    JOIN: "invtrapezium",
    WAIT: "house",
    TIMER: "oval",
    CHOICE: "diamond",
    HANDOFF: "rarrow",
    FRAME: "folder",  # folded
}
_STYLES = {"error": "dashed", "handoff": "bold", "conditional": "dashed"}
_SIGNS = 80


def dot(picture: Picture, overlay: Overlay | None = None) -> str:
    """Return a picture as a directed graph in DOT. Sub-flows are clusters; kinds of nodes and edges differ in looks."""
    lines = [
        f"digraph {quoted(picture.name)} {{",
        *_legend(picture, overlay),
        "  compound=true",
        '  graph [fontname="Helvetica", fontsize=11]',
        '  node [fontname="Helvetica", fontsize=11, shape=box, style="rounded,filled", fillcolor=white]',
        '  edge [fontname="Helvetica", fontsize=9]',
        *_inside(picture, "", "  ", overlay),
        *_edges(picture, overlay),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _legend(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    boxes, lines = picture.kinds()
    for kind in boxes:
        if kind in KIND_WORDS:
            yield f"  // {KIND_WORDS[kind]}: {_SHAPES.get(kind, 'box')}"
    for kind in lines:
        yield f"  // {LINE_WORDS[kind]}: {_STYLES.get(kind, 'solid')}, {LIGHT.get(kind, LIGHT['line'])}"
    if overlay is not None:
        yield f"  // thick: taken; {STATUS_KEY}"


def _inside(picture: Picture, frame: str, indent: str, overlay: Overlay | None) -> Iterator[str]:
    for box in picture.inside(frame):
        if box.kind == FRAME and not box.folded:
            looks = {"label": _label(box, overlay), "style": '"rounded"', "color": quoted(LIGHT["rim"])}
            yield f'{indent}subgraph "cluster_{box.id}" {{'
            yield from (f"{indent}  {name}={value}" for name, value in {**looks, **_state(box, overlay)}.items())
            yield from _inside(picture, box.id, indent + "  ", overlay)
            yield f"{indent}}}"
        else:
            yield f'{indent}"{box.id}" [{_attributes(_looks(box, overlay))}]'


def _looks(box: Box, overlay: Overlay | None) -> dict[str, str]:
    if box.kind == BEGIN_KIND:
        return {"label": '""', "shape": "circle", "width": "0.15", "style": "filled", "fillcolor": "black"}
    if box.kind == END_KIND:
        return {"label": '""', "shape": "doublecircle", "width": "0.12", "style": "filled", "fillcolor": "black"}
    colour = LIGHT.get(box.kind, LIGHT["rim"])
    looks = {"label": _label(box, overlay), "color": quoted(colour), "shape": _SHAPES.get(box.kind, "box")}
    return {**looks, **_state(box, overlay)}


def _state(box: Box, overlay: Overlay | None) -> dict[str, str]:
    mark = overlay.marks.get(box.name) if overlay is not None else None
    if mark is None or not mark.status:
        return {}
    back = LIGHT.get(f"{mark.status}-back", LIGHT["dropped-back"])
    looks = {"color": quoted(LIGHT[mark.status]), "fillcolor": quoted(back), "penwidth": "2"}
    return looks if box.kind != FRAME or box.folded else {"pencolor": looks["color"], "penwidth": "2"}


def _label(box: Box, overlay: Overlay | None) -> str:
    badge = overlay.signed(box.name) if overlay is not None else ""
    return quoted(*(text for text in (box.label, box.note, badge) if text))


def _edges(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    frames = {box.id for box in picture.boxes if box.kind == FRAME and not box.folded}
    back = back_lines(picture)
    for line in picture.lines:
        source = f"{line.source}end" if line.source in frames else line.source
        target = f"{line.target}start" if line.target in frames else line.target
        looks = _line_looks(line, overlay)
        if line.id in back:
            looks["constraint"] = "false"  # so that what is above stays above
        if line.source in frames and line.source != line.target:
            looks["ltail"] = f'"cluster_{line.source}"'
        if line.target in frames and line.source != line.target:
            looks["lhead"] = f'"cluster_{line.target}"'
        yield f'  "{source}" -> "{target}" [{_attributes(looks)}]'


def _line_looks(line: Line, overlay: Overlay | None) -> dict[str, str]:
    colour = quoted(LIGHT.get(line.kind, LIGHT["line"]))
    looks = {"id": f'"{line.id}"', "color": colour, "fontcolor": colour}
    count = overlay.counts().get(line.id, "") if overlay is not None else ""
    if label := " ".join(part for part in (line.label, count) if part):
        looks["label"] = quoted(label)
    if line.kind in _STYLES:
        looks["style"] = _STYLES[line.kind]
    if overlay is not None and line.id in overlay.taken:
        looks["penwidth"] = "2.5"
    return looks


def _attributes(looks: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in looks.items())


def quoted(*lines: str) -> str:
    """Return lines of text as one DOT string that Graphviz shows as they are; long ones are cut."""
    shown = (clipped(clean(line), _SIGNS) for line in lines)
    safe = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in shown)
    return '"' + "\\n".join(safe) + '"'
