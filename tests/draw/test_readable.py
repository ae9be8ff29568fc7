"""Readability of drawings and pages: contrast, both themes, forced colours, keyboard, paper, hidden characters."""

from __future__ import annotations

import re
import subprocess
import unicodedata
import xml.etree.ElementTree as ET
from collections.abc import Callable
from typing import Any

import pytest
from board import STATUSES, board
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Page, expect
from runs_to_show import failed_page, hostile_page, long_page, nested_flow, report_page

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.draw.formats.ascii import render_ascii
from beluga_graph.draw.formats.dot import render_dot
from beluga_graph.draw.formats.mermaid import render_mermaid
from beluga_graph.draw.formats.svg import render_svg
from beluga_graph.draw.layout.layout import lay_out
from beluga_graph.draw.overlay import Overlay
from beluga_graph.draw.page.values import Texts, format_value
from beluga_graph.draw.picture import Box, Line, Picture
from beluga_graph.draw.text import clean
from beluga_graph.draw.theme import DARK, FORCED, LIGHT, STATUS_SIGNS, STATUS_WORDS
from beluga_graph.trace.visits import NodeStats

Show = Callable[..., Page]
THEMES = ["light", "dark"]

# Contrast as defined by WCAG 2.2, from computed colours on top of everything that is painted below.
CONTRAST = """
function rgba(text) {
  const pen = document.createElement('canvas').getContext('2d', { willReadFrequently: true });
  pen.fillStyle = text;
  pen.fillRect(0, 0, 1, 1);
  const [r, g, b, a] = pen.getImageData(0, 0, 1, 1).data;
  return [r, g, b, a / 255];
}
const over = ([r, g, b, a], [R, G, B]) => [r * a + R * (1 - a), g * a + G * (1 - a), b * a + B * (1 - a), 1];
function light([r, g, b]) {
  const [x, y, z] = [r, g, b].map((v) => v / 255).map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4));
  return 0.2126 * x + 0.7152 * y + 0.0722 * z;
}
function ratio(one, other) {
  const [low, high] = [light(one), light(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
}
function opacity(e) {
  let all = 1;
  for (let at = e; at; at = at.parentElement) all *= Number(getComputedStyle(at).opacity);
  return all;
}
function painted(e, name) {
  const style = getComputedStyle(e);
  const value = style.getPropertyValue(name);
  if (value === 'none') return [0, 0, 0, 0];
  const [r, g, b, a] = rgba(value);
  const own = name === 'fill' ? Number(style.fillOpacity) : name === 'stroke' ? Number(style.strokeOpacity) : 1;
  return [r, g, b, a * own * opacity(e)];
}
function surface(x, y, without) {
  let found = [255, 255, 255, 1];
  const stack = document.elementsFromPoint(x, y)
    .filter((e) => !without.includes(e) && !e.matches('text, [class$=way], [class$=tip]')).reverse();
  for (const e of stack) {
    found = over(painted(e, e instanceof SVGGeometryElement ? 'fill' : 'background-color'), found);
  }
  return found;
}
"""
OF_DRAWING = f"""() => {{
  {CONTRAST}
  const found = [];
  const note = (kind, e, value) => found.push([kind, e.parentElement.getAttribute('class') ?? '', e.outerHTML, value]);
  for (const e of document.querySelectorAll('svg text')) {{
    const {{ left, top, width, height }} = e.getBoundingClientRect();
    if (!document.elementsFromPoint(left + width / 2, top + height / 2).includes(e)) continue; // out of view
    const below = surface(left + width / 2, top + height / 2, [e]);
    note('text', e, ratio(over(painted(e, 'fill'), below), below));
  }}
  for (const e of document.querySelectorAll('svg path, svg circle')) {{
    const stroke = painted(e, 'stroke');
    const isFilled = painted(e, 'fill')[3] > 0;
    const length = e.getTotalLength();
    const matrix = e.getScreenCTM();
    const at = e.getPointAtLength(length * 0.4).matrixTransform(matrix);
    const around = surface(at.x, at.y, [e]);
    const line = stroke[3] > 0 ? over(stroke, around) : over(painted(e, 'fill'), around);
    note('line', e, ratio(line, around));
    if (stroke[3] > 0 && isFilled) note('line', e, ratio(line, over(painted(e, 'fill'), around)));
  }}
  for (const e of document.querySelectorAll('svg g > rect')) {{
    if (e.matches('[class*=plate]')) continue;
    const {{ left, top, height }} = e.getBoundingClientRect();
    const around = surface(left - 3, top + height / 2, [e]);
    const line = over(painted(e, 'stroke'), around);
    note('line', e, ratio(line, around));
    note('line', e, ratio(line, over(painted(e, 'fill'), around)));
  }}
  return found;
}}"""


