"""The layout of a picture. Each frame is laid out by itself, and is then one node in the frame around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from beluga_graph.draw.layout.levels import Level, Move, Route, arrange
from beluga_graph.draw.layout.ranks import Link
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clip, measure_width
from beluga_graph.kernel.shape import FRAME

__all__ = ["BADGE_SIZE", "LABEL_SIZE", "NOTE_SIZE", "Card", "Layout", "Wire", "format_route", "lay_out"]

LABEL_SIZE, NOTE_SIZE, BADGE_SIZE = 13.0, 11.0, 11.0
LABEL_LENGTH_MAX, NOTE_LENGTH_MAX, ROUTE_LENGTH_MAX = 34, 44, 30  # longer text is cut; the tooltip shows all of it
PAD = 12.0
ICON = 22.0
LINE = 16.0  # height of a line of text in a card
CARD_HEIGHT = 34.0
POINT = 14.0
HEADER = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A box with its position and its texts as they are shown."""

    box: Box
    """The box."""
    x: float
    """Left edge."""
    y: float
    """Top edge."""
    width: float
    """Width, with the inside of a frame."""
    height: float
    """Height, with the inside of a frame."""
    label: str
    """The label, cut if it is long."""
    note: str
    """The note, cut if it is long."""
    badge: str | None
    """`None` without a run; `""` if the run never reached the node."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wire:
    """A line with its route and its label as it is shown."""

    line: Line
    """The line."""
    start: tuple[float, float]
    """The point where the route begins."""
    moves: tuple[Move, ...]
    """The moves of the route, in order."""
    label: str
    """The label with the count of a run; cut if it is long."""
    at: tuple[float, float]
    """The middle of the label."""
    back: bool
    """Whether the line goes back up, to close a loop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """The layout of a whole picture."""

    width: float
    """Width of the picture."""
    height: float
    """Height of the picture."""
    cards: tuple[Card, ...]
    """All cards. A frame comes before the cards in it."""
    wires: tuple[Wire, ...]
    """All wires."""


def lay_out(
    picture: Picture, badges: Mapping[str, str] | None = None, counts: Mapping[str, str] | None = None
) -> Layout:
    """Lay out a picture, with room for the badges of boxes, by name, and for the counts of lines, by id.

    Equal input gives equal output.
    """
    return _Layouter(picture, badges or {}, counts or {}).lay_out()


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

    def lay_out(self) -> Layout:
        width, height = self._measure_frame("")
        cards: list[Card] = []
        wires: list[Wire] = []
        self._place("", 0.0, 0.0, cards, wires)
        return Layout(width=width, height=height, cards=tuple(cards), wires=tuple(wires))

    def _measure_frame(self, frame: str) -> tuple[float, float]:
        """Lay out a frame after all frames in it; return the size of its inside."""
        boxes = self.inside[frame]
        number = {box.id: index for index, box in enumerate(boxes)}
        for box in boxes:
            self.sizes[box.id] = self._measure_box(box)
        links = [
            Link(
                source=number[line.source],
                target=number[line.target],
                label=_measure_label(self._format_label(line)),
                group=line.kind,
            )
            for line in self.lines.get(frame, ())
        ]
        level = self.levels[frame] = arrange([self.sizes[box.id] for box in boxes], links)
        return level.size

    def _measure_box(self, box: Box) -> tuple[float, float]:
        if box.kind in (BEGIN_KIND, END_KIND):
            return POINT, POINT
        badge = self.badges.get(box.name)
        texts = [(_format_box_label(box), LABEL_SIZE + 0.6), (_format_note(box), NOTE_SIZE), (badge or "", BADGE_SIZE)]
        width = max(measure_width(text, size) for text, size in texts) + ICON + 2 * PAD
        height = CARD_HEIGHT + LINE * (bool(box.note) + (badge is not None))
        if box.kind == FRAME and not box.folded:
            inner_width, inner_height = self._measure_frame(box.id)
            header = HEADER + LINE * (bool(box.note) + (badge is not None))
            return max(width, inner_width + 2 * PAD), inner_height + header + PAD
        return max(width, 72.0), height

    def _place(self, frame: str, left: float, top: float, cards: list[Card], wires: list[Wire]) -> None:
        level = self.levels[frame]
        for box, (x, y) in zip(self.inside[frame], level.nodes, strict=True):
            width, height = self.sizes[box.id]
            card = Card(
                box=box,
                x=_round(left + x - width / 2),
                y=_round(top + y - height / 2),
                width=width,
                height=height,
                label=_format_box_label(box),
                note=_format_note(box),
                badge=self.badges.get(box.name),
            )
            cards.append(card)
            if box.id in self.levels:
                inner = self.levels[box.id].size
                self._place(box.id, card.x + (width - inner[0]) / 2, card.y + height - PAD - inner[1], cards, wires)
        for line, route in zip(self.lines.get(frame, ()), level.routes, strict=True):
            wires.append(_build_wire(line, self._format_label(line), route, left, top))

    def _format_label(self, line: Line) -> str:
        return " ".join(part for part in (format_route(line), self.counts.get(line.id, "")) if part)


def _build_wire(line: Line, label: str, route: Route, left: float, top: float) -> Wire:
    moves = tuple(
        tuple(_round(part + (left if index % 2 == 0 else top)) for index, part in enumerate(move))
        for move in route.moves
    )
    return Wire(
        line=line,
        start=(_round(route.start[0] + left), _round(route.start[1] + top)),
        moves=moves,
        label=label,
        at=(_round(route.label[0] + left), _round(route.label[1] + top)),
        back=route.back,
    )


def _measure_label(text: str) -> tuple[float, float]:
    return (measure_width(text, NOTE_SIZE) + 10, LINE) if text else (0.0, 0.0)


def _format_box_label(box: Box) -> str:
    return clip(clean(box.label), LABEL_LENGTH_MAX)


def _format_note(box: Box) -> str:
    return clip(clean(box.note), NOTE_LENGTH_MAX)


def format_route(line: Line) -> str:
    """Return a line's label as it is shown. The label of an error edge is hidden, because its look is enough."""
    return "" if line.kind == "error" else clip(clean(line.label), ROUTE_LENGTH_MAX)


def _round(number: float) -> float:
    return round(number, 1)
