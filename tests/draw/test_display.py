"""Notebook displays: a half-built graph with its error, a run, an info, a snapshot; never a traceback."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pictures import HOSTILE
from pydantic import BaseModel

from beluga_graph import END, START, Engine, Graph, GraphError, RunInfo, RunStatus, Workflow, step
from beluga_graph.draw.text import clean, clip
from beluga_graph.flows.flow import Flow
from beluga_graph.inspection.notebook import STEPS_MAX
from beluga_graph.inspection.views import ROWS_MAX, RunSnapshot, TokenInfo
from beluga_graph.plan.declared import Declared
from stores import LMDBStore, MemoryStore

SVG = "{http://www.w3.org/2000/svg}"
NAMES = ["a", "b", "c", "split", "merge", "pause", "wait", "sub"]
ends = st.sampled_from([*NAMES, START, END, "missing"])


def texts_of(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}text")]


def titles_of(svg: str) -> list[str]:
    return [element.text or "" for element in ET.fromstring(svg).iter(f"{SVG}title")]


def fault_in(shown: dict[str, str]) -> bool:
    """Return whether both a drawing and its text begin with an error."""
    drawn = any(text.startswith("! ") for text in texts_of(shown["image/svg+xml"]))
    assert drawn == shown["text/plain"].startswith("! ")
    return drawn


def declared_in(graph: Declared, path: str = "") -> list[str]:
    """Return the path of each node that a graph declares."""
    found = []
    for node in graph.nodes.values():
        found.append(f"{path}{node.name}")
        if node.flow is not None:
            found += declared_in(node.flow, f"{path}{node.name}/")
    return found


@st.composite
def half_built(draw: Callable[[st.SearchStrategy[Any]], Any], depth: int = 0) -> Graph:
    """Return a graph after some calls of its builder, in any order. Most such graphs do not compile."""
    g = Graph(draw(st.sampled_from(["g", "h"])) + str(depth))
    for name in draw(st.lists(st.sampled_from(NAMES), unique=True, max_size=6)):
        if name == "split":
            g.fan_out(name, to=draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3)), join=draw(ends))
        elif name == "merge":
            g.join(name, wait=draw(st.sampled_from(["all", 2])))
        elif name == "pause":
            g.timer(name, 3)
        elif name == "wait":
            g.wait(name, "go", timeout=5)
        elif name == "sub":
            g.add(draw(half_built(depth + 1)) if depth < 2 else step(print), name=name)
        else:
            g.node(name=name, requires_approval=draw(st.booleans()))(lambda value: value)
    for _ in range(draw(st.integers(0, 6))):
        g.edge(draw(ends), draw(ends))
    for source in draw(st.lists(st.sampled_from([*NAMES, START, "missing"]), unique=True, max_size=2)):
        g.branch(source, lambda value: value, {"one": draw(ends), "two": draw(ends)})
    for source in draw(st.lists(st.sampled_from([*NAMES, "missing"]), unique=True, max_size=2)):
        g.on_error(source, draw(ends))
    return g


@settings(max_examples=150, deadline=None)
@given(half_built())
def test_a_graph_is_displayed_with_its_error_after_any_call_of_its_builder(g: Graph) -> None:
    try:
        g.plan()
        is_whole = True
    except GraphError as error:
        is_whole = False
        fault = clean(f"{type(error).__name__}: {error}")
    shown = g._repr_mimebundle_()
    assert fault_in(shown) is not is_whole
    if is_whole:
        assert shown == {"image/svg+xml": g.svg(), "text/plain": g.ascii()}
        return
    said = " ".join(text for text in texts_of(shown["image/svg+xml"])).removeprefix("! ")
    assert said.startswith(fault)
    titles = titles_of(shown["image/svg+xml"])
    for name in declared_in(g.declare()):
        assert any(title.partition(": ")[2].split(":")[0] == name for title in titles), name
    assert g._repr_mimebundle_() == shown


def test_the_display_of_a_half_built_graph_leaves_out_edges_to_missing_nodes() -> None:
    g = Graph("half")
    g.node(name="read")(lambda value: value)
    g.node(name="write")(lambda value: value)
    g.edge("read", "write")
    g.edge("write", "archive")
    shown = g._repr_mimebundle_()
    assert shown["text/plain"].splitlines() == [
        "! Unreachable: graph 'half', START: it has no outgoing edge; add g.edge(START, <the",
        "first node>)",
        "",
        "  ● START",
        "  read   function",
        "  ↓",
        "  write  function",
        "  ◉ END",
    ]
    g.edge(START, "read")
    assert "there is no node 'archive'" in g._repr_mimebundle_()["text/plain"]
    with pytest.raises(GraphError):
        g.svg()


class Odd(Flow):
    """A flow whose `declare` fails."""

    name = "odd <b>"

    def declare(self) -> Declared:
        raise LookupError("no such table: \u202e<script>")


class Unnamed(BaseModel):
    """A model with a field that cannot be stored."""

    field: Any = object()


def bad_default() -> Graph:
    g = Graph("bad default")
    g.wait("w", "go", default=object())
    g.edge(START, "w")
    g.edge("w", END)
    return g


@pytest.mark.parametrize(
    ("flow", "said"),
    [
        (Odd(), r"LookupError: no such table: \u202e<script>"),
        (bad_default(), "NotData"),
        (Graph("state", state=Unnamed), "no outgoing edge"),
        (Workflow("w", step(print)), ""),
        (Graph("empty"), "Unreachable"),
    ],
)
def test_the_display_of_a_flow_shows_any_error_in_it(flow: Flow, said: str) -> None:
    shown = flow._repr_mimebundle_()
    assert fault_in(shown) is bool(said)
    assert said in shown["text/plain"]


@pytest.mark.parametrize("name", [name for name in HOSTILE if name.strip()])
def test_hostile_names_in_a_half_built_graph_are_shown_as_text(name: str) -> None:
    g = Graph("half")
    try:
        g.node(name=name)(lambda value: value)
    except GraphError:
        return
    shown = g._repr_mimebundle_()
    assert clip(clean(name), 34) in texts_of(shown["image/svg+xml"])


# Runs.


class Cells(HTMLParser):
    """The texts of a table's cells, and the tags that occur."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.texts: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert {name for name, _ in attrs} <= {"style"}
        if tag in ("td", "th"):
            self.texts.append("")

    def handle_data(self, data: str) -> None:
        self.texts[-1] += data


