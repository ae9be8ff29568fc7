"""A picture in the signs of a terminal: a row for each node, top down, and rails beside for what leads elsewhere.

```
  ● START
  ↓
  read    function
  ├ ? code ──────────┐     an edge that leads elsewhere leaves by a row of its own, and takes a rail
  ↓ ? prose          │     an edge to the next node leads straight down
  prose   function   │
  ├ ─────────────────│─┐   a rail that is crossed is not joined
  code    function ◂─┘ │
```

Rails to the right lead down, rails to the left lead back up. A rail has one source or one target, so that what
leads where can be read from the text alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from beluga_graph.draw.layout.ranks import back_lines
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clipped, columns_of, fault_lines
from beluga_graph.draw.theme import KIND_WORDS, LINE_SIGNS, LINE_WORDS, STATUS_SIGNS, STATUS_WORDS, UNREACHED
from beluga_graph.kernel.shape import FRAME

__all__ = ["ascii_art"]

_LABEL_SIGNS = 40
_OURS = dict.fromkeys([*range(0x2500, 0x2580), *map(ord, "↓◂▸●◉")], "·")  # what nothing but the drawing may show


@dataclass(slots=True, eq=False)
class _Rail:
    """A line beside the rows, from the first to the last that it touches."""

    is_back: bool
    rows: list[int] = field(default_factory=list)
    column: int = 0


@dataclass(slots=True)
class _Row:
    """One line of text, and the rails that it touches; at a node's row they end, at others they begin."""

    text: str
    is_node: bool = False
    rails: list[_Rail] = field(default_factory=list)


def ascii_art(picture: Picture, overlay: Overlay | None = None, *, fault: str = "") -> str:
    """Return a picture as lines of text, with a run laid over it if one is given; `fault` is said above it."""
    writer = _Writer(picture, overlay)
    writer.level("", "")
    head = [] if overlay is None else [_safe(f"{picture.name} · {overlay.run_id} · {overlay.status}", 200), ""]
    if fault:
        head += [*fault_lines(fault), ""]
    legend = list(_legend(picture, overlay))
    return "\n".join([*head, *_beside(writer.rows), *([""] if legend else []), *legend]) + "\n"


class _Writer:
    """Writes the rows of a picture, frame by frame, and notes which rows each rail touches."""

    def __init__(self, picture: Picture, overlay: Overlay | None) -> None:
        self.picture = picture
        self.overlay = overlay
        self.badges = {} if overlay is None else overlay.badges()
        self.back = back_lines(picture)
        self.rows: list[_Row] = []
        self.wide = max(columns_of(_safe(box.label)) for box in picture.boxes)

    def level(self, frame: str, indent: str) -> None:
        """Write what stands in a frame."""
        boxes = self.picture.inside(frame)
        here = {box.id for box in boxes}
        lines = [line for line in self.picture.lines if line.source in here]
        back = self.back
        order = _in_order(boxes, [line for line in lines if line.id not in back])
        after = {box.id: following.id for box, following in pairwise(order)}
        down = {line.id for line in lines if line.id not in back and after.get(line.source) == line.target}
        rails = self._rails([line for line in lines if line.id not in down], back)
        for box in order:
            arriving = [rails[line.id] for line in lines if line.target == box.id and line.id in rails]
            self._box(box, indent, list(dict.fromkeys(arriving)))
            leaving = [line for line in lines if line.source == box.id]
            self._leave([line for line in leaving if line.id in rails], rails, indent)
            self.rows += [_Row(f"{indent}↓ {self._said(line)}".rstrip()) for line in leaving if line.id in down]

    def _rails(self, lines: Sequence[Line], back: set[str]) -> dict[str, _Rail]:
        """Give each line a rail: its own, or one that lines alike share from their source or to their target."""
        alike = Counter((line.source, line.kind, self._said(line), line.id in back) for line in lines)
        made: dict[tuple[str, ...], _Rail] = {}
        twins: Counter[tuple[str, ...]] = Counter()  # lines that nothing but their number tells apart
        found = {}
        for line in lines:
            is_back = line.id in back
            twins[twin := (line.source, line.target, line.kind, self._said(line))] += 1
            fans_out = alike[line.source, line.kind, self._said(line), is_back] > 1
            key = ("from", line.source, self._said(line)) if fans_out else ("to", line.target)
            found[line.id] = made.setdefault((*key, line.kind, str(is_back), str(twins[twin])), _Rail(is_back))
        return found

    def _box(self, box: Box, indent: str, arriving: list[_Rail]) -> None:
        self._add(_Row(indent + self._told(box), is_node=True, rails=arriving))
        if box.kind == FRAME and not box.folded:
            self.level(box.id, indent + "│ ")
            self._add(_Row(f"{indent}└"))

    def _leave(self, lines: Sequence[Line], rails: dict[str, _Rail], indent: str) -> None:
        """Write a row for each rail that begins at a node, and for each label on it."""
        for rail, said in dict.fromkeys((rails[line.id], self._said(line)) for line in lines):
            self._add(_Row(f"{indent}├ {said}".rstrip(), rails=[rail]))

    def _add(self, row: _Row) -> None:
        for rail in row.rails:
            rail.rows.append(len(self.rows))
        self.rows.append(row)

    def _told(self, box: Box) -> str:
        """Return a node's row: state, label, kind and note, what a run did there."""
        if box.kind in (BEGIN_KIND, END_KIND):
            return f"{'●' if box.kind == BEGIN_KIND else '◉'} {box.label}"
        status = self.overlay.marks[box.name].status if self.overlay is not None else None
        sign = "" if status is None else f"{STATUS_SIGNS[status]} "
        label = _safe(box.label)
        opened = "┌ " if box.kind == FRAME and not box.folded else ""
        told = ", ".join(part for part in (KIND_WORDS[box.kind], _safe(box.note, 60)) if part)
        badge = self.badges.get(box.name, "")
        room = " " * max(0, self.wide - columns_of(label) - columns_of(opened))
        return f"{opened}{sign}{label}{room}  {told}" + (f"  {badge}" if badge else "")

    def _said(self, line: Line) -> str:
        """Return what a line is: the sign of its kind, its label, how often a run took it."""
        label = "" if line.kind == "error" else _safe(line.label)
        count = self.overlay.taken.get(line.id, 0) if self.overlay is not None else 0
        return " ".join(part for part in (LINE_SIGNS[line.kind], label, f"\u00d7{count}" if count else "") if part)


