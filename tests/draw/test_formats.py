"""Each format, read back by its own parser, contains exactly the picture's boxes and lines, for any labels."""

from __future__ import annotations

import json
import re
import subprocess
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pictures import HOSTILE, pictures
from playwright.sync_api import Browser, Page

from beluga_graph.draw.formats.dot import render_dot
from beluga_graph.draw.formats.mermaid import render_mermaid
from beluga_graph.draw.formats.svg import render_svg
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.picture import Picture
from beluga_graph.draw.text import clean, clip
from beluga_graph.draw.theme import KIND_WORDS
from beluga_graph.kernel.shape import FRAME
from beluga_graph.trace.visits import DONE, FAILED, RUNNING, WAITING, NodeStats

SVG = "{http://www.w3.org/2000/svg}"
TAGS = {"svg", "title", "style", "rect", "g", "path", "text", "circle"}
ATTRIBUTES = {"width", "height", "viewBox", "font-family", "font-size", "class", "transform", "data-id"}
ATTRIBUTES |= {"x", "y", "rx", "d", "cx", "cy", "r", "textLength", "lengthAdjust"}
quickly = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))


@st.composite
def overlays(draw: Any, picture: Picture) -> Overlay | None:
    """Return the overlay of a run, or none."""
    if draw(st.booleans()):
        return None
    stats = {}
    for box in picture.boxes:
        if box.kind in KIND_WORDS:
            status = draw(st.sampled_from(["", DONE, FAILED, RUNNING, WAITING]))
            stats[box.name] = NodeStats(
                status=status, visits=bool(status) * 2, attempts=3, busy_ms=1234, signal="x" * 9
            )
    counts = {line.id: draw(st.integers(1, 3)) for line in picture.lines if draw(st.booleans())}
    return Overlay(run_id=draw(st.sampled_from(HOSTILE)), status="running", seq=3, stats=stats, counts=counts)


drawn = pictures().flatmap(lambda picture: st.tuples(st.just(picture), overlays(picture)))


# SVG.


@quickly
@given(drawn)
def test_svg_is_xml_with_a_group_for_each_box_and_line_and_no_active_content(
    given_: tuple[Picture, Overlay | None],
) -> None:
    picture, overlay = given_
    text = render_svg(picture, overlay)
    root = ET.fromstring(text)
    assert {element.tag.removeprefix(SVG) for element in root.iter()} <= TAGS
    assert {name for element in root.iter() for name in element.attrib} <= ATTRIBUTES
    groups = Counter(element.attrib["data-id"] for element in root.iter() if "data-id" in element.attrib)
    assert groups == Counter([box.id for box in picture.boxes] + [line.id for line in picture.lines])
    titles = [element.text or "" for element in root.iter(f"{SVG}title")]
    shown_texts = Counter(element.text or "" for element in root.iter(f"{SVG}text"))
    for box in picture.boxes:
        if box.kind in KIND_WORDS:
            assert any(clean(box.name) in title for title in titles)
            assert shown_texts[clip(clean(box.label), 34)]
    style = next(root.iter(f"{SVG}style")).text or ""
    assert "url" not in style
    assert "@import" not in style
    assert render_svg(picture, overlay) == text


# Graphviz.


