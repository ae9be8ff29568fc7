"""Compiling: shapes as data, fingerprints, and types of edges under mypy."""

import subprocess
import sys
from pathlib import Path
from typing import Annotated

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from beluga_graph import END, START, EdgeTypeMismatch, Graph, Limits, Retry, add, append
from beluga_graph.codec import seal, unseal
from beluga_graph.kernel.shape import Shape

ROOT = Path(__file__).parents[2]


class State(BaseModel):
    count: Annotated[int, add] = 0
    log: Annotated[list[str], append] = []


def sample(
    retry: Retry | None = None, seconds: float = 1.0, route: str = "again", limits: Limits | None = None
) -> Graph:
    inner = Graph("inner", state=State)

    @inner.node
    def double(value: int) -> int:
        return 2 * value

    inner.edge(START, double)
    inner.edge(double, END)
    g = Graph("sample", state=State, limits=limits)

    @g.node(retry=retry)
    def first(value: int) -> list[int]:
        return [value]

    sub = g.add(inner)
    g.fan_out("split", to=sub, over=lambda found: found, join="merge")
    merge = g.join("merge", wait=1)
    ask = g.wait("ask", "answer", timeout=seconds, default="none")
    pause = g.timer("pause", seconds)
    g.edge(START, first)
    g.edge(first, "split")
    g.edge(sub, "merge")
    g.edge(merge, ask)
    g.branch(ask, lambda answer: answer, {route: pause, "none": END})
    g.edge(pause, END)
    return g


def test_a_shape_survives_storing() -> None:
    shape = sample(Retry(attempts=5)).plan().shape
    assert Shape.from_plain(unseal(80, seal(80, shape.to_plain()))) == shape


def test_sub_flows_are_inlined_under_the_path_of_their_node() -> None:
    nodes = sample().plan().shape.nodes
    assert list(nodes) == ["first", "inner", "inner/double", "split", "merge", "ask", "pause", "ask?"]
    assert nodes["inner"].entry == "inner/double"
    assert nodes["ask"].target == "ask?", "a wait has no body, so its branch gets one"


def test_a_fingerprint_depends_on_structure_and_not_on_times_and_retries() -> None:
    fingerprint = sample().plan().fingerprint
    assert sample(Retry(attempts=9)).plan().fingerprint == fingerprint
    assert sample(seconds=9.0).plan().fingerprint == fingerprint
    assert sample(limits=Limits(max_steps=9)).plan().fingerprint == fingerprint
    assert sample(route="other").plan().fingerprint != fingerprint


def test_a_fingerprint_is_the_same_in_every_process() -> None:
    code = "from test_compile import sample; print(sample().plan().fingerprint)"
    found = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=Path(__file__).parent,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert found == {sample().plan().fingerprint + "\n"}


def test_a_flow_is_compiled_once_and_again_after_it_grew() -> None:
    g = Graph("g")
    a = g.node(name="a")(lambda value: value)
    g.edge(START, a)
    g.edge(a, END)
    plan = g.plan()
    assert g.plan() is plan
    b = g.node(name="b")(lambda value: value)
    g.on_error(a, b)
    g.edge(b, END)
    assert g.plan() is not plan


@given(st.permutations(["x", "y", "z"]))
def test_the_order_in_which_edges_are_declared_does_not_matter(order: list[str]) -> None:
    g = Graph("g")
    for name in "xyz":
        g.node(name=name)(lambda value: value)
    following = dict(zip("xyz", "yz", strict=False)) | {"z": END}
    for name in order:
        g.edge(name, following[name])
    g.edge(START, "x")
    assert [(n.name, n.target) for n in g.plan().shape.nodes.values()] == [("x", "y"), ("y", "z"), ("z", "$end")]


def test_an_edge_between_types_that_do_not_fit_is_refused_also_when_wired_by_name() -> None:
    g = Graph("g")

    @g.node
    def text(value: int) -> str:
        return str(value)

    @g.node
    def number(value: int) -> int:
        return value

    g.edge(START, "text")
    g.edge("text", "number")
    g.edge("number", END)
    with pytest.raises(EdgeTypeMismatch) as caught:
        g.plan()
    assert str(caught.value) == (
        "graph 'g', edge 'text' -> 'number': 'text' gives str and 'number' takes int; "
        "change an annotation or put a node between them"
    )


def test_mypy_refuses_an_edge_between_types_that_do_not_fit(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "from beluga_graph import END, START, Context, Graph\n"
        "g = Graph('g')\n"
        "@g.node\n"
        "async def text(ctx: Context, value: int) -> str:\n"
        "    return str(value)\n"
        "@g.node\n"
        "def number(value: int) -> int:\n"
        "    return value\n"
        "@g.node(name='other')\n"
        "def length(value: str) -> int:\n"
        "    return len(value)\n"
        "g.edge(START, number)\n"
        "g.edge(number, text)\n"
        "g.edge(text, length)\n"
        "g.edge(text, number)\n"  # line 15: the one mistake
        "g.edge(length, END)\n"
    )
    shown = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--no-incremental", str(program)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    errors = [line.split("program.py:")[1].split(":")[0] for line in shown.stdout.splitlines() if ": error:" in line]
    assert errors == ["15"], shown.stdout + shown.stderr
