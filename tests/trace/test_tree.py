"""The tree of visits: each occurs once, below the visit that contains it; long rows are folded and counted."""

import asyncio
from collections import Counter
from typing import Any

import pytest
from sample_runs import choosing, looping, names, read_trace, spreading, waiting

from beluga_graph import END, START, Engine, Graph, RunFailed
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.tree import TreeBranch, TreeFold, TreeItem, TreeVisit, build_tree, iter_visits


async def trace_after(flow: Any, value: Any) -> Trace:
    async with Engine() as engine:
        await engine.execute(flow, value, run_id="r")
        return await read_trace(engine, "r")


def count_items(items: tuple[TreeItem, ...]) -> int:
    """Return the number of items in a row, with the folded ones."""
    return sum(item.count if isinstance(item, TreeFold) else 1 for item in items)


async def test_a_visit_is_below_its_frame_and_its_branch() -> None:
    trace = await trace_after(spreading, 2)
    assert names(build_tree(trace)) == [
        "width",
        ["each", [[0, [["inside", ["check"]]]], [1, [["inside", ["check"]]]]]],
        "all",
    ]


async def test_every_visit_is_in_the_unfolded_tree_once() -> None:
    trace = await trace_after(spreading, 40)
    found = Counter(visit.name for visit in iter_visits(build_tree(trace, unfolded=True)))
    assert found == Counter(list(trace.visits))


async def test_a_long_loop_is_folded_in_its_middle() -> None:
    tree = build_tree(await trace_after(looping, 1_000))
    assert names(tree)[:3] == ["turn", "turn#2", "turn#3"]
    assert names(tree)[-1] == "turn#1000"
    folded = [item for item in tree if isinstance(item, TreeFold)]
    assert folded == [TreeFold(count=994, statuses={"done": 994})]
    assert count_items(tree) == 1_000


async def test_a_wide_fan_out_shows_failed_branches_and_counts_the_others() -> None:
    tree = build_tree(await trace_after(spreading, 1_000))
    each = tree[1]
    assert isinstance(each, TreeVisit)
    assert each.branches == {"done": 900, "failed": 100}
    assert count_items(each.inside) == 1_000
    shown = [item for item in each.inside if isinstance(item, TreeBranch)]
    assert [branch.branch for branch in shown if branch.status == "failed"] == [3, 13, 23]
    statuses = Counter[str]()
    for item in each.inside:
        statuses.update(item.statuses if isinstance(item, TreeFold) else {item.status: 1})
    assert statuses == each.branches


async def test_visits_below_the_depth_are_only_counted() -> None:
    trace = await trace_after(spreading, 20)
    assert names(build_tree(trace, depth=0)) == ["width", ["each", [20]], "all"]
    inside = build_tree(trace, depth=1)[1]
    assert isinstance(inside, TreeVisit)
    assert names(inside.inside)[0] == [0, [["inside", [1]]]]
    with pytest.raises(ValueError, match="depth -1"):
        build_tree(trace, depth=-1)


async def test_attempts_and_times_add_up() -> None:
    trace = await trace_after(spreading, 8)
    visits = {visit.name: visit for visit in iter_visits(build_tree(trace, unfolded=True))}
    retried = visits["each#1[7]/inside#1[0]/check#1"]
    assert (retried.attempts, retried.status) == (2, "done")
    assert retried.busy_ms <= retried.duration_ms <= visits["each#1"].duration_ms
    assert visits["each#1[3]/inside#1[0]/check#1"].status == "failed"


async def test_a_waiting_visit_grows_with_the_clock_and_names_its_signal() -> None:
    async with Engine() as engine:
        run = await engine.start(waiting, 1, run_id="r")
        while await run.status() != "waiting":
            await engine.snapshot("r")
        trace = await read_trace(engine, "r")
    visits = {visit.node: visit for visit in iter_visits(build_tree(trace, at_ms=trace.at_ms + 5_000))}
    assert (visits["answer"].status, visits["answer"].signal) == ("waiting", "the [red]word")
    assert visits["answer"].duration_ms >= 5_000
    assert visits["answer"].busy_ms == 0
    assert visits["nap"].due_ms is not None
    assert visits["both"].branches == {"waiting": 2}


async def test_branches_beyond_max_concurrency_are_queued() -> None:
    async with Engine() as engine:
        await engine.execute(spreading, 9, run_id="r")
        steps = await engine.history("r")
        opened = next(step.seq for step in steps if any(op[0] == "open" and op[2] == "each" for op in step.ops))
        each = build_tree(await read_trace(engine, "r", opened))[-1]
    assert isinstance(each, TreeVisit)
    assert each.branches == {"running": 4, "queued": 5}
    assert [item.status for item in each.inside if isinstance(item, TreeBranch)][-1] == "queued"


async def test_the_visits_of_a_fork_begin_at_the_fork() -> None:
    async with Engine() as engine:
        await engine.execute(choosing, 1, run_id="r")
        fork = await engine.fork("r", 2, run_id_new="f")
        await fork.result()
        trace = await read_trace(engine, "f")
    steps = trace.at_ms
    assert names(build_tree(trace)) == ["weigh", "left"]
    assert all(0 <= visit.duration_ms <= steps - visit.begun_ms for visit in iter_visits(build_tree(trace)))


async def test_no_visit_of_a_failed_run_is_running() -> None:
    def broken(value: int) -> int:
        raise ValueError("no file")

    async def slow(value: int) -> int:
        await asyncio.sleep(30)
        return value

    g = Graph("parted")
    for name, body in (("bad", broken), ("good", slow)):
        inner = Graph(name)
        inner.node(name="work")(body)
        inner.edge(START, "work")
        inner.edge("work", END)
        g.add(inner)
    g.edge(START, "split")
    g.fan_out("split", to=["bad", "good"], join="merge")
    g.join("merge")
    g.edge("merge", END)
    async with Engine() as engine:
        run = await engine.start(g, 1, run_id="r")
        with pytest.raises(RunFailed):
            await run.result()
        trace = await read_trace(engine, "r")
    found = list(iter_visits(build_tree(trace, at_ms=trace.at_ms + 5_000)))
    assert [(visit.node, visit.status) for visit in found] == [
        ("split", "failed"),
        ("bad", "failed"),
        ("bad/work", "failed"),
        ("good", "stopped"),
        ("good/work", "stopped"),
    ]
    assert max(visit.duration_ms for visit in found) == found[0].duration_ms == trace.at_ms - found[0].begun_ms
