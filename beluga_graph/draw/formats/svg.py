"""The SVG format: a picture without binaries, network access or scripts. Equal pictures give equal bytes.

A page may contain several drawings beside its own elements: the class names of a drawing have a prefix of their own,
and its style rules apply to that drawing only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from hashlib import sha256
from html import escape

from beluga_graph.draw.layout.layout import BADGE_SIZE, LABEL_SIZE, NOTE_SIZE, PAD, Card, Layout, Wire, lay_out
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Picture
from beluga_graph.draw.text import clean, clip, measure_width, wrap_fault
from beluga_graph.draw.theme import ICONS, KIND_WORDS, LINE_WORDS, STATUS_SIGNS, STATUS_WORDS, UNREACHED, write_style
from beluga_graph.kernel.shape import FRAME

__all__ = ["build_legend", "render_body", "render_svg"]

MARGIN = 16.0
HEAD_LINE, HEAD_GAP = 18.0, 12.0
LEGEND_ROW = 22.0  # height
FAULT_SIZE = 12.8  # approximates the width of bold letters of size 12
PREFIX = "beluga-"  # keeps the classes of a drawing apart from those of the page around it
_HEAD_LENGTH_MAX = 60
_CLASSES = re.compile(r'class="([^"]*)"')  # quotes in texts are escaped, so that only attributes match


def render_svg(picture: Picture, overlay: Overlay | None = None, *, theme: str = "auto", fault: str = "") -> str:
    """Render a picture as an SVG document, with the overlay of a run if one is given.

    `theme` is `light`, `dark`, or `auto` for the reader's preference; `fault` is an error to show above the picture.
    Raises `ValueError` for another theme.
    """
    badges, counts = (overlay.format_badges(), overlay.format_counts()) if overlay else (None, None)
    placed = lay_out(picture, badges, counts)
    lines = _list_head_lines(picture, overlay, fault)
    head_width = max((measure_width(text, size) for _, text, size in lines), default=0.0)
    top = MARGIN + HEAD_LINE * len(lines) + (HEAD_GAP if lines else 0.0)
    statuses = {stats.status for stats in overlay.stats.values()} if overlay else set()
    legend, rows, wide = _render_legend(build_legend(picture, statuses), max(placed.width, head_width, 300.0))
    width = max(placed.width, wide, head_width) + 2 * MARGIN
    height = top + placed.height + MARGIN + rows * LEGEND_ROW + MARGIN
    left = (width - placed.width) / 2
    size = f'width="{width:.0f}" height="{height:.0f}"'
    head = [
        _render_words(name, MARGIN, MARGIN + 14 + HEAD_LINE * number, text, size)
        for number, (name, text, size) in enumerate(lines)
    ]
    drawn = [
        f'<rect class="page" {size}/>',
        *head,
        f'<g transform="translate({left:.1f} {top:.1f})">{render_body(placed, overlay)}</g>',
        f'<g class="legend" transform="translate({MARGIN} {top + placed.height + MARGIN:.1f})">{legend}</g>',
    ]
    return _write_document(picture.name, f'{size} viewBox="0 0 {width:.0f} {height:.0f}"', "\n".join(drawn), theme)


def _write_document(name: str, size: str, drawn: str, theme: str) -> str:
    """Return a drawing as a document whose style neither affects the page around it nor is affected by it."""
    own = f"{PREFIX}{sha256(f'{theme} {size} {drawn}'.encode()).hexdigest()[:12]}"
    whole = [
        f'<svg xmlns="http://www.w3.org/2000/svg" class="{own}" {size}>',
        f"<title>{_escape(name)}</title>",
        f"<style>{write_style(theme, f'svg.{own} ', PREFIX)}</style>",
        _CLASSES.sub(lambda found: f'class="{PREFIX}{found[1].replace(" ", f" {PREFIX}")}"', drawn),
        "</svg>",
    ]
    return "\n".join(whole) + "\n"


def render_body(placed: Layout, overlay: Overlay | None) -> str:
    """Render the cards and wires of a layout as a group, without style and legend. Frames are below the wires."""
    frames = [card for card in placed.cards if card.box.kind == FRAME and not card.box.folded]
    cards = [card for card in placed.cards if card.box.kind != FRAME or card.box.folded]
    parts = [_render_frame(card, overlay) for card in frames]
    parts += [_render_wire(wire, overlay) for wire in placed.wires]
    parts += [
        _render_point(card) if card.box.kind in (BEGIN_KIND, END_KIND) else _render_card(card, overlay)
        for card in cards
    ]
    return f'<g class="drawing{" run" if overlay else ""}">' + "\n".join(parts) + "</g>"


def _list_head_lines(picture: Picture, overlay: Overlay | None, fault: str) -> list[tuple[str, str, float]]:
    """Return the lines of text above a picture: class, text and font size."""
    found = []
    if overlay is not None:
        text = clip(clean(f"{picture.name} · {overlay.run_id} · {overlay.status}"), _HEAD_LENGTH_MAX)
        found.append(("head", text, LABEL_SIZE))
    return found + [("fault", line, FAULT_SIZE) for line in wrap_fault(fault)]


def _list_classes(card: Card, overlay: Overlay | None) -> str:
    status = _find_status(card, overlay)
    return f"node k-{card.box.kind}" + (f" s-{status}" if status else "")


def _find_status(card: Card, overlay: Overlay | None) -> str:
    stats = overlay.stats.get(card.box.name) if overlay else None
    return stats.status if stats is not None else ""


def _render_frame(card: Card, overlay: Overlay | None) -> str:
    outline = (
        f'<rect class="body" x="{card.x}" y="{card.y}" width="{card.width:.1f}" height="{card.height:.1f}" rx="12"/>'
    )
    return _render_group(
        f"frame {_list_classes(card, overlay)}", card, outline + _render_inscription(card, card.y + 20, overlay)
    )


def _render_card(card: Card, overlay: Overlay | None) -> str:
    outline = f'<path class="body" d="{_draw_outline(card)}"/>'
    return _render_group(
        f"card {_list_classes(card, overlay)}", card, outline + _render_inscription(card, card.y + 21.5, overlay)
    )


def _render_inscription(card: Card, line: float, overlay: Overlay | None) -> str:
    """Render a card's icon and lines of text; with a run, the sign of its status below the icon."""
    left = card.x + PAD
    parts = [
        f'<path class="icon" transform="translate({left - 2:.1f} {line - 12.5:.1f})" d="{ICONS[card.box.kind]}"/>',
        _render_words("label", left + 20, line, card.label, LABEL_SIZE, scale=LABEL_SIZE + 0.6),
    ]
    if card.note:
        line += 16
        parts.append(_render_words("note", left + 20, line, card.note, NOTE_SIZE))
    if card.badge is not None:
        line += 16
        sign = STATUS_SIGNS[_find_status(card, overlay)]
        parts.append(f'<text class="sign" x="{left + 6:.1f}" y="{line:.1f}">{sign}</text>')
    if card.badge:
        parts.append(_render_words("badge", left + 20, line, card.badge, BADGE_SIZE))
    return "".join(parts)


