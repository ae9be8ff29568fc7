"""The ASCII format: a picture for a terminal, with a row per node from top to bottom, and rails for distant edges.

```
  ● START
  ↓
  read    function
  ├ ? code ──────────┐     an edge to a distant node leaves by a row of its own, and follows a rail
  ↓ ? prose          │     an edge to the next node goes straight down
  prose   function   │
  ├ ─────────────────│─┐   crossing rails do not connect
  code    function ◂─┘ │
```

Rails on the right go down, rails on the left go back up. A rail has one source or one target, so that source and
target of every edge can be read from the text alone.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from beluga_graph.draw.layout.ranks import find_back_lines
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import BEGIN_KIND, END_KIND, Box, Line, Picture
from beluga_graph.draw.text import clean, clip, count_columns, wrap_fault
from beluga_graph.draw.theme import KIND_WORDS, LINE_SIGNS, LINE_WORDS, STATUS_SIGNS, STATUS_WORDS, UNREACHED
from beluga_graph.kernel.shape import FRAME

__all__ = ["render_ascii"]

_LABEL_LENGTH_MAX = 40
_RESERVED = dict.fromkeys([*range(0x2500, 0x2580), *map(ord, "↓◂▸●◉")], "·")  # labels may not imitate the drawing


@dataclass(slots=True, eq=False)
class _Rail:
    """A vertical line beside the rows, from the first to the last row that it touches."""

    is_back: bool
    rows: list[int] = field(default_factory=list)
    column: int = 0


@dataclass(slots=True)
class _Row:
    """One line of text with the rails that touch it. Rails end at the row of a node, and begin at any other row."""

    text: str
    is_node: bool = False
    rails: list[_Rail] = field(default_factory=list)


def render_ascii(picture: Picture, overlay: Overlay | None = None, *, fault: str = "") -> str:
    """Render a picture as lines of text, with the overlay of a run if one is given, and an error above it."""
    writer = _Writer(picture, overlay)
    writer.write_level("", "")
    head = [] if overlay is None else [_clean(f"{picture.name} · {overlay.run_id} · {overlay.status}", 200), ""]
    if fault:
        head += [*wrap_fault(fault), ""]
    legend = list(_iter_legend(picture, overlay))
    return "\n".join([*head, *_add_rails(writer.rows), *([""] if legend else []), *legend]) + "\n"


class _Writer:
    """Writes the rows of a picture, frame by frame, and records the rows that each rail touches."""

    def __init__(self, picture: Picture, overlay: Overlay | None) -> None:
        self.picture = picture
        self.overlay = overlay
        self.badges = {} if overlay is None else overlay.format_badges()
        self.back = find_back_lines(picture)
        self.rows: list[_Row] = []
        self.label_columns = max(count_columns(_clean(box.label)) for box in picture.boxes)

    def write_level(self, frame: str, indent: str) -> None:
        """Write the nodes of a frame and the lines between them."""
        boxes = self.picture.list_boxes(frame)
        here = {box.id for box in boxes}
        lines = [line for line in self.picture.lines if line.source in here]
        back = self.back
        order = _order_boxes(boxes, [line for line in lines if line.id not in back])
        after = {box.id: following.id for box, following in pairwise(order)}
        down = {line.id for line in lines if line.id not in back and after.get(line.source) == line.target}
        rails = self._assign_rails([line for line in lines if line.id not in down], back)
        for box in order:
            arriving = [rails[line.id] for line in lines if line.target == box.id and line.id in rails]
            self._write_box(box, indent, list(dict.fromkeys(arriving)))
            leaving = [line for line in lines if line.source == box.id]
            self._write_departures([line for line in leaving if line.id in rails], rails, indent)
            self.rows += [_Row(f"{indent}↓ {self._format_line(line)}".rstrip()) for line in leaving if line.id in down]

    def _assign_rails(self, lines: Sequence[Line], back: set[str]) -> dict[str, _Rail]:
        """Assign each line a rail. Lines with equal text share one from their source, other lines to their target."""
        alike = Counter((line.source, line.kind, self._format_line(line), line.id in back) for line in lines)
        made: dict[tuple[str, ...], _Rail] = {}
        twins: Counter[tuple[str, ...]] = Counter()  # lines with the same ends, kind and text
        found = {}
        for line in lines:
            is_back = line.id in back
            text = self._format_line(line)
            twins[twin := (line.source, line.target, line.kind, text)] += 1
            fans_out = alike[line.source, line.kind, text, is_back] > 1
            key = ("from", line.source, text) if fans_out else ("to", line.target)
            found[line.id] = made.setdefault((*key, line.kind, str(is_back), str(twins[twin])), _Rail(is_back))
        return found

    def _write_box(self, box: Box, indent: str, arriving: list[_Rail]) -> None:
        self._add(_Row(indent + self._format_box(box), is_node=True, rails=arriving))
        if box.kind == FRAME and not box.folded:
            self.write_level(box.id, indent + "│ ")
            self._add(_Row(f"{indent}└"))

    def _write_departures(self, lines: Sequence[Line], rails: dict[str, _Rail], indent: str) -> None:
        """Write a row for each rail that begins at a node, and for each label on it."""
        for rail, text in dict.fromkeys((rails[line.id], self._format_line(line)) for line in lines):
            self._add(_Row(f"{indent}├ {text}".rstrip(), rails=[rail]))

    def _add(self, row: _Row) -> None:
        for rail in row.rails:
            rail.rows.append(len(self.rows))
        self.rows.append(row)

    def _format_box(self, box: Box) -> str:
        """Return the text of a node's row: status, label, kind, note, badge."""
        if box.kind in (BEGIN_KIND, END_KIND):
            return f"{'●' if box.kind == BEGIN_KIND else '◉'} {box.label}"
        status = self.overlay.stats[box.name].status if self.overlay is not None else None
        sign = "" if status is None else f"{STATUS_SIGNS[status]} "
        label = _clean(box.label)
        opened = "┌ " if box.kind == FRAME and not box.folded else ""
        words = ", ".join(part for part in (KIND_WORDS[box.kind], _clean(box.note, 60)) if part)
        badge = self.badges.get(box.name, "")
        room = " " * max(0, self.label_columns - count_columns(label) - count_columns(opened))
        return f"{opened}{sign}{label}{room}  {words}" + (f"  {badge}" if badge else "")

    def _format_line(self, line: Line) -> str:
        """Return the text of a line: the sign of its kind, its label, how often a run took it."""
        label = "" if line.kind == "error" else _clean(line.label)
        count = self.overlay.counts.get(line.id, 0) if self.overlay is not None else 0
        return " ".join(part for part in (LINE_SIGNS[line.kind], label, f"\u00d7{count}" if count else "") if part)


