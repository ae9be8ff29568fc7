"""The page in a real browser: its content at each step, its controls, and its resistance to hostile content."""

from collections.abc import Callable
from typing import Any

import pytest
from playwright.sync_api import Page, expect
from runs_to_show import HOSTILE, failed_page, hostile_page, long_page, nested_flow, report, report_page

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.draw.overlay import Overlay, build_overlay
from beluga_graph.draw.page import render_page
from beluga_graph.draw.page.replay import Replay
from beluga_graph.draw.picture import Picture, build_picture
from beluga_graph.inspection.reading import read_plan, read_trace
from beluga_graph.storage.loading import read_run_record, rebuild
from beluga_graph.testing import VirtualClock
from stores import MemoryStore

Show = Callable[..., Page]

DRAWN = """() => {
  const drawing = document.querySelector('svg.graph:not([hidden])');
  const nodes = {}, wires = {};
  for (const node of drawing.querySelectorAll('.node')) {
    const status = [...node.classList].find((name) => name.startsWith('s-')) ?? '';
    nodes[node.dataset.id] = [status.slice(2), node.querySelector(':scope > .badge')?.textContent ?? ''];
  }
  for (const wire of drawing.querySelectorAll('.wire.taken')) {
    wires[wire.dataset.id] = wire.querySelector('.route')?.textContent ?? '';
  }
  return [nodes, wires];
}"""


def scrub(page: Page, step: int) -> None:
    page.eval_on_selector("#scrub", "(e, step) => { e.value = step; e.dispatchEvent(new Event('input')); }", step)
    wait_for_step(page, step)


def wait_for_step(page: Page, step: int) -> None:
    page.wait_for_selector(f"html[data-step='{step}']")


def expected_state(overlay: Overlay, shown: Picture) -> list[dict[str, Any]]:
    badges, counts = overlay.format_badges(), overlay.format_counts()
    nodes = {
        box.id: [overlay.stats[box.name].status, badges[box.name]] for box in shown.boxes if box.name in overlay.stats
    }
    wires = {
        line.id: " ".join(
            part for part in ("" if line.kind == "error" else line.label, counts.get(line.id, "")) if part
        )
        for line in shown.lines
        if line.id in overlay.counts
    }
    return [nodes, wires]


