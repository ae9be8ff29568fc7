"""A picture as SVG: no binary, no network, no script; the same bytes each time, in light and in dark.

A page may hold several drawings among what is its own: the classes of a drawing have a prefix that no page uses, and
its rules hold within it alone.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import sha256
from html import escape

from beluga_graph.draw.layout.layout import BADGE_SIZE, LABEL_SIZE, NOTE_SIZE, PAD, Card, Layout, Wire, layout
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Picture
from beluga_graph.draw.text import clean, clipped, fault_lines, width_of
from beluga_graph.draw.theme import ICONS, KIND_WORDS, LINE_WORDS, STATUS_SIGNS, STATUS_WORDS, UNREACHED, style
from beluga_graph.kernel.shape import FRAME

__all__ = ["body", "keys", "svg"]

MARGIN = 16.0
HEAD_LINE, HEAD_GAP = 18.0, 12.0
KEY = 22.0  # height of a row of the legend
FAULT_SIZE = 12.8  # about as wide as bold letters of 12
PREFIX = "beluga-"  # of classes, where a page may have its own
_HEAD_SIGNS = 60
_CLASSES = re.compile(r'class="([^"]*)"')  # within texts quotes are escaped


def svg(picture: Picture, overlay: Overlay | None = None, *, theme: str = "auto", fault: str = "") -> str:
    """Return a picture as an SVG document, with a run laid over it if one is given.

    `theme` is `light`, `dark`, or `auto` for what the reader prefers; `fault` is said above the picture. Raises
    `ValueError` for another theme.
    """
    placed = layout(picture, overlay.badges() if overlay else None, overlay.counts() if overlay else None)
    lines = _head(picture, overlay, fault)
    head_width = max((width_of(text, size) for _, text, size in lines), default=0.0)
    top = MARGIN + HEAD_LINE * len(lines) + (HEAD_GAP if lines else 0.0)
    statuses = {mark.status for mark in overlay.marks.values()} if overlay else set()
    legend, rows, wide = _rows(keys(picture, statuses), max(placed.width, head_width, 300.0))
    width = max(placed.width, wide, head_width) + 2 * MARGIN
    height = top + placed.height + MARGIN + rows * KEY + MARGIN
    left = (width - placed.width) / 2
    size = f'width="{width:.0f}" height="{height:.0f}"'
    said = [
        _words(name, MARGIN, MARGIN + 14 + HEAD_LINE * number, text, size)
        for number, (name, text, size) in enumerate(lines)
    ]
    drawn = [
        f'<rect class="page" {size}/>',
        *said,
        f'<g transform="translate({left:.1f} {top:.1f})">{body(placed, overlay)}</g>',
        f'<g class="legend" transform="translate({MARGIN} {top + placed.height + MARGIN:.1f})">{legend}</g>',
    ]
    return _document(picture.name, f'{size} viewBox="0 0 {width:.0f} {height:.0f}"', "\n".join(drawn), theme)


def _document(name: str, size: str, drawn: str, theme: str) -> str:
    """Return a drawing as a document, with a style that reaches nothing else and that nothing else changes."""
    own = f"{PREFIX}{sha256(f'{theme} {size} {drawn}'.encode()).hexdigest()[:12]}"
    whole = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{own}" {size}>',
        f"<title>{_text(name)}</title>",
        f"<style>{style(theme, f'svg.{own} ', PREFIX)}</style>",
        _CLASSES.sub(lambda found: f'class="{PREFIX}{found[1].replace(" ", f" {PREFIX}")}"', drawn),
        "</svg>",
    ]
    return "\n".join(whole) + "\n"


def body(placed: Layout, overlay: Overlay | None) -> str:
    """Return the cards and wires of a layout as a group, without style or legend: frames first, wires over them."""
    frames = [card for card in placed.cards if card.box.kind == FRAME and not card.box.folded]
    cards = [card for card in placed.cards if card.box.kind != FRAME or card.box.folded]
    parts = [_frame(card, overlay) for card in frames]
    parts += [_wire(wire, overlay) for wire in placed.wires]
    parts += [_point(card) if card.box.kind in (BEGIN_KIND, END_KIND) else _card(card, overlay) for card in cards]
    return f'<g class="drawing{" run" if overlay else ""}">' + "\n".join(parts) + "</g>"


def _head(picture: Picture, overlay: Overlay | None, fault: str) -> list[tuple[str, str, float]]:
    """Return the lines above a picture: class, text and size."""
    found = []
    if overlay is not None:
        text = clipped(clean(f"{picture.name} · {overlay.run_id} · {overlay.status}"), _HEAD_SIGNS)
        found.append(("head", text, LABEL_SIZE))
    return found + [("fault", line, FAULT_SIZE) for line in fault_lines(fault)]


def _classes(card: Card, overlay: Overlay | None) -> str:
    status = _status(card, overlay)
    return f"node k-{card.box.kind}" + (f" s-{status}" if status else "")


def _status(card: Card, overlay: Overlay | None) -> str:
    mark = overlay.marks.get(card.box.name) if overlay else None
    return mark.status if mark is not None else ""


def _frame(card: Card, overlay: Overlay | None) -> str:
    outline = (
        f'<rect class="body" x="{card.x}" y="{card.y}" width="{card.width:.1f}" height="{card.height:.1f}" rx="12"/>'
    )
    return _group(f"frame {_classes(card, overlay)}", card, outline + _inscription(card, card.y + 20, overlay))


def _card(card: Card, overlay: Overlay | None) -> str:
    outline = f'<path class="body" d="{_outline(card)}"/>'
    return _group(f"card {_classes(card, overlay)}", card, outline + _inscription(card, card.y + 21.5, overlay))


def _inscription(card: Card, line: float, overlay: Overlay | None) -> str:
    """Return a card's icon and its lines of text; with a run, the sign of its status below the icon."""
    left = card.x + PAD
    parts = [
        f'<path class="icon" transform="translate({left - 2:.1f} {line - 12.5:.1f})" d="{ICONS[card.box.kind]}"/>',
        _words("label", left + 20, line, card.label, LABEL_SIZE, scale=LABEL_SIZE + 0.6),
    ]
    if card.note:
        line += 16
        parts.append(_words("note", left + 20, line, card.note, NOTE_SIZE))
    if card.badge is not None:
        line += 16
        sign = STATUS_SIGNS[_status(card, overlay)]
        parts.append(f'<text class="sign" x="{left + 6:.1f}" y="{line:.1f}">{sign}</text>')
    if card.badge:
        parts.append(_words("badge", left + 20, line, card.badge, BADGE_SIZE))
    return "".join(parts)


