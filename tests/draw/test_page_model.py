"""The model of a page: a run as deltas, the page's policy, and bounds on its size."""

import asyncio
import json
import re
from base64 import b64encode
from hashlib import sha256
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runs_to_show import failed_page, hostile_page, long_page, nested_flow, page_of, report, report_page

from beluga_graph import END, START, Engine, Graph
from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.codec.to_json import to_json
from beluga_graph.draw.overlay import build_overlay
from beluga_graph.draw.page.values import TABLE_LENGTH_MAX, TEXT_LENGTH_MAX, Texts, format_value
from beluga_graph.draw.picture import build_picture
from beluga_graph.draw.text import format_duration
from beluga_graph.inspection.reading import read_plan, read_replay, read_trace
from beluga_graph.storage.loading import read_run_record
from beluga_graph.testing import VirtualClock
from stores import MemoryStore


def model_of(html: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="model">(.*?)</script>', html, re.DOTALL)
    assert found
    model: dict[str, Any] = json.loads(found[1])
    return model


class Parsed(HTMLParser):
    """The tags of a page with their attributes, and the text of its scripts and styles."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.inside: list[tuple[str, dict[str, str | None], str]] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.cdata_elem is not None:
            self.inside.append((*self.tags[-1], data))


def test_deltas_and_drawings_agree_at_each_step() -> None:
    store = MemoryStore()
    report_page(store)
    head = read_run_record(store, "report-7")
    plan = read_plan(store, head)
    replay, steps = read_replay(store, head, plan)
    shown = build_picture(plan.shape)
    names = {box.id: box.name for box in shown.boxes}
    marks: dict[str, dict[str, Any]] = {}
    taken: dict[str, int] = {}
    assert len(steps) > 15
    for step in [replay.build_head()["begin"], *steps]:
        marks.update({names[box]: mark for box, mark in step.get("marks", {}).items()})
        taken.update(step.get("taken", {}))
        if not step["seq"]:
            continue
        overlay = build_overlay(read_trace(store, head, plan.shape, step["seq"]), shown)
        assert taken == overlay.counts
        assert {name: mark["status"] for name, mark in marks.items()} == {
            name: mark.status for name, mark in overlay.stats.items() if mark.visits
        }
        badges = {name: badge for name, badge in overlay.format_badges().items() if badge}
        assert {name: badge_at(mark, step["at"]) for name, mark in marks.items()} == badges


def badge_at(mark: dict[str, Any], at: int) -> str:
    """Return a badge as the script of the page computes it."""
    busy = mark["busy"] + mark.get("clocks", 0) * at
    time = [format_duration(busy)] if busy or not (mark.get("now") or mark.get("waited")) else []
    return " · ".join([*mark.get("before", []), *time, *mark.get("after", [])]) or mark["status"]


def test_a_delta_contains_values_state_and_events() -> None:
    model = model_of(report_page())
    texts = [text for step in model["steps"] for text in step.get("texts", [])]
    by_what = {step["what"]: step for step in model["steps"]}

    gathered = by_what["gather finished"]
    assert (gathered["attempt"], texts[gathered["given"]]) == (3, '"sales in the north"')
    title, _ = gathered["state"]
    assert (title["field"], texts[title["after"]], "before" in title) == ("title", '"Sales In The North"', False)
    checked = by_what["check finished"]
    (added,) = [change for change in checked["state"] if "items" in change]
    assert [texts[item] for item in added["items"]] == ['"12 sources agree"', '"1 source is older than a year"']
    improved = [step for step in model["steps"] if step["what"].startswith("improve finished")]
    assert [(texts[c["before"]], texts[c["after"]]) for step in improved for c in step["state"]] == [
        ("9", "11"),
        ("11", "13"),
        ("13", "15"),
    ]
    joined = json.loads(texts[by_what["together finished"]["given"]])
    assert joined[1:] == ["no contradiction", "about 40"]
    drafted = by_what["draft finished"]["events"][0]
    assert texts[drafted["text"]] == "Sales are up in the north, and flat elsewhere."
    assert by_what["gather failed, to be tried again in 400 ms"]["events"][0]["type"] == "retry"
    assert texts[by_what["review got its signal"]["gave"]] == '"approved by Ada"'
    assert model["steps"][-1]["status"] == "completed"


def test_the_same_run_gives_the_same_bytes() -> None:
    # A single run: two runs may differ in the times of concurrent branches.
    store = MemoryStore()
    assert report_page(store) == page_of(store, "report-7") == page_of(store, "report-7")
    assert nested_flow().html() == nested_flow().html()


@pytest.mark.parametrize("html", [report_page(), failed_page(), hostile_page(), nested_flow().html()])
def test_the_policy_of_a_page_allows_only_its_own_script_and_style(html: str) -> None:
    assert html.isascii()
    page = Parsed(html)
    (policy,) = [a["content"] for tag, a in page.tags if tag == "meta" and "http-equiv" in a]
    rules = dict(rule.strip().split(" ", 1) for rule in str(policy).split(";"))
    assert rules.keys() == {"default-src", "script-src", "style-src", "img-src", "base-uri", "form-action"}
    for kind, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = [text for name, a, text in page.inside if name == tag and a.get("type") != "application/json"]
        assert rules[kind] == f"'sha256-{b64encode(sha256(text.encode()).digest()).decode()}'"
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    assert [tag for tag, _ in page.tags].count("script") == 2
    for tag, attributes in page.tags:
        assert tag not in ("img", "iframe", "object", "embed", "base", "a")
        assert not [name for name in attributes if name == "style" or name.startswith("on")], "nothing inline"
        assert not [value for value in attributes.values() if value and "://" in value], "no address"
    data = next(text for _, a, text in page.inside if a.get("type") == "application/json")
    assert not set("<>&\u2028\u2029") & set(data)


def test_a_failed_run_ends_with_its_failure() -> None:
    model = model_of(failed_page())
    assert model["steps"][-1]["status"] == "failed"
    assert model["steps"][-1]["what"] == "load failed"


def test_a_fork_begins_with_the_visits_copied_from_its_source() -> None:
    clock = VirtualClock()

    async def forked() -> str:
        async with Engine(clock=clock) as engine:
            run = await engine.start(report(clock), "sales", run_id="source")
            while await run.status() != "waiting" or not (await engine.snapshot("source")).state.get("cost", 0) > 5:
                await clock.advance(0.5)
            fork = await engine.fork("source", (await engine.snapshot("source")).seq, run_id_new="fork")
            return await engine.html(fork.id)

    model = model_of(asyncio.run(forked()))
    assert model["head"]["begin"]["marks"]
    assert [span["id"] for span in model["head"]["begin"]["spans"]] == [0]


def test_a_run_that_continued_with_a_changed_graph_is_complete() -> None:
    def parked(first: str, wait: str) -> Graph:
        g = Graph("parked")
        node = g.node(name=first)(lambda value: value)
        g.wait(wait, "go")
        g.edge(START, node)
        g.edge(node, wait)
        g.edge(wait, END)
        return g

    async def gone_on() -> str:
        store = MemoryStore()
        clock = VirtualClock()
        async with Engine(store, clock=clock) as engine:
            run = await engine.start(parked("a", "w"), "x", run_id="renamed")
            async for event in run.events():
                if event.type == "waiting":
                    break
        async with Engine(store, clock=clock) as engine:
            engine.register(parked("b", "v"))
            run = await engine.resume("renamed", rename={"w": "v"})
            await run.signal("go", "yes")
            await run.result()
            return await engine.html("renamed")

    model = model_of(asyncio.run(gone_on()))
    names = {box["id"]: box["name"] for box in model["head"]["boxes"]}
    steps = [(step["what"], names.get(step.get("node")), step.get("name")) for step in model["steps"]]
    assert steps == [
        ("The run began", None, None),
        ("a finished", None, "a"),
        ("The run took over the changed graph", None, None),
        ("v got its signal", "v", None),
    ]


def test_a_long_value_is_cut_with_a_note() -> None:
    assert json.loads(format_value("x" * 5000)) == "x" * TEXT_LENGTH_MAX + " … (cut: 5,000 characters)"
    assert len(format_value(["y" * 100] * 1000)) < TEXT_LENGTH_MAX + 50
    assert '"hex": "bdd4' in format_value(10**6000)


def test_values_beyond_the_size_of_a_page_are_replaced_by_a_note() -> None:
    texts = Texts()
    many = [
        texts.add_text(f"{number:04d}" * (TEXT_LENGTH_MAX // 4))
        for number in range(TABLE_LENGTH_MAX // TEXT_LENGTH_MAX + 50)
    ]
    table = texts.take_new()
    assert sum(map(len, table)) < TABLE_LENGTH_MAX + 100
    assert len(set(many)) == len(table)
    assert "holds no more" in table[many[-1]]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda parts: st.lists(parts, max_size=5) | st.dictionaries(st.text(), parts, max_size=5),
    max_leaves=30,
)


@given(json_values)
def test_an_uncut_text_is_the_json_of_its_value(value: Any) -> None:
    text = format_value(value)
    if "(cut: " not in text:
        assert json.loads(text) == (to_printable(value, "\n\t") if isinstance(value, str) else to_json(value))
    assert text.replace("\n", "").isprintable()


def test_a_long_run_takes_less_than_a_thousand_bytes_per_step() -> None:
    html = long_page(200)
    assert len(model_of(html)["steps"]) >= 600
    assert len(html) < 90_000 + 601 * 1_000