def _render_group(classes: str, card: Card, drawn: str) -> str:
    box = card.box
    title = ": ".join(part for part in (KIND_WORDS[box.kind], clean(box.name), clean(box.note)) if part)
    return f'<g class="{classes}" data-id="{box.id}"><title>{_escape(title)}</title>{drawn}</g>'


def _render_point(card: Card) -> str:
    x, y = card.x + card.width / 2, card.y + card.height / 2
    circle = f'<circle class="{"dot" if card.box.kind == BEGIN_KIND else "ring"}" cx="{x:.1f}" cy="{y:.1f}" r="6"/>'
    return f'<g class="point" data-id="{card.box.id}"><title>{card.box.label}</title>{circle}</g>'


def _draw_outline(card: Card) -> str:
    """Return the path of a card's outline. Kinds differ in shape as well as in colour."""
    x, y, w, h = card.x, card.y, card.width, card.height
    kind = card.box.kind
    if kind in ("wait", "timer"):
        return _draw_rounded(x, y, w, h, min(h / 2, 19))
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
    if kind == FRAME:  # folded: the edge of a second sheet shows behind the first
        return _draw_rounded(x, y, w, h, 8) + f"M{x + 6:.1f} {y - 3:.1f}H{x + w - 6:.1f}"
    return _draw_rounded(x, y, w, h, 8)


