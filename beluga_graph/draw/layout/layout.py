"""Where everything of a picture stands: each frame laid out by itself, and then a node of the frame around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beluga_graph.draw.layout.levels import Level, Move, Route, arrange
from beluga_graph.draw.layout.ranks import Link
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clipped, width_of
from beluga_graph.kernel.shape import FRAME

__all__ = ["BADGE_SIZE", "LABEL_SIZE", "NOTE_SIZE", "Card", "Layout", "Wire", "layout"]

LABEL_SIZE, NOTE_SIZE, BADGE_SIZE = 13.0, 11.0, 11.0
LABEL_SIGNS, NOTE_SIGNS, ROUTE_SIGNS = 34, 44, 30  # where text is cut; the whole of it is told on hovering
PAD = 12.0
ICON = 22.0
LINE = 16.0  # height of a line of text in a card
CARD_HEIGHT = 34.0
POINT = 14.0
HEADER = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A box with its place: left, top, width, height; and its texts as they are shown."""

    box: Box
    x: float
    y: float
    width: float
    height: float
    label: str
    note: str
    badge: str | None
    """`None` where there is no run; `""` where it never came."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A line with its way, its label as it is shown, and the middle of that."""

    line: Line
    start: tuple[float, float]
    moves: tuple[Move, ...]
    label: str
    at: tuple[float, float]
    back: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """All cards, frames before what stands in them, all wires, and the size of the whole."""

    width: float
    height: float
    cards: tuple[Card, ...]
    wires: tuple[Wire, ...]


def layout(
    picture: Picture, badges: Mapping[str, str] | None = None, counts: Mapping[str, str] | None = None
) -> Layout:
    """Lay out a picture; `badges` stand at boxes, by name, and `counts` at lines, by id.

    Equal input gives equal output.
    """
    return _Layouter(picture, badges or {}, counts or {}).whole()


class _Layouter:
    def __init__(self, picture: Picture, badges: Mapping[str, str], counts: Mapping[str, str]) -> None:
        self.badges = badges
        self.counts = counts
        self.inside: dict[str, list[Box]] = {}
        for box in picture.boxes:
            self.inside.setdefault(box.frame, []).append(box)
        self.frame_of = {box.id: box.frame for box in picture.boxes}
        self.lines: dict[str, list[Line]] = {}
        for line in picture.lines:
            self.lines.setdefault(self.frame_of[line.source], []).append(line)
        self.levels: dict[str, Level] = {}
        self.sizes: dict[str, tuple[float, float]] = {}

    def whole(self) -> Layout:
        width, height = self._measure("")
        cards: list[Card] = []
        wires: list[Wire] = []
        self._place("", 0.0, 0.0, cards, wires)
        return Layout(width=width, height=height, cards=tuple(cards), wires=tuple(wires))

    def _measure(self, frame: str) -> tuple[float, float]:
        """Lay out a frame, what stands in it first; return the size of its inside."""
        boxes = self.inside[frame]
        number = {box.id: index for index, box in enumerate(boxes)}
        for box in boxes:
            self.sizes[box.id] = self._size(box)
        links = [
            Link(
                source=number[line.source],
                target=number[line.target],
                label=_label_size(self._label(line)),
                group=line.kind,
            )
            for line in self.lines.get(frame, ())
        ]
        level = self.levels[frame] = arrange([self.sizes[box.id] for box in boxes], links)
        return level.size

    def _size(self, box: Box) -> tuple[float, float]:
        if box.kind in (BEGIN_KIND, END_KIND):
            return POINT, POINT
        badge = self.badges.get(box.name)
        texts = [(shown_label(box), LABEL_SIZE + 0.6), (shown_note(box), NOTE_SIZE), (badge or "", BADGE_SIZE)]
        width = max(width_of(text, size) for text, size in texts) + ICON + 2 * PAD
        height = CARD_HEIGHT + LINE * (bool(box.note) + (badge is not None))
        if box.kind == FRAME and not box.folded:
            inner_width, inner_height = self._measure(box.id)
            header = HEADER + LINE * (bool(box.note) + (badge is not None))
            return max(width, inner_width + 2 * PAD), inner_height + header + PAD
        return max(width, 72.0), height

    def _place(self, frame: str, left: float, top: float, cards: list[Card], wires: list[Wire]) -> None:
        level = self.levels[frame]
        for box, (x, y) in zip(self.inside[frame], level.nodes, strict=True):
            width, height = self.sizes[box.id]
            card = Card(
                box=box,
                x=_r(left + x - width / 2),
                y=_r(top + y - height / 2),
                width=width,
                height=height,
                label=shown_label(box),
                note=shown_note(box),
                badge=self.badges.get(box.name),
            )
            cards.append(card)
            if box.id in self.levels:
                inner = self.levels[box.id].size
                self._place(box.id, card.x + (width - inner[0]) / 2, card.y + height - PAD - inner[1], cards, wires)
        for line, route in zip(self.lines.get(frame, ()), level.routes, strict=True):
            wires.append(_wire(line, self._label(line), route, left, top))

    def _label(self, line: Line) -> str:
        return " ".join(part for part in (shown_route(line), self.counts.get(line.id, "")) if part)


def _wire(line: Line, label: str, route: Route, left: float, top: float) -> Wire:
    moves = tuple(
        tuple(_r(part + (left if index % 2 == 0 else top)) for index, part in enumerate(move)) for move in route.moves
    )
    return Wire(
        line=line,
        start=(_r(route.start[0] + left), _r(route.start[1] + top)),
        moves=moves,
        label=label,
        at=(_r(route.label[0] + left), _r(route.label[1] + top)),
        back=route.back,
    )


def _label_size(text: str) -> tuple[float, float]:
    return (width_of(text, NOTE_SIZE) + 10, LINE) if text else (0.0, 0.0)


def shown_label(box: Box) -> str:
    """Return a box's label as it is shown."""
    return clipped(clean(box.label), LABEL_SIGNS)


def shown_note(box: Box) -> str:
    """Return a box's note as it is shown."""
    return clipped(clean(box.note), NOTE_SIGNS)


def shown_route(line: Line) -> str:
    """Return a line's label as it is shown; an error edge needs no word, its look says it."""
    return "" if line.kind == "error" else clipped(clean(line.label), ROUTE_SIGNS)


def _r(number: float) -> float:
    return round(number, 1)
