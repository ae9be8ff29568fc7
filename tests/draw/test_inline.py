"""Drawings inside a page: their style rules do not affect the page, and rules of the page do not affect them."""

from __future__ import annotations

import re
from typing import Any

import pytest
from board import board
from playwright.sync_api import Browser

from beluga_graph.demo.pipeline import pipeline
from beluga_graph.draw.formats.svg import render_svg

PAGE_TEXT = """<div class="page"><p class="card"><span class="label">mine</span> <b class="note badge head key">too</b>
<i class="wire taken run node frame body drawing legend route plate dot ring icon way tip sign fault">and</i>
</p></div>"""

# Rules that a page may have for classes of the same names, and for SVG elements.
HOSTILE_STYLE = """
body{font:italic 700 22px serif;letter-spacing:4px;word-spacing:9px;text-transform:uppercase;text-anchor:end;
direction:rtl}
.page,.label,.card,.node,.body,.note,.badge,.head,.key,.frame,.wire,.run,.drawing,.legend,.route,.plate,.icon,.way,.tip,
.sign,.dot,.ring,.taken{fill:red!important;stroke:lime!important;display:none!important;opacity:.1!important;
font-size:50px!important;stroke-dasharray:1!important;text-anchor:end!important}
text{fill:red;font-size:40px}path,rect,circle{fill:red;stroke:red;stroke-width:9}svg{font-family:serif;font-weight:900}
"""

LOOKS = """(within) => [...document.querySelectorAll(`${within} *`)]
  .filter((e) => !['STYLE', 'TITLE'].includes(e.tagName.toUpperCase())).map((e) => {
    const style = getComputedStyle(e);
    const names = ['display', 'opacity', 'visibility', 'fill', 'fill-opacity', 'stroke'];
    if (style.stroke !== 'none') names.push('stroke-width', 'stroke-dasharray');
    if (e.tagName === 'text') {
      names.push('font-family', 'font-size', 'font-weight', 'font-style', 'letter-spacing', 'word-spacing',
        'text-transform', 'text-anchor', 'direction');
    }
    return [e.tagName, ...names.map((name) => style.getPropertyValue(name))].join(' ');
  })"""


@pytest.fixture(scope="module")
def drawings() -> list[str]:
    """Return drawings of one run in two themes, and of a flow."""
    picture, overlay = board()
    drawn = [render_svg(picture, overlay, theme=theme) for theme in ("light", "dark")]
    return [*drawn, pipeline.svg(theme="dark"), render_svg(picture, fault="it is not whole")]


def looks(in_browser: Any, html: str, *within: str) -> list[list[str]]:
    """Return the computed style of each element inside the given ones."""

    def look(browser: Browser) -> list[list[str]]:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.set_content(f"<!DOCTYPE html><meta charset=utf-8>{html}")
        found = [page.evaluate(LOOKS, selector) for selector in within]
        page.close()
        return found

    done: list[list[str]] = in_browser(look)
    return done


def test_neither_a_page_nor_another_drawing_changes_the_look_of_a_drawing(in_browser: Any, drawings: list[str]) -> None:
    alone = [looks(in_browser, f"<div id=here>{drawn}</div>", "#here svg")[0] for drawn in drawings]
    assert all(alone)
    assert alone[0] != alone[1], "themes differ"
    within = [f"#d{number} svg" for number in range(len(drawings))]
    together = "".join(f"<div id=d{number}>{drawn}</div>" for number, drawn in enumerate(drawings))
    for html in (
        f"<style>{HOSTILE_STYLE}</style>{PAGE_TEXT}{together}",
        f"{together}{PAGE_TEXT}<style>{HOSTILE_STYLE}</style>",
    ):
        assert looks(in_browser, html, *within) == alone


def test_a_drawing_does_not_change_the_page_around_it(in_browser: Any, drawings: list[str]) -> None:
    own = f"<div id=own>{PAGE_TEXT}<svg><text class='label key'>of the page</text><path class='way'/></svg></div>"
    before = looks(in_browser, own, "#own")
    assert looks(in_browser, own + "".join(drawings), "#own") == before
    assert looks(in_browser, "".join(drawings) + own, "#own") == before


def test_equal_drawings_are_equal_bytes_and_different_ones_have_separate_styles(drawings: list[str]) -> None:
    own = [re.findall(r'<svg [^>]*class="(beluga-[0-9a-f]{12})"', drawn)[0] for drawn in drawings]
    assert len(set(own)) == len(drawings)
    for name, drawn in zip(own, drawings, strict=True):
        style = re.search("<style>(.*?)</style>", drawn, re.DOTALL)
        assert style
        selectors = [part for rule in re.findall(r"([^{}]+)\{[^{}@]*\}", style[1]) for part in rule.split(",")]
        assert all(part.strip().startswith(f"svg.{name}") for part in selectors)
    assert pipeline.svg(theme="dark") == drawings[2]