@pytest.mark.parametrize(("make", "run_id"), [(report_page, "report-7"), (failed_page, "import-3")])
def test_the_page_and_the_drawing_show_the_same_at_each_step(
    shown: Show, make: Callable[[MemoryStore], str], run_id: str
) -> None:
    store = MemoryStore()
    page = shown(make(store))
    head = read_run_record(store, run_id)
    shape = read_plan(store, head).shape
    last = int(page.get_attribute("#scrub", "max") or 0)
    forth, back = range(1, last + 1), range(last, 0, -1)
    for step in [*forth, *back, last, 1, last // 2]:
        scrub(page, step)
        trace = read_trace(store, head, shape, step)
        picture = build_picture(shape)
        assert page.evaluate(DRAWN) == expected_state(build_overlay(trace, picture), picture), step
        assert page.inner_text("#status") == trace.run.status


def test_a_page_opened_at_a_step_equals_one_moved_to_that_step(shown: Show) -> None:
    html = report_page()
    scrubbed = shown(html)
    parts = ["#step", "#facts", "#rows [aria-selected=true]"]
    for step in (2, 9, 20):
        scrub(scrubbed, step)
        opened = shown(html, fragment=f"#step={step}")
        assert opened.evaluate(DRAWN) == scrubbed.evaluate(DRAWN)
        assert [opened.inner_text(part) for part in parts] == [scrubbed.inner_text(part) for part in parts]


def test_folded_sub_flows_show_the_run_as_well(shown: Show) -> None:
    store = MemoryStore()
    page = shown(report_page(store))
    head = read_run_record(store, "report-7")
    shape = read_plan(store, head).shape
    page.click("#fold >> text=folded")
    expect(page.locator("#fold [aria-pressed=true]")).to_have_text("folded")
    for step in (8, 22):
        scrub(page, step)
        small = build_picture(shape, 0)
        assert page.evaluate(DRAWN) == expected_state(build_overlay(read_trace(store, head, shape, step), small), small)
    nodes_folded = page.locator("svg.graph:not([hidden]) .node").count()
    page.keyboard.press("]")
    assert page.locator("svg.graph:not([hidden]) .node").count() > nodes_folded


def test_a_step_shows_its_values_its_state_before_and_after_and_its_events(shown: Show) -> None:
    page = shown(report_page())
    page.click("#rows >> text=draft")
    expect(page.locator("#step h3")).to_have_text("draft finished")
    assert page.locator("#step .value.said").inner_text() == "Sales are up in the north, and flat elsewhere."
    assert [block.inner_text() for block in page.locator("#step .change .value").all()] == ["4", "9"]
    page.locator("#rows .row:has-text('improve')").first.click()
    expect(page.locator("#step h3")).to_have_text("improve finished, and chose better")
    assert '"score": 0.4' in page.locator("#step .value").nth(0).inner_text()
    assert '"score": 0.6' in page.locator("#step .value").nth(1).inner_text()
    assert page.locator("#step .value.before").inner_text() == "9"
    assert page.locator("#step .value.after").inner_text() == "11"
    page.click("#step .whole summary")
    expect(page.locator("#step .whole")).to_contain_text("findings")


def test_the_search_finds_text_anywhere_marks_nodes_and_goes_through_the_matches(shown: Show) -> None:
    page = shown(report_page())
    page.keyboard.press("/")
    page.keyboard.type("ARCHIVE is not")
    expect(page.locator("#matches")).to_have_text("2 matches")
    assert page.locator("svg.graph:not([hidden]) .node.found title").all_text_contents() == [
        "function: gather: up to 3 attempts"
    ]
    scrub(page, 1)
    page.focus("#search")
    for key, step in (("Enter", 2), ("Enter", 4), ("Enter", 2), ("Shift+Enter", 4)):
        page.keyboard.press(key)
        wait_for_step(page, step)
    page.keyboard.press("Escape")
    assert page.locator(".found").count() == 0
    page.fill("#search", "older than a year")  # in the branch, and in the join
    assert page.locator("#rows .row .who").all_inner_texts() == ["check", "together"]
    page.fill("#search", "nobody said this")
    expect(page.locator("#matches")).to_have_text("0 matches")


def test_a_click_on_a_node_shows_its_visits_and_filters_the_events(shown: Show) -> None:
    page = shown(report_page())
    page.locator("svg.graph:not([hidden]) .node:has(> title:text-is('function: improve'))").click()
    assert page.locator("#node h3").inner_text() == "improve"
    assert page.locator("#visits .row").count() == 3
    assert page.locator("#rows .row").count() == 3
    page.locator("#visits .row").nth(1).click()
    wait_for_step(page, int(page.locator("#visits .row .seq").nth(1).inner_text()))
    page.click("#chosen")
    expect(page.locator("#chosen")).to_be_hidden()
    assert page.locator("#rows .row").count() > 3


def test_the_timeline_has_a_lane_for_each_branch_and_a_click_goes_to_the_step(shown: Show) -> None:
    page = shown(report_page())
    assert page.evaluate("document.getElementById('lane-room').offsetHeight") == 6 * 26
    box = page.locator("#lanes").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] - 14, box["y"] + 13)
    wait_for_step(page, 22)
    page.mouse.click(box["x"] + box["width"] * 0.25, box["y"] + 13)  # the bar of `gather`
    wait_for_step(page, 6)
    before = page.evaluate("document.getElementById('cursor').getBoundingClientRect().x")
    page.click("#by-step")
    assert page.evaluate("document.getElementById('cursor').getBoundingClientRect().x") != before