def read_dot(graphviz: str, text: str) -> dict[str, Any]:
    done = subprocess.run([graphviz, "-Tdot_json"], input=text.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def shown(*texts: str) -> list[str]:
    """Return the lines of a label as they are shown."""
    return [clip(clean(text), 80) for text in texts if text]


def of_dot(label: str) -> list[str]:
    """Return the lines of a label as Graphviz shows it."""
    lines = re.split(r"(?<!\\)((?:\\\\)*)\\n", label)
    joined = ["".join(lines[i : i + 2]) for i in range(0, len(lines), 2)]
    return [unescape(line.replace("\\\\", "\\").replace('\\"', '"')) for line in joined]


@quickly
@given(drawn)
def test_graphviz_parses_exactly_the_boxes_and_lines(graphviz: str, given_: tuple[Picture, Overlay | None]) -> None:
    picture, overlay = given_
    found = read_dot(graphviz, render_dot(picture, overlay))
    frames = {box.id for box in picture.boxes if box.kind == FRAME and not box.folded}
    objects = {item["name"]: item for item in found["objects"]}
    assert objects.keys() == {f"cluster_{box.id}" if box.id in frames else box.id for box in picture.boxes}
    badges = {} if overlay is None else {box.name: overlay.format_signed_badge(box.name) for box in picture.boxes}
    for box in picture.boxes:
        if box.kind in KIND_WORDS:
            item = objects[f"cluster_{box.id}" if box.id in frames else box.id]
            assert of_dot(item["label"]) == (shown(box.label, box.note, badges.get(box.name, "")) or [""])
    names = [item["name"] for item in found["objects"]]
    edges = {edge["id"]: (names[edge["tail"]], names[edge["head"]]) for edge in found.get("edges", ())}
    assert edges == {line.id: ends(line.source, line.target, frames) for line in picture.lines}
    counts = {} if overlay is None else overlay.format_counts()
    said = {edge["id"]: of_dot(edge.get("label", "")) for edge in found["edges"]}
    for line in picture.lines:
        assert said[line.id] == [clip(clean(f"{line.label} {counts.get(line.id, '')}".strip()), 80)] or not clean(
            line.label
        )


def ends(source: str, target: str, frames: set[str]) -> tuple[str, str]:
    """Return the ends of an edge in a text format: an open frame is replaced by its end and start points."""
    return (f"{source}end" if source in frames else source, f"{target}start" if target in frames else target)


# Mermaid, in a browser.

READ = """async text => {
  const found = (await mermaid.mermaidAPI.getDiagramFromText(text)).db;
  const { svg } = await mermaid.render('drawing', text);
  const body = new DOMParser().parseFromString(svg, 'text/html').body;
  const texts = {};
  for (const group of body.querySelectorAll('g.node')) {
    const label = group.querySelector('.nodeLabel');
    for (const rest of label.querySelectorAll('br')) rest.replaceWith('\\n');
    texts[group.id.match(/flowchart-(.*)-\\d+$/)[1]] = label.textContent;
  }
  return {
    vertices: [...found.getVertices().keys()],
    edges: found.getEdges().map(edge => [edge.start, edge.end]),
    frames: found.getSubGraphs().map(frame => frame.id),
    alive: body.querySelectorAll('script, iframe, object, img, a, [onload], [onerror], [onclick]').length,
    texts,
  };
}"""


@pytest.fixture(scope="module")
def read_mermaid(in_browser: Any, mermaid_source: Path) -> Callable[[str], dict[str, Any]]:
    """Return a function that parses Mermaid text with Mermaid."""

    def opened(browser: Browser) -> Page:
        page = browser.new_page()
        page.add_script_tag(path=mermaid_source)
        page.evaluate("mermaid.initialize({ startOnLoad: false, maxTextSize: 1e6, maxEdges: 5000 })")
        return page

    page = in_browser(opened)
    return lambda text: in_browser(lambda _: page.evaluate(READ, text))


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(drawn)
def test_mermaid_parses_exactly_the_boxes_and_lines(
    read_mermaid: Callable[[str], dict[str, Any]], given_: tuple[Picture, Overlay | None]
) -> None:
    picture, overlay = given_
    found = read_mermaid(render_mermaid(picture, overlay))
    frames = {box.id for box in picture.boxes if box.kind == FRAME and not box.folded}
    assert sorted(found["vertices"]) == sorted(box.id for box in picture.boxes if box.id not in frames)
    assert sorted(found["frames"]) == sorted(frames)
    assert found["edges"] == [list(ends(line.source, line.target, frames)) for line in picture.lines]
    assert found["alive"] == 0
    badges = {} if overlay is None else {box.name: overlay.format_signed_badge(box.name) for box in picture.boxes}
    for box in picture.boxes:
        if box.kind in KIND_WORDS and box.id not in frames:
            expected = [text.strip() for text in shown(box.label, box.note, badges.get(box.name, ""))]
            assert [line.strip() for line in found["texts"][box.id].replace("\u2060", "").split("\n")] == (
                expected or [""]
            )
