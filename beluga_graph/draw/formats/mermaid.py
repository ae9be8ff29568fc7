"""A picture as Mermaid text: exactly its boxes and lines, the same bytes each time.

Labels are untrusted. Mermaid reads entity codes in quoted labels, so every character that is not plainly a letter,
a digit or a harmless sign is written as one; ids are letters and numbers, and carry no label. The legend stands in
comments, so that the diagram holds the flow's nodes and edges alone.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clipped
from beluga_graph.draw.theme import KIND_WORDS, LIGHT, LINE_WORDS, STATUS_KEY, STATUS_WORDS
from beluga_graph.kernel.shape import AGENT, CHOICE, FAN_OUT, FRAME, HANDOFF, JOIN, TIMER, TOOL, WAIT

__all__ = ["escaped", "mermaid"]

_SHAPES = {
    BEGIN_KIND: ("((", "))"),
    END_KIND: ("(((", ")))"),
    AGENT: ("(", ")"),
    TOOL: ("[/", "\\]"),
    FAN_OUT: ("{{", "}}"),
    JOIN: ("[\\", "/]"),
    WAIT: (">", "]"),
    TIMER: ("([", "])"),
    CHOICE: ("{", "}"),
    HANDOFF: ("[/", "/]"),
    FRAME: ("[[", "]]"),  # folded
}
_ARROWS = {"plain": "-->", "branch": "-->", "conditional": "-->", "handoff": "==>", "error": "-.->"}
_PLAIN = set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789 _-.,:?!()")
_SIGNS = 80
# What Mermaid reads even where it is written in entity codes: new lines, formulas, icons, its own placeholders.
_READ_AFTER_ALL = re.compile(r"\\|\$(?=\$)|:(?=fa-)|\ufb02(?=\u00b0)|\u00b6(?=\u00df)")


def mermaid(picture: Picture, overlay: Overlay | None = None) -> str:
    """Return a picture as a Mermaid flowchart. Sub-flows are subgraphs; kinds of nodes and edges differ in looks."""
    lines = ["flowchart TD", *_legend(picture, overlay)]
    lines += _inside(picture, "", "    ", overlay)
    frames = {box.id for box in picture.boxes if box.kind == FRAME and not box.folded}
    lines += [f"    {_edge(line, frames, overlay)}" for line in picture.lines]
    lines += [f"    {looks}" for looks in _looks(picture, overlay)]
    return "\n".join(lines) + "\n"


def _legend(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    boxes, lines = picture.kinds()
    for kind in boxes:
        if kind in KIND_WORDS:
            left, right = _SHAPES.get(kind, ("[", "]"))
            yield f"    %% {left}{KIND_WORDS[kind]}{right}"
    for kind in lines:
        yield f"    %% {_ARROWS[kind]} {LINE_WORDS[kind]}"
    if overlay is not None:
        yield f"    %% thick: taken; {STATUS_KEY}"


def _inside(picture: Picture, frame: str, indent: str, overlay: Overlay | None) -> Iterator[str]:
    for box in picture.inside(frame):
        if box.kind == FRAME and not box.folded:
            yield f'{indent}subgraph {box.id}["{_label(box, overlay)}"]'
            yield from _inside(picture, box.id, indent + "    ", overlay)
            yield f"{indent}end"
        else:
            left, right = _SHAPES.get(box.kind, ("[", "]"))
            yield f'{indent}{box.id}{left}"{_label(box, overlay)}"{right}'


def _label(box: Box, overlay: Overlay | None) -> str:
    if box.kind in (BEGIN_KIND, END_KIND):
        return " " if box.frame else box.label.lower()
    badge = overlay.signed(box.name) if overlay is not None else ""
    return "<br/>".join(escaped(text) for text in (box.label, box.note, badge) if text).strip() or " "


def _edge(line: Line, frames: set[str], overlay: Overlay | None) -> str:
    """Return an edge. That of a frame leads from its end, and to its start: Mermaid lays these out better."""
    source = f"{line.source}end" if line.source in frames else line.source
    target = f"{line.target}start" if line.target in frames else line.target
    count = overlay.counts().get(line.id, "") if overlay is not None else ""
    label = " ".join(escaped(text) for text in (line.label, count) if text).strip()
    return f"{source} {_ARROWS[line.kind]}" + (f'|"{label}"| {target}' if label else f" {target}")


def _looks(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    """Yield how kinds, or with a run states, are coloured; and each kind of line."""
    kinds, _ = picture.kinds()
    if overlay is None:
        for kind in kinds:
            if kind in LIGHT and kind in KIND_WORDS:
                ids = ",".join(box.id for box in picture.boxes if box.kind == kind)
                yield f"classDef {kind} stroke:{LIGHT[kind]},stroke-width:2px"
                yield f"class {ids} {kind}"
    else:
        for status in STATUS_WORDS:
            ids = ",".join(
                b.id for b in picture.boxes if b.name in overlay.marks and overlay.marks[b.name].status == status
            )
            if ids:
                back = LIGHT.get(f"{status}-back", LIGHT["dropped-back"])
                yield f"classDef {status} stroke:{LIGHT[status]},fill:{back},color:{LIGHT['ink']},stroke-width:2px"
                yield f"class {ids} {status}"
    for kind in ("branch", "conditional", "handoff", "error"):
        numbers = [str(number) for number, line in enumerate(picture.lines) if line.kind == kind]
        if numbers:
            yield f"linkStyle {','.join(numbers)} stroke:{LIGHT[kind]}"
    if overlay is not None:
        numbers = [str(number) for number, line in enumerate(picture.lines) if line.id in overlay.taken]
        if numbers:
            yield f"linkStyle {','.join(numbers)} stroke-width:4px"


def escaped(label: str) -> str:
    """Return a label that Mermaid reads as this text and as nothing else; a long one is cut."""
    shown = _READ_AFTER_ALL.sub(lambda found: f"{found[0]}\u2060", clipped(clean(label), _SIGNS))
    return "".join(sign if sign in _PLAIN else f"#{ord(sign)};" for sign in shown)
