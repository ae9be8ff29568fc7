"""The ASCII format can be parsed: every edge, with its kind and label, can be read from the text alone."""

from __future__ import annotations

import unicodedata
from collections import Counter
from dataclasses import replace

from hypothesis import HealthCheck, given, settings
from pictures import pictures

from beluga_graph.draw.formats.ascii import render_ascii
from beluga_graph.draw.picture import Picture
from beluga_graph.draw.text import clean
from beluga_graph.draw.theme import LINE_SIGNS
from beluga_graph.flows.graph import Graph
from beluga_graph.plan.declared import END, START

Edge = tuple[str, str, str]


def grid_of(line: str) -> list[str]:
    """Return the character in each terminal column; the second half of a wide character is empty."""
    cells: list[str] = []
    for sign in line:
        if unicodedata.category(sign) in ("Mn", "Me", "Cf"):
            continue
        cells += [sign, ""] if unicodedata.east_asian_width(sign) in ("W", "F") else [sign]
    return cells


def traced(text: str) -> Counter[Edge]:
    """Parse a drawing: return its edges, as ids of nodes and the text at the edge."""
    rows = [grid_of(line) for line in text.rstrip("\n").split("\n\n", 1)[0].split("\n")]
    body = rows[0].index("●")
    width = max(map(len, rows)) + 1
    rows = [row + [" "] * (width - len(row)) for row in rows]
    owner: list[str] = []  # the node that each row belongs to
    said: list[str | None] = []  # the text at the beginning of an edge; None at a node
    current: dict[int, str] = {}
    for row in rows:
        at, deep = body, 0
        while row[at] == "│":
            at, deep = at + 2, deep + 1
        words = "".join(row[at:])
        if words[0] in "├↓":
            said.append(words[0] + words[1:].split("─")[0].rstrip("│ ┐┤┘┬┼┴").strip())
        elif words[0] == "└":
            said.append("")
        else:
            current[deep] = words.removeprefix("┌ ").split()[0] if words[0] not in "●◉" else f"{words[0]}{at}"
            said.append(None)
        owner.append(current[deep])
    found: Counter[Edge] = Counter()
    for number, label in enumerate(said):
        if label and label[0] == "↓":
            found[owner[number], following(owner, said, rows, number, body), label[1:]] += 1
    for touched in rails(rows, body):
        ends = [number for number in touched if said[number] is None]
        for begin in (number for number in touched if said[number] is not None):
            for end in ends:
                found[owner[begin], owner[end], (said[begin] or "")[1:]] += 1
    return found


def following(owner: list[str], said: list[str | None], rows: list[list[str]], number: int, body: int) -> str:
    return next(owner[below] for below in range(number + 1, len(rows)) if said[below] is None)


def rails(rows: list[list[str]], body: int) -> list[set[int]]:
    """Follow each rail up and down; return the rows that each one touches."""
    touches: set[tuple[int, int]] = set()
    for number, row in enumerate(rows):
        touches |= {(number, column) for column in along(row, range(body, len(row)))}
        touches |= {(number, column) for column in along(row, range(body - 1, -1, -1))}
    found: dict[tuple[int, int], set[int]] = {}
    for number, column in sorted(touches):
        if rows[number][column] in "┐┬┌" or (column < body and rows[number][column] == "┬"):
            rail, below = {number}, number + 1
            while True:
                sign = rows[below][column]
                assert sign in "│┤┼┘┴├└", sign
                if sign != "│":
                    rail.add(below)
                if sign in "┘┴└":
                    break
                below += 1
            found[number, column] = rail
    assert sum(map(len, found.values())) == len(touches)
    return list(found.values())


def along(row: list[str], columns: range) -> list[int]:
    """Return the columns of the rails that the line of a row touches on one side."""
    touched: list[int] = []
    begun = False
    for column in columns:
        sign = row[column]
        if not begun:
            begun = sign in "─◂▸" if sign else False
            if columns.step < 0 and column < columns.start - 3:
                return []
        elif sign in "┬┼┴":
            touched.append(column)
        elif sign in "┐┤┘┌├└":
            return [*touched, column]
        else:
            assert sign in "─│", sign
    return touched


def expected(picture: Picture) -> Counter[Edge]:
    names = {}
    for box in picture.boxes:
        depth = 0
        frame = box.frame
        while frame:
            frame, depth = next(other.frame for other in picture.boxes if other.id == frame), depth + 1
        names[box.id] = {"start": f"●{depth}", "end": f"◉{depth}"}.get(box.kind, box.id)
    found: Counter[Edge] = Counter()
    for line in picture.lines:
        label = "" if line.kind == "error" else clean(line.label)
        found[names[line.source], names[line.target], f"{LINE_SIGNS[line.kind]} {label}".strip()] += 1
    return found


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(pictures())
def test_every_edge_can_be_read_from_the_text_alone(picture: Picture) -> None:
    boxes = tuple(
        box if box.kind in ("start", "end") else replace(box, label=f"{box.id} {box.label[:12]}")
        for box in picture.boxes
    )
    lines = tuple(replace(line, label=str(len(line.label))) for line in picture.lines)
    known = replace(picture, boxes=boxes, lines=lines)
    text = render_ascii(known)
    body = grid_of(text.split("\n")[0]).index("●")
    read: Counter[Edge] = Counter()
    for (source, target, words), count in traced(text).items():
        ends = [f"{end[0]}{(int(end[1:]) - body) // 2}" if end[0] in "●◉" else end for end in (source, target)]
        read[ends[0], ends[1], words] += count
    assert read == expected(known)


def test_a_loop_goes_back_on_the_left_and_a_distant_edge_down_on_the_right() -> None:
    g = Graph("g")
    for name in ("draft", "review", "publish"):
        g.node(name=name)(lambda value: value)
    g.edge(START, "draft")
    g.edge("draft", "review")
    g.branch("review", lambda value: "good", {"good": "publish", "again": "draft"})
    g.on_error("draft", "publish")
    g.edge("publish", END)
    assert g.ascii() == (
        "    ● START\n"
        "    ↓\n"
        " ┌▸ draft    function\n"
        " │  ├ ! ───────────────┐\n"
        " │  ↓                  │\n"
        " │  review   function  │\n"
        " └─ ├ ? again          │\n"
        "    ↓ ? good           │\n"
        "    publish  function ◂┘\n"
        "    ↓\n"
        "    ◉ END\n"
        "\n"
        "! error   ? conditional\n"
    )