def test_the_theme_follows_the_readers_preference_and_can_be_switched(shown: Show) -> None:
    def back(page: Page) -> list[str]:
        return page.evaluate(
            "[getComputedStyle(document.body).backgroundColor,"
            " getComputedStyle(document.querySelector('.card .body')).fill]"
        )

    html = report_page()
    light, dark = shown(html, color_scheme="light"), shown(html, color_scheme="dark")
    bright, dim = back(light), back(dark)
    assert bright[0] != dim[0]
    assert bright[1] != dim[1]
    for theme, colours in (("light", bright), ("dark", dim), ("auto", bright)):
        light.click("#theme")
        assert light.inner_text("#theme") == theme
        assert back(light) == colours


def test_everything_works_with_the_keyboard_alone(shown: Show) -> None:
    page = shown(report_page())
    reached: list[str] = []
    for _ in range(40):
        page.keyboard.press("Tab")
        name, outline = page.evaluate(
            "[document.activeElement.id || document.activeElement.textContent.trim().slice(0, 40),"
            " getComputedStyle(document.activeElement).outlineStyle]"
        )
        if page.evaluate("document.activeElement === document.body"):
            break
        assert outline != "none" or name == "scrub", f"{name}: the focus is visible (the slider shows it on its thumb)"
        if name in reached:
            break
        reached.append(name)
    wanted = ["theme", "help", "folded", "zoom-in", "stage", "play", "scrub", "speed", "by-step", "search", "rows"]
    assert set(wanted) <= set(reached)

    page.focus("#scrub")
    for key, step in (("Home", 1), ("ArrowRight", 2), ("ArrowRight", 3), ("ArrowLeft", 2), ("End", 22)):
        page.keyboard.press(key)
        wait_for_step(page, step)
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_attribute("aria-pressed", "true")
    page.wait_for_selector("html:not([data-step='22'])")  # playback starts over
    page.keyboard.press("Space")
    expect(page.locator("#play")).to_have_attribute("aria-pressed", "false")

    page.focus("#rows")
    page.keyboard.press("Home")
    wait_for_step(page, 1)
    page.keyboard.press("ArrowDown")
    wait_for_step(page, 2)

    page.focus("#stage")
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert page.locator("#node h3").inner_text() == "research"
    page.keyboard.press("Escape")
    expect(page.locator("#chosen")).to_be_hidden()

    page.keyboard.press("?")
    expect(page.locator("#keys")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.locator("#keys")).to_be_hidden()


def test_the_graph_can_be_zoomed_and_dragged(shown: Show) -> None:
    page = shown(report_page())
    width = page.evaluate("document.querySelector('svg.graph:not([hidden])').clientWidth")
    page.click("#zoom-in")
    page.click("#zoom-in")
    larger = page.evaluate("document.querySelector('svg.graph:not([hidden])').clientWidth")
    assert larger > width * 1.4
    box = page.locator("#stage").bounding_box()
    assert box
    page.mouse.move(box["x"] + 30, box["y"] + 150)
    page.evaluate("document.getElementById('stage').scrollTo(0, 0)")
    page.mouse.down()
    page.mouse.move(box["x"] + 30, box["y"] + 50, steps=4)
    page.mouse.up()
    assert page.evaluate("document.getElementById('stage').scrollTop") == 100
    page.keyboard.down("Control")
    page.mouse.wheel(0, 300)
    page.keyboard.up("Control")
    page.wait_for_function("(wide) => document.querySelector('svg.graph:not([hidden])').clientWidth < wide", arg=larger)
    page.click("#zoom-fit")
    assert page.evaluate("document.querySelector('svg.graph:not([hidden])').clientWidth") == width