def _order_boxes(boxes: Sequence[Box], lines: Sequence[Line]) -> list[Box]:
    """Order boxes so that every line goes down and successors follow closely; the start is first, the end last."""
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
    ranks = {BEGIN_KIND: 0, END_KIND: 2}  # also if no line connects them
    return sorted(order, key=lambda box: ranks.get(box.kind, 1))


def _add_rails(rows: Sequence[_Row]) -> Iterator[str]:
    """Yield the rows with the rails beside them."""
    rails = {rail: None for row in rows for rail in row.rails}
    left = [rail for rail in rails if rail.is_back]
    right = [rail for rail in rails if not rail.is_back]
    lefts, rights = _assign_columns(left), _assign_columns(right)
    wide = max(count_columns(row.text) for row in rows)
    at_left, at_right = _group_by_row(left, len(rows)), _group_by_row(right, len(rows))
    for number, row in enumerate(rows):
        before = _draw_rails(at_left[number], number, lefts, "┌├└")[::-1]
        touched = any(rail.is_back for rail in row.rails)
        lead = ("▸ " if row.is_node else "─ ") if touched else "  "
        text = before + lead + row.text
        after = _draw_rails(at_right[number], number, rights, "┐┤┘")
        if any(not rail.is_back for rail in row.rails):
            room = wide - count_columns(row.text)
            text += (" ◂" if row.is_node else " ─") + "─" * room + after
        elif after.strip():
            text += " " * (wide - count_columns(row.text) + 2) + after
        yield text.rstrip()


def _assign_columns(rails: Sequence[_Rail]) -> int:
    """Assign each rail the nearest column that is free over its whole length; return the number of columns."""
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


def _group_by_row(rails: Sequence[_Rail], count: int) -> list[list[_Rail]]:
    found: list[list[_Rail]] = [[] for _ in range(count)]
    for rail in rails:
        for number in range(min(rail.rows), max(rail.rows) + 1):
            found[number].append(rail)
    return found


def _draw_rails(rails: Sequence[_Rail], number: int, columns: int, corners: str) -> str:
    """Return the rails at a row, from the text outwards: for each column a sign, then the gap to the next column."""
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


def _iter_legend(picture: Picture, overlay: Overlay | None) -> Iterator[str]:
    _, lines = picture.list_kinds()
    if keys := [f"{LINE_SIGNS[kind]} {LINE_WORDS[kind]}" for kind in lines if LINE_SIGNS[kind]]:
        yield "   ".join(keys)
    if overlay is not None:
        shown = dict.fromkeys(stats.status for stats in overlay.stats.values())
        yield "   ".join(f"{STATUS_SIGNS[status]} {STATUS_WORDS.get(status, UNREACHED)}" for status in shown)


def _clean(text: str, most: int = _LABEL_LENGTH_MAX) -> str:
    return clip(clean(text), most).translate(_RESERVED)
