"""The geometry of drawings: nodes and labels do not overlap, and lines do not run through them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, given, settings
from pictures import pictures
from playwright.sync_api import Browser

from beluga_graph import END, START, Graph
from beluga_graph.demo.pipeline import pipeline
from beluga_graph.draw.layout.layout import Card, Layout, Wire, lay_out
from beluga_graph.draw.picture import Picture
from beluga_graph.draw.text import measure_width
from beluga_graph.flows.flow import Flow
from beluga_graph.kernel.shape import FRAME

Rect = tuple[float, float, float, float]  # left, top, right, bottom
SLIP = 0.2  # tolerance for rounding


def rect(card: Card) -> Rect:
    return card.x, card.y, card.x + card.width, card.y + card.height


def plate(wire: Wire) -> Rect:
    """Return the area of a wire's label."""
    width = measure_width(wire.label, 11)
    return wire.at[0] - width / 2, wire.at[1] - 7, wire.at[0] + width / 2, wire.at[1] + 7


def apart(one: Rect, other: Rect) -> bool:
    return (
        one[2] <= other[0] + SLIP or other[2] <= one[0] + SLIP or one[3] <= other[1] + SLIP or other[3] <= one[1] + SLIP
    )


def within(inner: Rect, outer: Rect) -> bool:
    left, top, right, bottom = outer
    return inner[0] >= left - SLIP and inner[1] >= top - SLIP and inner[2] <= right + SLIP and inner[3] <= bottom + SLIP


