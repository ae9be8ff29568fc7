"""`draw`, `show` and `diff`: their text, their JSON, and their exit codes."""

import asyncio
import json
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import cli_flows
import pytest
from cli_documents import ENVIRONMENT, invoke, spawn

from beluga_graph import END, START, Context, Engine, Graph, RunFailed

HOSTILE = "\x1b]0;title\x07\x1b[31m[bold]red[/bold] \u202etxet\x9b</script>"
FLOW = "cli_flows:counting"

wide = Graph("wide")


@wide.node(name="job <b>\u202ex")
async def job(value: int) -> int:
    if value % 100 == 50:
        raise ValueError(HOSTILE)
    return value


wide.fan_out("each", to=job, over=lambda count: list(range(count)), join="all")
wide.join("all", len, on_error="collect")
wide.edge(START, "each")
wide.edge("all", END)

asking = Graph("asking")
asking.wait("word", HOSTILE, timeout=3600)
asking.edge(START, "word")
asking.edge("word", END)

failing = Graph("failing")


@failing.node
def fail(ctx: Context, text: str) -> str:
    raise ValueError(text)


failing.edge(START, fail)
failing.edge(fail, END)


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with runs that ended differently, a fork, and a run whose id could name a flow."""
    path = tmp_path_factory.mktemp("drawing") / "store"

    async def fill() -> None:
        async with Engine(path) as engine:
            await engine.execute(wide, 400, run_id="wide-[red]1")
            await engine.execute(cli_flows.counting, 7, run_id="count-1")
            await engine.execute(cli_flows.counting, 8, run_id="count-2")
            await (await engine.fork("count-1", 1, run_id_new="fork-1", update={"names": ["x" * 500]})).result()
            await engine.execute(cli_flows.counting, 1, run_id=FLOW)
            run = await engine.start(asking, 1, run_id="asks-1")
            while await run.status() != "waiting":  # noqa: ASYNC110  # a status is not announced
                await asyncio.sleep(0.005)
            with pytest.raises(RunFailed):
                await engine.execute(failing, HOSTILE, run_id="failed-1")

    asyncio.run(fill())
    return path


def as_json(*args: object, code: int = 0) -> Any:
    result = invoke(*args, "--json")
    assert result.exit_code == code, result.output
    assert result.stdout.isascii()
    return json.loads(result.stdout)


def said(*args: object, code: int = 0) -> str:
    """Return the output of a command, in which stored text must not control the terminal."""
    result = invoke(*args)
    assert result.exit_code == code, result.output
    assert result.output.replace("\n", "").isprintable()
    return result.output


# show


def test_show_prints_the_visits_as_a_tree(store: Path) -> None:
    lines = said("show", "wide-[red]1", "--store", store).splitlines()
    tree = lines[next(at for at, line in enumerate(lines) if line.startswith("visits of wide-[red]1, completed: ")) :]
    assert "400 branches (396 done, 4 failed)" in tree[1]
    assert tree[2].lstrip("│ ├─").startswith("✓ [0] job <b>\\u202ex  ")
    assert tree[2].rstrip().endswith("→ 0")
    failed = [line for line in tree if "✗ [" in line]
    assert [line.partition("✗ ")[2].split()[0] for line in failed] == ["[50]", "[150]", "[250]"]
    assert all(r"ValueError: \x1b]0;title\x07\x1b[31m[bold]red[/bold] \u202etxet\x9b" in line for line in failed)
    assert any(line.rstrip().endswith("… 148 more: 147 done, 1 failed") for line in tree)
    assert len(tree) < 16


def test_show_unfolds_everything_and_stops_at_a_depth(store: Path) -> None:
    whole = said("show", "wide-[red]1", "--store", store, "--all")
    assert all(f"[{branch}] job" in whole for branch in range(400))
    assert "more" not in whole
    outermost = said("show", "wide-[red]1", "--store", store, "--depth", 0)
    assert "400 branches (396 done, 4 failed)" in outermost
    assert "job" not in outermost.partition("visits of")[2]


def test_show_names_the_signal_that_a_visit_waits_for(store: Path) -> None:
    line = said("show", "asks-1", "--store", store).rstrip().splitlines()[-1]
    assert line.startswith("└── ◷ word waiting  ")
    assert " so far" in line
    assert r"awaits signal \x1b]0;title" in line
    assert "  due 2" in line


def test_the_json_of_show_contains_the_tree(store: Path) -> None:
    found = as_json("show", "wide-[red]1", "--store", store)
    assert {"run_id", "flow", "status", "tokens", "state", "steps", "output"} <= set(found)
    each, join = found["visits"]
    assert (each["local"], each["branches"], join["output"]) == ("each", {"done": 396, "failed": 4}, 400)
    assert each["inside"][0]["inside"][0]["output"] == 0
    assert {"folded": 148, "statuses": {"done": 147, "failed": 1}} in each["inside"]
    failed = next(item for item in each["inside"] if item.get("branch") == 50)
    assert failed["inside"][0]["error"] == f"ValueError: {HOSTILE}"
    assert len(as_json("show", "wide-[red]1", "--store", store, "--all")["visits"][0]["inside"]) == 400


def test_a_terminal_with_only_ascii_gets_ascii_signs(store: Path) -> None:
    process = spawn("show", "failed-1", "--store", store, env={**ENVIRONMENT, "PYTHONIOENCODING": "ascii"})
    output, _ = process.communicate()
    assert process.returncode == 0, output
    assert output.rstrip().splitlines()[-1].startswith("`-- x fail failed  ")


# diff


def test_diff_shows_where_a_fork_diverged(store: Path) -> None:
    text = said("diff", "count-1", "fork-1", "--store", store)
    assert "fork-1 was forked from count-1 after step 1\nthe first step is the history of both\n" in text
    assert "the paths are the same" in text
    assert "state that differs" in text
    assert any(line.split()[:2] == ["names", "(nothing)"] for line in text.splitlines())


def test_diff_shows_differing_values_and_none_for_the_same_run(store: Path) -> None:
    text = said("diff", "count-1", "count-2", "--store", store)
    assert any(line.split() == ["one#1", "7", "8"] for line in text.splitlines())
    assert any(line.split() == ["n", "7", "8"] for line in text.splitlines())
    assert said("diff", "count-1", "count-1", "--store", store).endswith("no difference\n")


def test_diff_says_that_flows_are_different(store: Path) -> None:
    text = said("diff", "wide-[red]1", "failed-1", "--store", store)
    assert text.startswith(
        "runs of different flows, wide and failing: nodes and fields of the same name are compared\n"
    )
    assert "  wide-[red]1: step 1, each#1 begins\n  failed-1: step 1, fail#1 begins\n" in text


def test_the_json_of_diff_contains_the_comparison(store: Path) -> None:
    found = as_json("diff", "count-1", "count-2", "--store", store)
    assert (found["differs"], found["same_flow"], found["same_plan"], found["divergences"]) == (
        True,
        True,
        True,
        [None, None],
    )
    assert [value["name"] for value in found["outputs"]] == ["one#1", "two#1"]
    assert found["outputs"][0]["values"] == [7, 8]
    assert found["first"]["run_id"] == "count-1"
    assert {"node", "visits", "attempts", "busy_ms", "usage", "differs"} == set(found["nodes"][0])


@pytest.mark.parametrize("runs", [("count-1", "nobody"), ("nobody", "count-1")])
def test_diff_of_an_unknown_run_is_an_error_of_one_line(store: Path, runs: tuple[str, str]) -> None:
    result = invoke("diff", *runs, "--store", store)
    assert (result.exit_code, result.stdout, result.stderr.count("\n")) == (1, "", 1)
    assert result.stderr.startswith("error: run 'nobody': no such run in this store")


# draw


def test_a_run_is_drawn_as_of_a_step_without_its_code(store: Path) -> None:
    last = said("draw", "count-1", "--format", "svg", "--store", store)
    ET.fromstring(last)
    begun = said("draw", "count-1", "--format", "svg", "--step", 1, "--store", store)
    assert begun != last
    assert begun == said("draw", "count-1", "--format", "svg", "--step", 1, "--store", store)
    assert said("draw", "count-1", "--format", "svg", "--theme", "dark", "--store", store) != last


def test_a_target_is_a_run_of_the_store_if_there_is_one_and_otherwise_a_flow(
    store: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(Path(__file__).parent)
    run = as_json("draw", FLOW, "--format", "svg", "--store", store)
    assert (run["run_id"], run["flow"], run["status"]) == (FLOW, "counting", "completed")
    assert {node["name"]: (node["visits"], node["status"]) for node in run["nodes"]} == {
        "one": (1, "done"),
        "two": (1, "done"),
    }
    flow = as_json("draw", "cli_flows:gated", "--format", "svg", "--store", store)
    assert (flow["flow"], "run_id" in flow) == ("gated", False)
    assert flow["drawing"] == cli_flows.gated.svg()


def test_a_drawing_is_written_completely_in_the_format_of_its_suffix(store: Path, tmp_path: Path) -> None:
    path = tmp_path / "run.SVG"
    assert said("draw", "count-1", "--output", path, "--store", store) == f"svg written to {path}\n"
    assert path.read_text() == said("draw", "count-1", "--format", "svg", "--store", store)
    path.write_text("old")
    found = as_json("draw", "count-1", "--output", path, "--store", store)
    assert (found["path"], found["format"], "drawing" in found) == (str(path), "svg", False)
    assert path.read_text() != "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.SVG"]
    missing = invoke("draw", "count-1", "--output", tmp_path / "no" / "run.svg", "--store", store)
    assert (missing.exit_code, missing.stdout) == (1, "")
    assert "there is no folder" in missing.stderr
    (tmp_path / "folder.svg").mkdir()
    refused = invoke("draw", "count-1", "--output", tmp_path / "folder.svg", "--store", store)
    assert refused.exit_code == 1
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["folder.svg", "run.SVG"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (("nobody",), 1, "error: run 'nobody': no such run in this store"),
        (("no_such_module:flow",), 1, "error: module 'no_such_module' cannot be imported"),
        (("count-1", "--step", "99", "--format", "svg"), 1, "error: run 'count-1': it has no step 99: its last is 3"),
        (("count-1", "--step", "-1"), 2, "Invalid value for '--step'"),
        (("count-1", "--depth", "-1"), 2, "Invalid value for '--depth'"),
        (("count-1", "--format", "png"), 2, "Invalid value for '--format'"),
        (("count-1", "--theme", "red"), 2, "Invalid value for '--theme'"),
        (
            ("count-1", "--format", "html", "--step", "1"),
            2,
            "Invalid value for --step: the html page already shows all",
        ),
        (
            ("count-1", "--format", "html", "--theme", "dark"),
            2,
            "Invalid value for --theme: the html page already shows all",
        ),
        (("beluga_graph.demo.pipeline:pipeline", "--step", "1"), 2, "Invalid value for --step: a flow has no steps"),
    ],
)
def test_an_impossible_drawing_is_an_error(store: Path, args: tuple[str, ...], code: int, message: str) -> None:
    result = invoke("draw", *args, "--store", store)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in " ".join(result.stderr.replace("│", " ").split())


def test_a_target_that_is_neither_a_run_nor_a_flow_is_wrong_usage(tmp_path: Path) -> None:
    result = invoke("draw", "nobody", "--store", tmp_path / "none")
    assert result.exit_code == 2
    words = " ".join(result.stderr.replace("│", " ").split())
    assert "'nobody' is not a flow, such as beluga_graph.demo.pipeline:pipeline, and there is no store at" in words
    assert not (tmp_path / "none").exists()


def test_an_unreadable_store_does_not_prevent_drawing_a_flow(tmp_path: Path) -> None:
    (tmp_path / "data.mdb").write_bytes(b"nonsense" * 4096)
    flow = "beluga_graph.demo.pipeline:pipeline"
    assert invoke("draw", flow, "--store", tmp_path).stdout == invoke("draw", flow).stdout
    assert invoke("draw", "nobody", "--store", tmp_path).exit_code == 1


def test_by_default_a_run_is_drawn_with_signs_and_a_flow_as_mermaid(store: Path) -> None:
    run = said("draw", "count-1", "--store", store)
    assert run == said("draw", "count-1", "--format", "ascii", "--store", store)
    assert "✓ two" in run
    assert "▶ one" in said("draw", "count-1", "--step", 1, "--store", store)
    flow = "beluga_graph.demo.pipeline:pipeline"
    assert said("draw", flow) == said("draw", flow, "--format", "mermaid")
    assert len(said("draw", flow, "--depth", 0, "--format", "dot")) <= len(said("draw", flow, "--format", "dot"))


def test_a_run_and_a_flow_are_written_as_a_page(store: Path, tmp_path: Path) -> None:
    for target in ("wide-[red]1", "failed-1", "beluga_graph.demo.pipeline:pipeline"):
        path = tmp_path / "page.html"
        assert said("draw", target, "--output", path, "--store", store) == f"html written to {path}\n"
        page = path.read_text()
        assert page.lstrip().lower().startswith("<!doctype html>")
        assert HOSTILE not in page
        assert page == as_json("draw", target, "--format", "html", "--store", store)["drawing"]


@pytest.mark.parametrize("form", ["svg", "mermaid", "dot", "ascii"])
@pytest.mark.parametrize("run", ["wide-[red]1", "failed-1", "asks-1"])
def test_no_drawing_of_a_run_controls_the_terminal(store: Path, run: str, form: str) -> None:
    assert said("draw", run, "--format", form, "--store", store)
