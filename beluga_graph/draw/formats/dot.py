"""The DOT format: a picture for Graphviz, with exactly its boxes and lines. Equal pictures give equal bytes.

Labels are untrusted: they are quoted, and every character with a meaning in DOT, its escapes or its entities is
escaped. The legend is written as comments, so that the graph contains the flow's nodes and edges only.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from beluga_graph.draw.layout.ranks import find_back_lines
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clip
from beluga_graph.draw.theme import KIND_WORDS, LIGHT, LINE_WORDS, STATUS_KEY
from beluga_graph.kernel.shape import AGENT, CHOICE, FAN_OUT, FRAME, HANDOFF, JOIN, TIMER_NODE, TOOL, WAIT_NODE

__all__ = ["quote_lines", "render_dot"]

_SHAPES = {
    AGENT: "component",
    TOOL: "cds",
    FAN_OUT: "trapezium",
    JOIN: "invtrapezium",
    WAIT_NODE: "house",
    TIMER_NODE: "oval",
    CHOICE: "diamond",
    HANDOFF: "rarrow",
    FRAME: "folder",  # folded
}
_STYLES = {"error": "dashed", "interrupt": "dotted", "handoff": "bold", "conditional": "dashed"}
_LENGTH_MAX = 80


def render_dot(picture: Picture, overlay: Overlay | None = None) -> str:
    """Render a picture as a directed graph in DOT. Sub-flows are clusters; kinds of nodes and edges look different."""
    lines = [
        f"digraph {quote_lines(picture.name)} {{",
        *_iter_legend(picture, overlay),
        "  compound=true",
        '  graph [fontname="Helvetica", fontsize=11]',
        '  node [fontname="Helvetica", fontsize=11, shape=box, style="rounded,filled", fillcolor=white]',
        '  edge [fontname="Helvetica", fontsize=9]',
        *_iter_nodes(picture, "", "  ", overlay),
        *_iter_edges(picture, overlay),
        "}",
    ]
    return "\n".join(lines) + "\n"


def _iter_legend(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    boxes, lines = picture.list_kinds()
    for kind in boxes:
        if kind in KIND_WORDS:
            yield f"  // {KIND_WORDS[kind]}: {_SHAPES.get(kind, 'box')}"
    for kind in lines:
        yield f"  // {LINE_WORDS[kind]}: {_STYLES.get(kind, 'solid')}, {LIGHT.get(kind, LIGHT['line'])}"
    if overlay is not None:
        yield f"  // thick: taken; {STATUS_KEY}"


def _iter_nodes(picture: Picture, frame: str, indent: str, overlay: Overlay | None) -> Iterator[str]:
    for box in picture.list_boxes(frame):
        if box.kind == FRAME and not box.folded:
            looks = {"label": _write_label(box, overlay), "style": '"rounded"', "color": quote_lines(LIGHT["rim"])}
            yield f'{indent}subgraph "cluster_{box.id}" {{'
            yield from (f"{indent}  {name}={value}" for name, value in {**looks, **_style_status(box, overlay)}.items())
            yield from _iter_nodes(picture, box.id, indent + "  ", overlay)
            yield f"{indent}}}"
        else:
            yield f'{indent}"{box.id}" [{_write_attributes(_style_box(box, overlay))}]'


def _style_box(box: Box, overlay: Overlay | None) -> dict[str, str]:
    if box.kind == BEGIN_KIND:
        return {"label": '""', "shape": "circle", "width": "0.15", "style": "filled", "fillcolor": "black"}
    if box.kind == END_KIND:
        return {"label": '""', "shape": "doublecircle", "width": "0.12", "style": "filled", "fillcolor": "black"}
    colour = LIGHT.get(box.kind, LIGHT["rim"])
    looks = {"label": _write_label(box, overlay), "color": quote_lines(colour), "shape": _SHAPES.get(box.kind, "box")}
    return {**looks, **_style_status(box, overlay)}


def _style_status(box: Box, overlay: Overlay | None) -> dict[str, str]:
    stats = overlay.stats.get(box.name) if overlay is not None else None
    if stats is None or not stats.status:
        return {}
    back = LIGHT.get(f"{stats.status}-back", LIGHT["dropped-back"])
    looks = {"color": quote_lines(LIGHT[stats.status]), "fillcolor": quote_lines(back), "penwidth": "2"}
    return looks if box.kind != FRAME or box.folded else {"pencolor": looks["color"], "penwidth": "2"}


def _write_label(box: Box, overlay: Overlay | None) -> str:
    badge = overlay.format_signed_badge(box.name) if overlay is not None else ""
    return quote_lines(*(text for text in (box.label, box.note, badge) if text))


def _iter_edges(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    frames = {box.id for box in picture.boxes if box.kind == FRAME and not box.folded}
    back = find_back_lines(picture)
    for line in picture.lines:
        source = f"{line.source}end" if line.source in frames else line.source
        target = f"{line.target}start" if line.target in frames else line.target
        looks = _style_line(line, overlay)
        if line.id in back:
            looks["constraint"] = "false"  # an edge that goes back must not move its target below its source
        if line.source in frames and line.source != line.target:
            looks["ltail"] = f'"cluster_{line.source}"'
        if line.target in frames and line.source != line.target:
            looks["lhead"] = f'"cluster_{line.target}"'
        yield f'  "{source}" -> "{target}" [{_write_attributes(looks)}]'


def _style_line(line: Line, overlay: Overlay | None) -> dict[str, str]:
    colour = quote_lines(LIGHT.get(line.kind, LIGHT["line"]))
    looks = {"id": f'"{line.id}"', "color": colour, "fontcolor": colour}
    count = overlay.format_counts().get(line.id, "") if overlay is not None else ""
    if label := " ".join(part for part in (line.label, count) if part):
        looks["label"] = quote_lines(label)
    if line.kind in _STYLES:
        looks["style"] = _STYLES[line.kind]
    if overlay is not None and line.id in overlay.counts:
        looks["penwidth"] = "2.5"
    return looks


def _write_attributes(looks: Mapping[str, str]) -> str:
    return ", ".join(f"{name}={value}" for name, value in looks.items())


def quote_lines(*lines: str) -> str:
    """Return lines of text as one DOT string that Graphviz shows literally. Cuts long lines."""
    shown = (clip(clean(line), _LENGTH_MAX) for line in lines)
    safe = (line.replace("&", "&amp;").replace("\\", "\\\\").replace('"', '\\"') for line in shown)
    return '"' + "\\n".join(safe) + '"'