def cells(html: str) -> dict[str, str]:
    parsed = Cells(html)
    assert parsed.tags == {"table", "tr", "th", "td"}
    return dict(zip(parsed.texts[::2], parsed.texts[1::2], strict=True))


def asking() -> Graph:
    g = Graph("asking")
    g.node(name="work")(lambda value: value)
    g.wait("receipt", "paid")
    g.edge(START, "work")
    g.edge("work", "receipt")
    g.edge("receipt", END)
    return g


async def test_a_run_is_displayed_as_of_its_last_step_even_if_it_is_parked_or_over() -> None:
    async with Engine() as engine:
        run = await engine.start(asking(), 5, run_id="r")
        async for event in run.events():
            if event.type == "waiting":
                break
        waiting = run._repr_mimebundle_()
        assert waiting == {"image/svg+xml": await run.svg(), "text/plain": await engine.draw("r", format="ascii")}
        assert "◷ receipt" in waiting["text/plain"]
        await run.signal("paid", 1)
        await run.result()
        assert "✓ receipt" in run._repr_mimebundle_()["text/plain"]
    closed = cells(run._repr_mimebundle_()["text/html"])
    assert closed["status"] == "✓ completed"
    assert closed["!"].startswith("StoreClosed: ")


async def test_the_display_of_an_unreadable_run_shows_the_error(tmp_path: Any) -> None:
    store = LMDBStore(tmp_path)
    engine = Engine(store)
    async with engine:
        run = await engine.start(asking(), 5, run_id="r")
        await run.cancel()
        assert [info.run_id for info in await engine.prune(older_than=0)] == ["r"]
        assert "RunNotFound" in cells(run._repr_mimebundle_()["text/html"])["!"]
    store.close()
    shown = run._repr_mimebundle_()
    assert cells(shown["text/html"])["run"] == "r"
    assert "\n!: Store" in shown["text/plain"]


async def test_a_long_run_is_displayed_as_a_table_without_reading_its_steps() -> None:
    g = Graph("counts")
    g.node(name="n")(lambda value: value + 1)
    g.edge(START, "n")
    g.branch("n", lambda value: value <= STEPS_MAX, {True: "n", False: END})
    store = MemoryStore()
    async with Engine(store) as engine:
        run = await engine.start(g, 0, run_id="long")
        await run.result()
        shown = run._repr_mimebundle_()
    assert cells(shown["text/html"])["status"] == "✓ completed"
    assert "too many to draw" in shown["text/plain"]


@pytest.mark.parametrize("text", HOSTILE)
def test_infos_and_snapshots_are_tables_that_show_hostile_text_as_text(text: str) -> None:
    info = RunInfo(run_id=text, flow=text, status=RunStatus.cancelled, created_ms=0, updated_ms=1_000)
    found = cells(info._repr_html_())
    assert found["status"] == "- cancelled"
    assert found["updated"] == "1970-01-01 00:00:01Z"
    assert found["flow"].replace("\n", "").replace("\t", "").isprintable()
    tokens = tuple(TokenInfo(name=f"{text}#{n}", node=text, state="run", attempt=2, value=text) for n in range(60))
    snapshot = RunSnapshot(
        run_id="r",
        seq=3,
        status=RunStatus.failed,
        input={"text": text},
        state={"field": [text] * 1000, "empty": None},
        tokens=tokens,
        output=text,
        failure=None,
        timers={"t:x": 5_000},
        steps=2,
        plan="",
    )
    shown = snapshot._repr_html_()
    found = cells(shown)
    assert (found["status"], found["step"], found["timer t:x"]) == (
        "✗ failed",
        "3, 2 nodes finished",
        "1970-01-01 00:00:05Z",
    )
    assert len(found["state.field"]) <= 400
    assert found["…"] == f"{60 - ROWS_MAX} more tokens"
    assert not any(sign in shown for sign in "\u202e\u2066\x1b")