def _in_order(boxes: Sequence[Box], lines: Sequence[Line]) -> list[Box]:
    """Return boxes so that every line leads down, what follows a node close below it; the start first, the end last."""
    out: dict[str, list[str]] = {box.id: [] for box in boxes}
    for line in lines:
        out[line.source].append(line.target)
    by_id = {box.id: box for box in boxes}
    seen: set[str] = set()
    left: list[str] = []
    for root in out:
        todo = [(root, False)]
        while todo:
            box, is_done = todo.pop()
            if is_done:
                left.append(box)
            elif box not in seen:
                seen.add(box)
                todo.append((box, True))
                todo += [(target, False) for target in out[box] if target not in seen]
    order = [by_id[box] for box in reversed(left)]
    ranks = {BEGIN_KIND: 0, END_KIND: 2}  # also of what no line leads to, or from
    return sorted(order, key=lambda box: ranks.get(box.kind, 1))


def _beside(rows: Sequence[_Row]) -> Iterator[str]:
    """Yield the rows with the rails beside them."""
    rails = {rail: None for row in rows for rail in row.rails}
    left = [rail for rail in rails if rail.is_back]
    right = [rail for rail in rails if not rail.is_back]
    lefts, rights = _columns(left), _columns(right)
    wide = max(columns_of(row.text) for row in rows)
    at_left, at_right = _by_row(left, len(rows)), _by_row(right, len(rows))
    for number, row in enumerate(rows):
        before = _rail_signs(at_left[number], number, lefts, "┌├└")[::-1]
        touched = any(rail.is_back for rail in row.rails)
        lead = ("▸ " if row.is_node else "─ ") if touched else "  "
        text = before + lead + row.text
        after = _rail_signs(at_right[number], number, rights, "┐┤┘")
        if any(not rail.is_back for rail in row.rails):
            room = wide - columns_of(row.text)
            text += (" ◂" if row.is_node else " ─") + "─" * room + after
        elif after.strip():
            text += " " * (wide - columns_of(row.text) + 2) + after
        yield text.rstrip()


def _columns(rails: Sequence[_Rail]) -> int:
    """Put each rail in the nearest column that is free along its way; return how many columns there are."""
    taken: list[list[tuple[int, int]]] = []
    for rail in sorted(rails, key=lambda rail: (rail.rows[-1] - rail.rows[0], rail.rows[0])):
        first, last = min(rail.rows), max(rail.rows)
        for column, ways in enumerate(taken):
            if all(last < begin or end < first for begin, end in ways):
                ways.append((first, last))
                rail.column = column
                break
        else:
            rail.column = len(taken)
            taken.append([(first, last)])
    return len(taken)


def _by_row(rails: Sequence[_Rail], count: int) -> list[list[_Rail]]:
    found: list[list[_Rail]] = [[] for _ in range(count)]
    for rail in rails:
        for number in range(min(rail.rows), max(rail.rows) + 1):
            found[number].append(rail)
    return found


def _rail_signs(rails: Sequence[_Rail], number: int, columns: int, corners: str) -> str:
    """Return the rails at a row, from the text outwards: each is a sign, and what leads to the next."""
    by_column = {rail.column: rail for rail in rails}
    far = max((rail.column for rail in rails if number in rail.rows), default=-1)
    signs = ""
    for column in range(columns):
        rail = by_column.get(column)
        if rail is None:
            sign = "─" if column < far else " "
        elif number not in rail.rows:
            sign = "│"
        else:
            end = 0 if number == min(rail.rows) else 2 if number == max(rail.rows) else 1
            sign = corners[end] if column == far else "┬┼┴"[end]
        signs += sign + ("─" if column < far else " ")
    return signs


def _legend(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    _, lines = picture.kinds()
    if keys := [f"{LINE_SIGNS[kind]} {LINE_WORDS[kind]}" for kind in lines if LINE_SIGNS[kind]]:
        yield "   ".join(keys)
    if overlay is not None:
        shown = dict.fromkeys(mark.status for mark in overlay.marks.values())
        yield "   ".join(f"{STATUS_SIGNS[status]} {STATUS_WORDS.get(status, UNREACHED)}" for status in shown)


def _safe(text: str, most: int = _LABEL_SIGNS) -> str:
    return clipped(clean(text), most).translate(_OURS)