def points(wire: Wire) -> Iterator[tuple[float, float]]:
    """Yield points along a wire, close to each other."""
    x, y = wire.start
    for move in wire.moves:
        corners = [(x, y), *((move[i], move[i + 1]) for i in range(0, len(move), 2))]
        steps = 24 if len(move) == 6 else max(2, int(abs(move[0] - x) + abs(move[1] - y)) // 4)
        for number in range(steps + 1):
            yield bezier(corners, number / steps)
        x, y = move[-2:]


def bezier(corners: list[tuple[float, float]], at: float) -> tuple[float, float]:
    while len(corners) > 1:
        corners = [(a[0] + (b[0] - a[0]) * at, a[1] + (b[1] - a[1]) * at) for a, b in pairwise(corners)]
    return corners[0]


def strictly_in(point: tuple[float, float], box: Rect) -> bool:
    return box[0] + SLIP < point[0] < box[2] - SLIP and box[1] + SLIP < point[1] < box[3] - SLIP


def check(placed: Layout, picture: Picture) -> None:
    cards = {card.box.id: card for card in placed.cards}
    whole = (0.0, 0.0, placed.width, placed.height)
    for card in placed.cards:
        outer = whole
        if card.box.frame:
            frame = cards[card.box.frame]
            words = 24 + 16 * (bool(frame.note) + bool(frame.badge))  # the lines of text on top of a frame
            outer = (frame.x, frame.y + words, frame.x + frame.width, frame.y + frame.height)
        assert within(rect(card), outer), (card, outer)
        for other in placed.cards:
            if other.box.frame == card.box.frame and other is not card:
                assert apart(rect(card), rect(other)), (card, other)
    labels = [(wire, plate(wire)) for wire in placed.wires if wire.label]
    for wire, covered in labels:
        frame = cards[wire.line.source].box.frame
        assert within(covered, rect(cards[frame]) if frame else whole), wire
        for card in placed.cards:
            if card.box.frame == frame:
                assert apart(covered, rect(card)), (wire, card)
        for other, place in labels:
            assert other is wire or apart(covered, place), (wire, other)
    for wire in placed.wires:
        frame = cards[wire.line.source].box.frame
        around = [rect(card) for card in placed.cards if card.box.frame == frame]
        for point in points(wire):
            assert not any(strictly_in(point, box) for box in around), (wire, point)
            assert not any(other is not wire and strictly_in(point, place) for other, place in labels), (wire, point)
    assert {wire.line.id for wire in placed.wires} == {line.id for line in picture.lines}


@settings(max_examples=120, deadline=None, suppress_health_check=list(HealthCheck))
@given(pictures())
def test_nothing_overlaps_and_no_line_runs_through_a_node_or_a_label(picture: Picture) -> None:
    badges = {box.name: "12 attempts · 3 min 2 s" for box in picture.boxes[::2] if box.kind not in ("start", "end")}
    counts = {line.id: "x7" for line in picture.lines[::3]}
    check(lay_out(picture, badges, counts), picture)
    check(lay_out(picture), picture)


def test_the_line_of_a_loop_ends_on_top_of_its_node() -> None:
    g = Graph("g")
    g.node(name="a")(lambda value: value)
    g.node(name="b")(lambda value: value)
    g.edge(START, "a")
    g.edge("a", "b")
    g.branch("b", lambda value: "on", {"again": "a", "self": "b", "on": END})
    placed = lay_out(drawing(g))
    cards = {card.box.name: card for card in placed.cards}
    for wire in placed.wires:
        card = cards[wire.line.ends[1]]
        assert wire.back == (wire.label in ("again", "self"))
        assert wire.moves[-1][-1] == card.y
        assert card.x <= wire.moves[-1][-2] <= card.x + card.width


def drawing(flow: Flow, depth: int | None = None) -> Picture:
    from beluga_graph.draw.picture import build_picture  # noqa: PLC0415 - beside the fixture of this name

    return build_picture(flow.plan().shape, depth)


def large(count: int) -> Graph:
    """Return a flow of `count` nodes with branches, distant edges, loops and error edges."""
    g = Graph("large")
    nodes = [g.node(name=f"node {number}")(lambda value: value) for number in range(count)]
    g.edge(START, nodes[0])
    for number, node in enumerate(nodes[:-1]):
        if number % 7 == 3:
            far, back = nodes[min(count - 1, number + 4)], nodes[max(0, number - 5)]
            g.branch(node, lambda value: "on", {"on": nodes[number + 1], "leap": far, "back": back, "end": END})
        else:
            g.edge(node, nodes[number + 1])
            if number % 5 == 0:
                g.on_error(node, END)
    g.edge(nodes[-1], END)
    return g


def test_five_hundred_nodes_are_drawn_in_every_format() -> None:
    flow = large(500)
    for text in (flow.svg(), flow.mermaid(), flow.dot(), flow.ascii()):
        assert text.count("node 499") >= 1


PRINT = "from beluga_graph.demo.pipeline import pipeline as p; print(p.svg() + p.mermaid() + p.dot() + p.ascii())"


def test_another_process_draws_the_same_bytes() -> None:
    root = Path(__file__).parents[2]
    outputs = {
        subprocess.run(
            [sys.executable, "-c", PRINT],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(root), "PYTHONUTF8": "1"},
            capture_output=True,
            check=True,
        ).stdout
        for seed in ("0", "7", "12345")
    }
    assert len(outputs) == 1


OUTSIDE = """() => [...document.querySelectorAll('.beluga-node')].filter(node => {
  const body = node.querySelector('.beluga-body').getBBox();
  return [...node.querySelectorAll(':scope > text')].some(text => {
    const box = text.getBBox();
    return box.x < body.x || box.x + box.width > body.x + body.width
      || box.y < body.y || box.y + box.height > body.y + body.height;
  });
}).length"""


def test_in_a_browser_every_text_stays_within_its_card(in_browser: Any) -> None:
    def look(browser: Browser) -> tuple[int, int]:
        page = browser.new_page(viewport={"width": 1600, "height": 1200})
        page.set_content(pipeline.svg())
        found = page.locator(".beluga-node").count(), page.evaluate(OUTSIDE)
        page.close()
        return found

    assert in_browser(look) == (len(pipeline.plan().shape.nodes), 0)


def test_a_folded_frame_is_one_card() -> None:
    inner = Graph("inner")
    inner.node(name="x")(lambda value: value)
    inner.edge(START, "x")
    inner.edge("x", END)
    outer = Graph("outer")
    outer.edge(START, outer.add(inner))
    outer.edge("inner", END)
    kinds = [(card.box.kind, card.box.folded) for card in lay_out(drawing(outer, 0)).cards]
    assert kinds == [("start", False), (FRAME, True), ("end", False)]
    assert len(lay_out(drawing(outer)).cards) == 6