@pytest.mark.parametrize("width", [400, 1000, 1600])
@pytest.mark.parametrize("make", [report_page, hostile_page, lambda: nested_flow().html()])
def test_the_page_is_never_wider_than_the_window(shown: Show, make: Callable[[], str], width: int) -> None:
    page = shown(make(), width=width, height=900)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    wide = page.evaluate(
        "[...document.querySelectorAll('section')].filter((e) => e.offsetParent && e.offsetWidth > innerWidth).length"
    )
    assert wide == 0
    for part in ("#graph", "#events", "#panel"):
        box = page.locator(part).bounding_box()
        assert box
        assert box["height"] > 100


def test_hostile_names_and_values_are_shown_as_text(shown: Show) -> None:
    page = shown(hostile_page())
    for step in (1, 2, 3):
        scrub(page, step)
        assert page.locator("script").count() == 2
        assert page.locator("b:has-text('left'), img").count() == 0
    assert "<script>alert(3)</script>" in page.inner_text("#step")
    scrub(page, 2)
    assert to_printable(HOSTILE.replace("\ud800", "")) == page.locator("#step .value").first.text_content()
    assert page.locator("#step .value").nth(1).text_content().count("x") < 4_100, "5,000 are cut"
    page.fill("#search", "</script>")
    page.locator("#rows .row").first.click()
    page.locator("svg.graph:not([hidden]) .node").first.click()
    assert page.locator("#node h3").inner_text().startswith("node <|script><script>alert(1)")


def test_a_flow_without_a_run_shows_its_nodes(shown: Show) -> None:
    page = shown(report(VirtualClock()).html())
    for part in ("#transport", "#timeline", "#facts", "#tab-step"):
        assert not page.locator(part).is_visible()
    page.fill("#search", "archive")
    assert page.locator("#rows .row .who").all_inner_texts() == ["gather", "check"]
    assert page.locator("svg.graph:not([hidden]) .node.found").count() == 2
    page.locator("#rows .row").first.click()
    assert "Read the archive, which is slow to wake." in page.inner_text("#node")
    assert "sub-flow" in page.inner_text("#legend")


def test_a_run_without_steps_is_shown(shown: Show) -> None:
    store = MemoryStore()
    report_page(store)
    head = read_run_record(store, "report-7")
    shape = read_plan(store, head).shape
    begun = rebuild(store, "report-7", 0)
    page = shown(render_page(shape, Replay(shape, begun, lambda value: value, lambda *_: ())))
    assert page.inner_text("#status") == "running"
    assert page.inner_text("#fact-step") == "0 / 0"
    page.keyboard.press("ArrowRight")
    page.keyboard.press("End")
    assert page.locator(".taken").count() == 0


def test_a_run_of_two_thousand_steps_needs_few_elements(shown: Show) -> None:
    page = shown(long_page())
    last = int(page.get_attribute("#scrub", "max") or 0)
    assert last >= 2000
    count = "document.querySelectorAll('*').length"
    assert page.evaluate(count) < 800
    for step in (1, 1500, 700, last, 64, 65, 63, 1280):
        scrub(page, step)
        assert page.inner_text("#rows [aria-selected=true] .seq") == str(step)
        assert page.evaluate(count) < 800
    page.fill("#search", "turn 555")
    expect(page.locator("#matches")).to_have_text("2 matches")
    page.fill("#search", "turn")
    page.evaluate("document.getElementById('rows').scrollTop = 20000")
    page.locator("svg.graph:not([hidden]) .node").first.click()
    assert page.evaluate(count) < 800


def test_with_reduced_motion_the_node_of_a_step_comes_into_view_at_once(shown: Show) -> None:
    page = shown(report_page(), reduced_motion="reduce", height=500)
    inside = """() => {
      const [node, stage] = ['.current', '#stage'].map((name) => document.querySelector(name).getBoundingClientRect());
      return node.top >= stage.top && node.bottom <= stage.bottom;
    }"""
    for step in (22, 2, 16):
        page.wait_for_timeout(450)  # sooner, the page takes it for playback, which never scrolls smoothly
        scrub(page, step)
        assert page.evaluate(inside)