def too_pale(found: list[list[Any]]) -> list[list[Any]]:
    """Return the parts with less contrast than WCAG AA requires: 4.5 for text, 3 for lines."""
    return [part for part in found if part[3] < (4.5 if part[0] == "text" else 3)]


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("has_run", [True, False])
def test_text_and_lines_of_a_drawing_have_contrast_in_every_status(in_browser: Any, theme: str, has_run: bool) -> None:
    picture, overlay = board()
    drawn = render_svg(picture, overlay if has_run else None, theme=theme, fault="it is not whole")

    def look(browser: Any) -> list[list[Any]]:
        page = browser.new_page(viewport={"width": 3200, "height": 2000})
        page.set_content(f"<!DOCTYPE html><meta charset=utf-8><body style='margin:0'>{drawn}")
        found: list[list[Any]] = page.evaluate(OF_DRAWING)
        page.close()
        return found

    found = in_browser(look)
    if has_run:
        for status in STATUS_WORDS:
            assert [part for part in found if f"s-{status}" in part[1]], f"{status} was checked"
    assert len([part for part in found if part[0] == "line"]) > len(picture.boxes) + len(picture.lines)
    assert not too_pale(found)


@pytest.mark.parametrize("palette", [LIGHT, DARK], ids=THEMES)
def test_the_bars_of_the_timeline_have_contrast_in_every_status(palette: dict[str, str]) -> None:
    def light(colour: str) -> float:
        parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
        return 0.2126 * r + 0.7152 * g + 0.0722 * b

    def ratio(one: str, other: str) -> float:
        low, high = sorted((light(palette[one]), light(palette[other])))
        return (high + 0.05) / (low + 0.05)

    for status in STATUS_WORDS:
        back = f"{status}-back" if status != "stopped" else "dropped-back"
        assert ratio(status, back) >= 4.5, status
        assert ratio(status, "card") >= 3, status
    assert FORCED.keys() == LIGHT.keys() == DARK.keys()


OF_PAGE = f"""() => {{
  {CONTRAST}
  const found = [];
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  while (walker.nextNode()) {{
    const e = walker.currentNode.parentElement;
    if (!walker.currentNode.data.trim() || !e.offsetParent) continue;
    if (e.closest('svg, script, option, :disabled, [hidden]')) continue;
    e.scrollIntoView({{ block: 'nearest' }});
    const chain = [];
    for (let at = e; at; at = at.parentElement) chain.unshift(at);
    let below = [255, 255, 255, 1];
    for (const at of chain) below = over(painted(at, 'background-color'), below);
    found.push(['text', e.className, e.textContent.slice(0, 60), ratio(over(painted(e, 'color'), below), below)]);
  }}
  return found;
}}"""


