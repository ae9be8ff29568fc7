"""Drawing, the tree of a run, and two runs side by side, from the command line."""

from __future__ import annotations

import asyncio
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from cli_documents import invoke
from pydantic import BaseModel

from beluga_graph import END, START, Context, Engine, Graph, Retry, RunFailed

HOSTILE = "\x1b[31m</title><script>alert(1)</script>\u202e"


class Count(BaseModel):
    """What the flow keeps."""

    total: int = 0


flow = Graph("flow", state=Count)
inner = Graph("inner")


@inner.node
def square(n: int) -> int:
    return n * n


inner.edge(START, square)
inner.edge(square, END)


@flow.node(retry=Retry(attempts=3, initial=0))
def begin(ctx: Context, n: int) -> int:
    ctx.update(total=n)
    if ctx.attempt == 1:
        raise OSError("not yet")
    return n


@flow.node
def end(ctx: Context, squares: list[int]) -> int:
    if ctx.context == "fail":
        raise ValueError(HOSTILE)
    return sum(squares) + ctx.state.total


flow.fan_out("each", to=flow.add(inner), over=lambda n: list(range(n)), join="all")
flow.join("all")
flow.edge(START, begin)
flow.edge(begin, "each")
flow.edge("all", end)
flow.edge(end, END)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with three runs of the flow and a fork of the first with another state."""
    path = tmp_path_factory.mktemp("drawing") / "store"

    async def fill() -> None:
        async with Engine(path) as engine:
            await engine.execute(flow, 4, run_id="four")
            await engine.execute(flow, 40, run_id="forty")
            with pytest.raises(RunFailed):
                await engine.execute(flow, 4, run_id="broken", context="fail")
            history = await engine.history("four")
            begun = next(step.seq for step in history if step.token == "begin#1" and step.trigger == "NodeFinished")
            fork = await engine.fork("four", begun, run_id_new="fork", update={"total": 100})
            await fork.result()

    asyncio.run(fill())
    return path


def read_json(*args: object) -> Any:
    result = invoke(*args, "--json")
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_show_tells_the_tree_of_visits(store: Path) -> None:
    lines = [line.rstrip() for line in invoke("show", "four", "--store", store).output.splitlines()]
    tree = lines[lines.index("visits") + 1 : lines.index("state")]
    names = [re.sub(r"^[ │├└─\xa0]*", "", line).split("  ")[0] for line in tree if line]
    branches = [(f"✓ [{branch}] inner", "✓ square") for branch in range(4)]
    assert names == ["✓ begin", "✓ each", *(name for pair in branches for name in pair), "✓ all", "✓ end"]
    assert "2 attempts" in tree[0]


def test_show_folds_a_long_row_and_opens_it_on_demand(store: Path) -> None:
    folded = invoke("show", "forty", "--store", store).output
    assert "… 30 more: 30 done (--all shows them)" in folded
    assert folded.count("inner") == 10
    assert invoke("show", "forty", "--all", "--store", store).output.count("inner") == 40
    flat = invoke("show", "forty", "--depth", "0", "--store", store).output
    assert "inner" not in flat
    assert "each" in flat


def test_show_gives_the_tree_as_data(store: Path) -> None:
    found = read_json("show", "four", "--store", store)
    assert found["status"] == "completed"
    begin_, each, *_ = found["visits"]
    assert (begin_["name"], begin_["attempts"], begin_["status"]) == ("begin#1", 2, "done")
    assert [visit["branch"] for visit in each["inside"]] == [0, 1, 2, 3]
    assert each["inside"][2]["inside"][0]["node"] == "inner/square"


def test_show_tells_what_failed_without_speaking_to_the_terminal(store: Path) -> None:
    output = invoke("show", "broken", "--store", store).output
    assert "✗ end" in output
    assert output.replace("\n", "").isprintable()


def test_diff_of_a_fork_and_its_source_begins_where_they_part(store: Path) -> None:
    found = read_json("diff", "four", "fork", "--store", store)
    assert (found["same"], found["parted"]) == (False, "end#1")
    assert found["only_first"] == found["only_second"] == []
    assert found["outputs"] == [["end#1", 18, 114]]
    assert found["state"] == [["total", 4, 100]]
    assert (found["first"]["output"], found["second"]["output"]) == (18, 114)
    output = invoke("diff", "four", "fork", "--store", store).output
    assert "their ways part at end#1" in output
    assert "  total: 4 | 100" in output


def test_diff_tells_what_only_one_visited_and_what_ended_otherwise(store: Path) -> None:
    wide = read_json("diff", "four", "forty", "--store", store)
    assert wide["parted"] == "begin#1"
    assert len(wide["only_second"]) == 72
    assert "… and 52 more" in invoke("diff", "four", "forty", "--store", store).output
    broken = read_json("diff", "four", "broken", "--store", store)
    assert broken["parted"] == "end#1"
    assert broken["outcomes"] == [["end#1", "done", "failed"]]
    output = invoke("diff", "four", "broken", "--store", store).output
    assert "completed" in output
    assert output.replace("\n", "").isprintable()


def test_a_run_differs_in_nothing_from_itself(store: Path) -> None:
    assert read_json("diff", "four", "four", "--store", store)["same"] is True
    assert "they took the same way, to the same end" in invoke("diff", "four", "four", "--store", store).output


def test_draw_of_a_run_lays_it_over_the_graph(store: Path, tmp_path: Path) -> None:
    drawn = invoke("draw", "four", "--format", "ascii", "--store", store).output
    assert "✓ begin   function, up to 3 attempts  2 attempts" in drawn
    earlier = invoke("draw", "four", "--format", "ascii", "--step", "1", "--store", store).output
    assert "▶ begin" in earlier
    assert "✓" not in earlier
    path = tmp_path / "four.svg"
    result = invoke("draw", "broken", "--format", "svg", "--theme", "dark", "--store", store, "--output", path)
    assert str(path) in result.output.replace("\n", "")
    root = ET.parse(path).getroot()
    assert any("s-failed" in element.get("class", "") for element in root.iter())
    told = read_json("draw", "four", "--format", "dot", "--depth", "0", "--store", store)
    assert (told["run_id"], told["status"], told["format"]) == ("four", "completed", "dot")
    assert "square" not in told["drawing"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("draw", "nobody"), 1, "there is no run 'nobody' in"),
        (("draw", "four", "--step", "99"), 1, "it has no step 99"),
        (("draw", "four", "--format", "png"), 2, "'png' is not one of"),
        (("draw", "four", "--depth", "-1"), 2, "Input should be greater than or equal to 0"),
        (("draw", "beluga_graph.demo.pipeline:pipeline", "--step", "1"), 2, "a flow has no steps"),
        (("diff", "four", "nobody"), 1, "no such run in this store"),
        (("show", "nobody"), 1, "no such run in this store"),
    ],
)
def test_what_is_not_there_is_told(store: Path, args: tuple[str, ...], code: int, message: str) -> None:
    result = invoke(*args, "--store", store)
    assert result.exit_code == code, result.output
    assert message in " ".join(result.output.replace("│", " ").split())