def _draw_rounded(x: float, y: float, w: float, h: float, r: float) -> str:
    return (
        f"M{x + r:.1f} {y}h{w - 2 * r:.1f}a{r} {r} 0 0 1 {r} {r}v{h - 2 * r:.1f}a{r} {r} 0 0 1 -{r} {r}"
        f"h-{w - 2 * r:.1f}a{r} {r} 0 0 1 -{r} -{r}v-{h - 2 * r:.1f}a{r} {r} 0 0 1 {r} -{r}z"
    )


def _render_wire(wire: Wire, overlay: Overlay | None) -> str:
    line = wire.line
    taken = " taken" if overlay and line.id in overlay.counts else ""
    x, y = wire.moves[-1][-2:]
    way = f"M{wire.start[0]} {wire.start[1]}" + "".join(
        ("L" if len(move) == 2 else "C") + " ".join(str(part) for part in move) for move in wire.moves
    )
    parts = [
        f'<path class="way" d="{way}"/>',
        f'<path class="tip" d="M{x - 4.5:.1f} {y - 8:.1f}L{x} {y}L{x + 4.5:.1f} {y - 8:.1f}Z"/>',
    ]
    if wire.label:
        width = measure_width(wire.label, NOTE_SIZE)
        parts.append(
            f'<rect class="plate" x="{wire.at[0] - width / 2 - 3:.1f}" y="{wire.at[1] - 7:.1f}" '
            f'width="{width + 6:.1f}" height="14" rx="4"/>'
        )
        parts.append(_render_words("route", wire.at[0] - width / 2, wire.at[1] + 4, wire.label, NOTE_SIZE))
    title = LINE_WORDS[line.kind] + (f": {clean(line.label)}" if line.label and line.kind != "error" else "")
    classes = f"wire w-{line.kind}{taken}"
    return f'<g class="{classes}" data-id="{line.id}"><title>{_escape(title)}</title>{"".join(parts)}</g>'


def _render_words(name: str, x: float, y: float, text: str, size: float, scale: float | None = None) -> str:
    """Render one line of text. It gets the measured width, whatever the reader's font is."""
    width = measure_width(text, scale or size)
    return (
        f'<text class="{name}" x="{x:.1f}" y="{y:.1f}" textLength="{width:.1f}" '
        f'lengthAdjust="spacingAndGlyphs">{_escape(text)}</text>'
    )


def build_legend(picture: Picture, statuses: Collection[str]) -> list[tuple[str, str]]:
    """Return the entries of the legend: the drawing of a kind or status, centred vertically at 0, and its word."""
    boxes, lines = picture.list_kinds()
    found = [(_draw_kind_key(kind), KIND_WORDS[kind]) for kind in boxes if kind in KIND_WORDS]
    found += [(_draw_line_key(kind), LINE_WORDS[kind]) for kind in lines]
    words = {**STATUS_WORDS, "": UNREACHED}
    return found + [(_draw_status_key(status), word) for status, word in words.items() if status in statuses]


def _render_legend(found: Iterable[tuple[str, str]], width: float) -> tuple[str, int, float]:
    """Render a legend in rows; return it with the number of rows and the width of the widest."""
    parts: list[str] = []
    x, row, widest = 0.0, 0, 0.0
    for drawn, word in found:
        room = 26 + measure_width(word, NOTE_SIZE) + 16
        if x and x + room > width:
            x, row = 0.0, row + 1
        words = _render_words("key", 26, 4, word, NOTE_SIZE)
        parts.append(f'<g transform="translate({x:.1f} {row * LEGEND_ROW + 8:.1f})">{drawn}{words}</g>')
        x += room
        widest = max(widest, x - 16)
    return "\n".join(parts), row + 1, widest


def _draw_kind_key(kind: str) -> str:
    return f'<g class="k-{kind}"><path class="icon" transform="translate(4 -8)" d="{ICONS[kind]}"/></g>'


def _draw_line_key(kind: str) -> str:
    return f'<g class="wire w-{kind}"><path class="way" d="M0 0H20"/></g>'


def _draw_status_key(status: str) -> str:
    return f'<text class="key sign s-{status or "none"}" x="12" y="4">{STATUS_SIGNS[status]}</text>'


def _escape(text: str) -> str:
    return escape(clean(text), quote=True)
