"""The Mermaid format: a picture as a flowchart, with exactly its boxes and lines. Equal pictures give equal bytes.

Labels are untrusted. Mermaid reads entity codes in quoted labels, so every character except letters, digits and a few
harmless signs is written as an entity code. Ids are letters and digits, and contain no part of a label. The legend is
written as comments, so that the diagram contains the flow's nodes and edges only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clip
from beluga_graph.draw.theme import KIND_WORDS, LIGHT, LINE_WORDS, STATUS_KEY, STATUS_WORDS
from beluga_graph.kernel.shape import AGENT, CHOICE, FAN_OUT, FRAME, HANDOFF, JOIN, TIMER_NODE, TOOL, WAIT_NODE

__all__ = ["escape_label", "render_mermaid"]

_SHAPES = {
    BEGIN_KIND: ("((", "))"),
    END_KIND: ("(((", ")))"),
    AGENT: ("(", ")"),
    TOOL: ("[/", "\\]"),
    FAN_OUT: ("{{", "}}"),
    JOIN: ("[\\", "/]"),
    WAIT_NODE: (">", "]"),
    TIMER_NODE: ("([", "])"),
    CHOICE: ("{", "}"),
    HANDOFF: ("[/", "/]"),
    FRAME: ("[[", "]]"),  # folded
}
_ARROWS = {
    "plain": "-->",
    "branch": "-->",
    "conditional": "-->",
    "handoff": "==>",
    "error": "-.->",
    "interrupt": "-.->",
}
_PLAIN = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _-.,:?!()")
_LENGTH_MAX = 80
# Mermaid interprets these even if they are written as entity codes: new lines, formulas, icons, its own placeholders.
_ALWAYS_INTERPRETED = re.compile(r"\\|\$(?=\$)|:(?=fa-)|\ufb02(?=\u00b0)|\u00b6(?=\u00df)")


def render_mermaid(picture: Picture, overlay: Overlay | None = None) -> str:
    """Render a picture as a Mermaid flowchart. Sub-flows are subgraphs; kinds of nodes and edges look different."""
    lines = ["flowchart TD", *_iter_legend(picture, overlay)]
    lines += _iter_nodes(picture, "", "    ", overlay)
    frames = {box.id for box in picture.boxes if box.kind == FRAME and not box.folded}
    lines += [f"    {_write_edge(line, frames, overlay)}" for line in picture.lines]
    lines += [f"    {looks}" for looks in _iter_styles(picture, overlay)]
    return "\n".join(lines) + "\n"


def _iter_legend(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    boxes, lines = picture.list_kinds()
    for kind in boxes:
        if kind in KIND_WORDS:
            left, right = _SHAPES.get(kind, ("[", "]"))
            yield f"    %% {left}{KIND_WORDS[kind]}{right}"
    for kind in lines:
        yield f"    %% {_ARROWS[kind]} {LINE_WORDS[kind]}"
    if overlay is not None:
        yield f"    %% thick: taken; {STATUS_KEY}"


def _iter_nodes(picture: Picture, frame: str, indent: str, overlay: Overlay | None) -> Iterator[str]:
    for box in picture.list_boxes(frame):
        if box.kind == FRAME and not box.folded:
            yield f'{indent}subgraph {box.id}["{_write_label(box, overlay)}"]'
            yield from _iter_nodes(picture, box.id, indent + "    ", overlay)
            yield f"{indent}end"
        else:
            left, right = _SHAPES.get(box.kind, ("[", "]"))
            yield f'{indent}{box.id}{left}"{_write_label(box, overlay)}"{right}'


def _write_label(box: Box, overlay: Overlay | None) -> str:
    if box.kind in (BEGIN_KIND, END_KIND):
        return " " if box.frame else box.label.lower()
    badge = overlay.format_signed_badge(box.name) if overlay is not None else ""
    return "<br/>".join(escape_label(text) for text in (box.label, box.note, badge) if text).strip() or " "


def _write_edge(line: Line, frames: set[str], overlay: Overlay | None) -> str:
    """Return an edge. It connects the end and start points of frames, not the frames: Mermaid lays this out better."""
    source = f"{line.source}end" if line.source in frames else line.source
    target = f"{line.target}start" if line.target in frames else line.target
    count = overlay.format_counts().get(line.id, "") if overlay is not None else ""
    label = " ".join(escape_label(text) for text in (line.label, count) if text).strip()
    return f"{source} {_ARROWS[line.kind]}" + (f'|"{label}"| {target}' if label else f" {target}")


def _iter_styles(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    """Yield the colours of node kinds, or with a run the colours of statuses, and the colours of line kinds."""
    kinds, _ = picture.list_kinds()
    if overlay is None:
        for kind in kinds:
            if kind in LIGHT and kind in KIND_WORDS:
                ids = ",".join(box.id for box in picture.boxes if box.kind == kind)
                yield f"classDef {kind} stroke:{LIGHT[kind]},stroke-width:2px"
                yield f"class {ids} {kind}"
    else:
        for status in STATUS_WORDS:
            ids = ",".join(
                b.id for b in picture.boxes if b.name in overlay.stats and overlay.stats[b.name].status == status
            )
            if ids:
                back = LIGHT.get(f"{status}-back", LIGHT["dropped-back"])
                yield f"classDef {status} stroke:{LIGHT[status]},fill:{back},color:{LIGHT['ink']},stroke-width:2px"
                yield f"class {ids} {status}"
    for kind in ("branch", "conditional", "handoff", "error", "interrupt"):
        numbers = [str(number) for number, line in enumerate(picture.lines) if line.kind == kind]
        if numbers:
            yield f"linkStyle {','.join(numbers)} stroke:{LIGHT[kind]}"
    if overlay is not None:
        numbers = [str(number) for number, line in enumerate(picture.lines) if line.id in overlay.counts]
        if numbers:
            yield f"linkStyle {','.join(numbers)} stroke-width:4px"


def escape_label(label: str) -> str:
    """Return a label that Mermaid shows literally. Cuts long labels."""
    shown = _ALWAYS_INTERPRETED.sub(lambda found: f"{found[0]}\u2060", clip(clean(label), _LENGTH_MAX))
    return "".join(sign if sign in _PLAIN else f"#{ord(sign)};" for sign in shown)