@pytest.mark.parametrize("theme", THEMES)
@pytest.mark.parametrize("make", [report_page, failed_page, lambda: nested_flow().html()])
def test_text_of_a_page_has_contrast_at_any_step(shown: Show, make: Callable[[], str], theme: str) -> None:
    page = shown(make(), color_scheme=theme, width=1280, height=1000)
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    steps = int(page.get_attribute("#scrub", "max") or 0)
    for step in range(1, steps + 1) if steps else [0]:
        if step:
            page.eval_on_selector("#scrub", "(e, s) => { e.value = s; e.dispatchEvent(new Event('input')); }", step)
            page.wait_for_selector(f"html[data-step='{step}']")
        found = page.evaluate(OF_PAGE)
        assert len(found) > 10
        assert not too_pale(found), step
        graph = page.evaluate(OF_DRAWING.replace("'svg ", "'svg.graph:not([hidden]) "))
        assert not [part for part in too_pale(graph) if part[0] == "text"], step
    page.locator("svg.graph:not([hidden]) .card.node").first.click()
    page.fill("#search", "e")
    assert not too_pale(page.evaluate(OF_PAGE))
    graph = page.evaluate(OF_DRAWING.replace("'svg ", "'svg.graph:not([hidden]) "))
    assert not [part for part in too_pale(graph) if part[0] == "text"], "also during a search for other nodes"


# Signs beside colours.