def _group(classes: str, card: Card, drawn: str) -> str:
    box = card.box
    told = ": ".join(part for part in (KIND_WORDS[box.kind], clean(box.name), clean(box.note)) if part)
    return f'<g class="{classes}" data-id="{box.id}"><title>{_text(told)}</title>{drawn}</g>'


def _point(card: Card) -> str:
    x, y = card.x + card.width / 2, card.y + card.height / 2
    circle = f'<circle class="{"dot" if card.box.kind == BEGIN_KIND else "ring"}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    return f'<g class="point" data-id="{card.box.id}"><title>{card.box.label}</title>{circle}</g>'


def _outline(card: Card) -> str:
    """Return a card's outline: kinds differ in shape as well as in colour."""
    x, y, w, h = card.x, card.y, card.width, card.height
    kind = card.box.kind
    if kind in ("wait", "timer"):
        return _round(x, y, w, h, min(h / 2, 19))
    if kind == "fan_out":
        return f"M{x + 9:.1f} {y}H{x + w - 9:.1f}L{x + w:.1f} {y + h}H{x}Z"
    if kind == "join":
        return f"M{x} {y}H{x + w:.1f}L{x + w - 9:.1f} {y + h}H{x + 9:.1f}Z"
    if kind == "handoff":
        return f"M{x} {y}H{x + w - 11:.1f}L{x + w:.1f} {y + h / 2:.1f}L{x + w - 11:.1f} {y + h}H{x}Z"
    if kind == "choice":
        left, right, mid = x + 10, x + w - 10, y + h / 2
        return f"M{left:.1f} {y}H{right:.1f}L{x + w:.1f} {mid:.1f}L{right:.1f} {y + h}H{left:.1f}L{x} {mid:.1f}Z"
    if kind == "tool":
        return f"M{x} {y}H{x + w - 10:.1f}L{x + w:.1f} {y + 10:.1f}V{y + h}H{x}Z"
    if kind == FRAME:  # folded: a second sheet shows behind the first
        return _round(x, y, w, h, 8) + f"M{x + 6:.1f} {y - 3:.1f}H{x + w - 6:.1f}"
    return _round(x, y, w, h, 8)