def test_every_format_uses_the_same_sign_for_a_status(graphviz: str) -> None:
    picture, overlay = board()
    named = {box.id: overlay.stats[box.name].status for box in picture.boxes if box.name in overlay.stats}
    drawn = ET.fromstring(render_svg(picture, overlay))
    signs = {}
    for group in drawn.iter():
        if group.get("data-id") in named:
            signs[group.get("data-id")] = [
                text.text for text in group if text.get("class", "").split()[:1] == ["beluga-sign"]
            ]
    assert signs == {box: [STATUS_SIGNS[status]] for box, status in named.items()}
    legend = [text.text for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {*STATUS_WORDS.values(), "never reached"} <= set(legend)
    art = render_ascii(picture, overlay)
    for status in STATUSES:
        assert f"{STATUS_SIGNS[status]} function {status}".rstrip() in art
    for status, sign in STATUS_SIGNS.items():
        count = list(named.values()).count(status) if status else 0
        assert render_dot(picture, overlay).count(f"{sign} 850 ms") == count
        assert render_mermaid(picture, overlay).count(f"#{ord(sign)}; 850 ms".replace("#45;", "-")) == count
    done = subprocess.run(
        [graphviz, "-Tsvg"], input=render_dot(picture, overlay).encode(), capture_output=True, check=True
    )
    fonts = {text.get("font-family") for text in ET.fromstring(done.stdout).iter("{http://www.w3.org/2000/svg}text")}
    assert len(fonts) == 1, "also of clusters"
    assert "Helvetica" in str(fonts)


def test_a_page_shows_the_sign_of_a_status_at_each_step(shown: Show) -> None:
    page = shown(failed_page())
    signs = """() => Object.fromEntries([...document.querySelectorAll('svg.graph:not([hidden]) .node')].map((node) => [
      [...node.classList].find((name) => name.startsWith('s-'))?.slice(2) ?? '',
      node.querySelector(':scope > .sign').textContent]))"""
    seen: dict[str, str] = {}
    for step in range(1, int(page.get_attribute("#scrub", "max") or 0) + 1):
        page.eval_on_selector("#scrub", "(e, s) => { e.value = s; e.dispatchEvent(new Event('input')); }", step)
        page.wait_for_selector(f"html[data-step='{step}']")
        seen |= page.evaluate(signs)
    assert len(seen) >= 4
    assert all(STATUS_SIGNS[status] == sign for status, sign in seen.items())
    page.click("#legend summary")
    assert "never reached" in page.inner_text("#legend")


# The keyboard.

UNREACHED = """() => [...document.querySelectorAll('*')].filter((e) => {
  const style = getComputedStyle(e);
  const scrolls = (e.scrollHeight > e.clientHeight + 1 && /auto|scroll/.test(style.overflowY))
    || (e.scrollWidth > e.clientWidth + 1 && /auto|scroll/.test(style.overflowX));
  return scrolls && e !== document.scrollingElement && e.tabIndex < 0;
}).map((e) => e.id || e.className || e.tagName)"""


@pytest.mark.parametrize(("width", "height"), [(400, 700), (1280, 420)])
@pytest.mark.parametrize("make", [report_page, hostile_page, long_page])
def test_every_scrolling_element_can_be_focused(shown: Show, make: Callable[..., str], width: int, height: int) -> None:
    page = shown(make(20) if make is long_page else make(), width=width, height=height)
    for step in range(1, min(12, int(page.get_attribute("#scrub", "max") or 0)) + 1):
        page.eval_on_selector("#scrub", "(e, s) => { e.value = s; e.dispatchEvent(new Event('input')); }", step)
        page.wait_for_selector(f"html[data-step='{step}']")
        assert page.evaluate(UNREACHED) == [], step


def test_the_lanes_scroll_by_keys_and_show_the_focus(shown: Show) -> None:
    page = shown(report_page(), width=1280, height=420)
    assert page.get_attribute("#lanes", "role") == "region"
    assert "Timeline" in (page.get_attribute("#lanes", "aria-label") or "")
    page.focus("#by-step")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "lanes"
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
    assert page.evaluate("document.activeElement.scrollTop") == 0
    page.keyboard.press("ArrowDown")
    page.wait_for_function("() => document.getElementById('lanes').scrollTop > 0")


def test_a_search_within_a_node_reports_matches_elsewhere(shown: Show) -> None:
    page = shown(report_page())
    page.fill("#search", "archive")
    alone = int(page.inner_text("#matches").split()[0])
    assert alone > 1
    page.locator("#rows .row").first.click()
    page.locator("svg.graph:not([hidden]) .node[aria-label='function: publish']").click()
    expect(page.locator("#matches")).to_have_text(f"0 matches here, {alone} elsewhere")
    assert page.locator("svg.graph:not([hidden]) .node.found").count() >= 1, "matches elsewhere are marked in the graph"
    page.click("#chosen")
    expect(page.locator("#matches")).to_have_text(f"{alone} matches")


# Forced colours and paper.

SYSTEM = """() => ['Canvas', 'CanvasText', 'Highlight', 'HighlightText'].map((name) => {
  const probe = document.createElement('i');
  probe.style.forcedColorAdjust = 'none';
  probe.style.color = name;
  document.body.append(probe);
  const found = getComputedStyle(probe).color;
  probe.remove();
  return found;
})"""
USED = """((within) => [...document.querySelectorAll(`${within} *`)].flatMap((e) => {
  const style = getComputedStyle(e);
  return e.closest('title, style, g:not(:has(*))') || e.tagName === 'g' ? [] : [style.fill, style.stroke];
}).filter((colour) => colour !== 'none'))"""


def test_forced_colours_are_system_colours_and_show_the_selection(shown: Show) -> None:
    page = shown(report_page(), forced_colors="active", fragment="#step=12")
    canvas, text, highlight, on_highlight = page.evaluate(SYSTEM)
    colours = page.evaluate(f"{USED}('svg.graph:not([hidden]) .node')")
    assert set(colours) <= {canvas, text, highlight}
    row = "getComputedStyle(document.querySelector('#rows [aria-selected=true]'))"
    assert page.evaluate(f"[{row}.backgroundColor, {row}.color]") == [highlight, on_highlight]
    assert (
        page.evaluate("""() => {
      const { width, height } = document.getElementById('bars');
      const { data } = document.getElementById('bars').getContext('2d').getImageData(0, 0, width, height);
      let most = 0;
      for (let at = 0; at < data.length; at += 4) {
        const parts = [...data.subarray(at, at + 3)];
        if (data[at + 3] > 200) most = Math.max(most, Math.max(...parts) - Math.min(...parts));
      }
      return most;
    }""")
        < 30
    ), "the bars use system colours only"


@pytest.mark.parametrize("theme", THEMES)
def test_a_drawing_follows_forced_colours(in_browser: Any, theme: str) -> None:
    picture, overlay = board()

    def look(browser: Any) -> list[str]:
        page = browser.new_page(forced_colors="active")
        page.set_content(f"<!DOCTYPE html><meta charset=utf-8>{render_svg(picture, overlay, theme=theme)}")
        found: list[str] = page.evaluate(f"{USED}('svg')")
        assert set(found) == set(page.evaluate(SYSTEM)[:2])
        page.close()
        return found

    assert in_browser(look)


@pytest.mark.parametrize("make", [report_page, long_page, lambda: nested_flow().html()])
def test_a_printed_page_is_light_and_shows_a_whole_step_without_controls(shown: Show, make: Callable[..., str]) -> None:
    page = shown(make(200) if make is long_page else make(), color_scheme="dark", fragment="#step=12")
    page.click("#theme")
    page.click("#theme")
    expect(page.locator("#theme")).to_have_text("dark")
    page.emulate_media(media="print")
    for part in ("#transport", "#events", ".tools", "#graph > .bar", "#fold"):
        assert not page.locator(part).first.is_visible(), part
    assert page.evaluate("getComputedStyle(document.documentElement).getPropertyValue('--page')") == LIGHT["page"]
    hidden = page.evaluate("""() => ['#stage', '#step', '#node', 'body', '#graph', '#panel']
      .map((name) => document.querySelector(name))
      .filter((e) => e.offsetParent && getComputedStyle(e).overflowY !== 'visible').map((e) => e.id)""")
    assert hidden == []
    drawing = page.locator("svg.graph:not([hidden])").bounding_box()
    assert drawing
    assert drawing["x"] >= 0
    assert drawing["x"] + drawing["width"] <= 1280
    assert page.evaluate("document.documentElement.scrollHeight") < 8_000


# Invisible characters.

UNSEEN = [chr(code) for code in range(0x110000) if unicodedata.category(chr(code)) in ("Cf", "Cc", "Cs", "Zl", "Zp")]
unseen = st.lists(st.sampled_from(UNSEEN) | st.sampled_from("ab\u05d0<&\\\\"), min_size=1, max_size=12).map("".join)


def prints(text: str, keep: str = "\n\t") -> bool:
    return all(sign.isprintable() or sign in keep for sign in text)


@settings(max_examples=200, deadline=None)
@given(unseen)
def test_no_format_contains_an_invisible_character(text: str) -> None:
    boxes = (
        Box(id="nstart", name="$start", label="START", kind="start"),
        Box(id="n0", name=text, label=text, kind="function", note=text),
        Box(id="nend", name="$end", label="END", kind="end"),
    )
    line = Line(id="e0", source="n0", target="nend", kind="conditional", label=text, ends=(text, "$end"))
    picture = Picture(name=text, boxes=boxes, lines=(line,))
    overlay = Overlay(run_id=text, status="running", seq=1, stats={text: NodeStats()})
    for form in (
        render_svg(picture, overlay, fault=text),
        render_dot(picture, overlay),
        render_ascii(picture, overlay, fault=text),
    ):
        assert prints(form)
    assert prints(render_mermaid(picture, overlay).replace("#8288;", ""))
    assert not re.search(r"#(8234|8235|8236|8237|8238|8294|8295|8296|8297);", render_mermaid(picture, overlay))
    texts = Texts()
    texts.add_text(text)
    for value in (text, [text], {text: {"x": text}}):
        texts.add_value(value)
        assert prints(format_value(value))
    assert all(map(prints, texts.take_new()))
    assert lay_out(picture).width > 0
    for sign in text:
        assert sign.isspace() or to_printable(sign) in clean(text), "nothing is left out"