def _round(x: float, y: float, w: float, h: float, r: float) -> str:
    return (
        f"M{x + r:.1f} {y}h{w - 2 * r:.1f}a{r} {r} 0 0 1 {r} {r}v{h - 2 * r:.1f}a{r} {r} 0 0 1 -{r} {r}"
        f"h-{w - 2 * r:.1f}a{r} {r} 0 0 1 -{r} -{r}v-{h - 2 * r:.1f}a{r} {r} 0 0 1 {r} -{r}z"
    )


def _wire(wire: Wire, overlay: Overlay | None) -> str:
    line = wire.line
    taken = " taken" if overlay and line.id in overlay.taken else ""
    x, y = wire.moves[-1][-2:]
    way = f"M{wire.start[0]} {wire.start[1]}" + "".join(
        ("L" if len(move) == 2 else "C") + " ".join(str(part) for part in move) for move in wire.moves
    )
    parts = [
        f'<path class="way" d="{way}"/>',
        f'<path class="tip" d="M{x - 4.5:.1f} {y - 8:.1f}L{x} {y}L{x + 4.5:.1f} {y - 8:.1f}Z"/>',
    ]
    if wire.label:
        width = width_of(wire.label, NOTE_SIZE)
        parts.append(
            f'<rect class="plate" x="{wire.at[0] - width / 2 - 3:.1f}" y="{wire.at[1] - 7:.1f}" '
            f'width="{width + 6:.1f}" height="14" rx="4"/>'
        )
        parts.append(_words("route", wire.at[0] - width / 2, wire.at[1] + 4, wire.label, NOTE_SIZE))
    told = LINE_WORDS[line.kind] + (f": {clean(line.label)}" if line.label and line.kind != "error" else "")
    return f'<g class="wire w-{line.kind}{taken}" data-id="{line.id}"><title>{_text(told)}</title>{"".join(parts)}</g>'


def _words(name: str, x: float, y: float, text: str, size: float, scale: float | None = None) -> str:
    """Return one line of text, as wide as it was measured whatever the reader's font is."""
    width = width_of(text, scale or size)
    return (
        f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" textLength="{width:.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{_text(text)}</text>'
    )


def keys(picture: Picture, statuses: Collection[str]) -> list[tuple[str, str]]:
    """Return what the looks mean that occur: each as it is drawn, around a middle line at 0, and the word for it."""
    boxes, lines = picture.kinds()
    found = [(_key_of_kind(kind), KIND_WORDS[kind]) for kind in boxes if kind in KIND_WORDS]
    found += [(_key_of_line(kind), LINE_WORDS[kind]) for kind in lines]
    words = {**STATUS_WORDS, "": UNREACHED}
    return found + [(_key_of_status(status), word) for status, word in words.items() if status in statuses]


def _rows(found: Iterable[tuple[str, str]], width: float) -> tuple[str, int, float]:
    """Return a legend, how many rows it takes, and how wide the widest is."""
    parts: list[str] = []
    x, row, widest = 0.0, 0, 0.0
    for drawn, word in found:
        room = 26 + width_of(word, NOTE_SIZE) + 16
        if x and x + room > width:
            x, row = 0.0, row + 1
        words = _words("key", 26, 4, word, NOTE_SIZE)
        parts.append(f'<g transform="translate({x:.1f} {row * KEY + 8:.1f})">{drawn}{words}</g>')
        x += room
        widest = max(widest, x - 16)
    return "\n".join(parts), row + 1, widest


def _key_of_kind(kind: str) -> str:
    return f'<g class="k-{kind}"><path class="icon" transform="translate(4 -8)" d="{ICONS[kind]}"/></g>'


def _key_of_line(kind: str) -> str:
    return f'<g class="wire w-{kind}"><path class="way" d="M0 0H20"/></g>'


def _key_of_status(status: str) -> str:
    return f'<text class="key sign s-{status or "none"}" x="12" y="4">{STATUS_SIGNS[status]}</text>'


def _text(text: str) -> str:
    return escape(clean(text), quote=True)
