"""Drawings of runs: stopped, dropped, retried and waiting nodes, resumed runs, forks."""

from __future__ import annotations

import asyncio

import pytest

from beluga_graph import END, START, Context, Engine, Graph, Retry, Run, RunFailed, RunNotFound
from beluga_graph.trace.visits import NodeStats

asked = Graph("asked")


@asked.node(retry=Retry(attempts=3, initial=0))
def charge(ctx: Context, amount: int) -> int:
    if ctx.attempt == 1:
        raise OSError("the bank sleeps")
    return amount


asked.wait("receipt", "paid")
asked.edge(START, charge)
asked.edge(charge, "receipt")
asked.edge("receipt", END)


def fragile(mended: list[bool]) -> Graph:
    """Return a flow with a branch that fails until it is mended, and a slow branch."""
    g = Graph("fragile")

    @g.node
    async def quick(value: int) -> int:
        return value

    @g.node
    async def broken(value: int) -> int:
        await asyncio.sleep(0.02)
        if not mended:
            raise ValueError("no file")
        return value

    @g.node
    async def slow(value: int) -> int:
        await asyncio.sleep(0 if mended else 30)
        return value

    g.fan_out("split", to=[quick, broken, slow], join="merge")
    g.join("merge")
    g.edge(START, "split")
    g.edge("merge", END)
    return g


async def parked(run: Run) -> None:
    """Wait until a run waits for its signal."""
    async for event in run.events():
        if event.type == "waiting" and event.name == "paid":
            return


async def marks(engine: Engine, run_id: str, *nodes: str) -> list[NodeStats]:
    trail = await engine.trail(run_id)
    return [trail.summarize(node) for node in nodes]


async def test_a_failed_run_shows_failed_and_stopped_nodes_and_continues_after_a_resume() -> None:
    mended: list[bool] = []
    flow = fragile(mended)
    async with Engine() as engine:
        with pytest.raises(RunFailed):
            await engine.execute(flow, 1, run_id="r")
        assert [mark.status for mark in await marks(engine, "r", "quick", "broken", "slow", "split", "merge")] == [
            "done",
            "failed",
            "stopped",
            "failed",
            "",
        ]
        drawn = await engine.draw("r", format="ascii")
        assert "✗ broken" in drawn
        assert "■ slow" in drawn
        mended.append(True)
        await (await engine.resume("r")).result()
        after = await marks(engine, "r", "quick", "broken", "slow", "split", "merge")
        assert [mark.status for mark in after] == ["done"] * 5
        assert [mark.attempts for mark in after] == [1, 2, 1, 1, 1]
        assert [mark.visits for mark in after] == [1] * 5


async def test_a_cancelled_run_shows_dropped_nodes() -> None:
    async with Engine() as engine:
        run = await engine.start(asked, 5, run_id="r")
        await parked(run)
        (waits,) = await marks(engine, "r", "receipt")
        assert (waits.status, waits.signal, waits.now) == ("waiting", "paid", 1)
        await run.cancel()
        assert [mark.status for mark in await marks(engine, "r", "charge", "receipt")] == ["done", "dropped"]
        assert "s-dropped" in await run.svg()


async def test_a_run_can_be_drawn_as_of_any_step() -> None:
    async with Engine() as engine:
        run = await engine.start(asked, 5, run_id="r")
        await run.signal("paid", "yes")
        await run.result()
        last = (await engine.history("r"))[-1].seq
        statuses = [(await engine.trail("r", seq)).summarize("charge").status for seq in range(1, last + 1)]
        assert statuses[:2] == ["running", "retrying"]
        assert statuses[-1] == "done"
        assert "↻ charge" in await engine.draw("r", format="ascii", seq=2)
        with pytest.raises(RunNotFound, match="no step 99"):
            await engine.draw("r", seq=99)
        with pytest.raises(ValueError, match="there is no format 'png': give one of svg, mermaid, dot, ascii"):
            await engine.draw("r", format="png")  # type: ignore[arg-type]
        assert await engine.draw("r", format="html") == await engine.html("r")
        with pytest.raises(ValueError, match="the html page shows all steps"):
            await engine.draw("r", format="html", seq=2)
        with pytest.raises(ValueError, match="depth is -1"):
            await engine.draw("r", depth=-1)
        with pytest.raises(ValueError, match="there is no theme 'blue'"):
            await engine.draw("r", theme="blue")  # type: ignore[arg-type]


async def test_a_fork_is_compared_from_its_source_on_or_alone_if_that_is_gone() -> None:
    async with Engine() as engine:
        run = await engine.start(asked, 5, run_id="source")
        await parked(run)
        fork = await engine.fork("source", (await engine.snapshot("source")).seq, run_id_new="fork")
        await run.signal("paid", "by card")
        await run.result()
        found = await engine.compare("source", "fork")
        assert [(part.run_id, part.token, part.event) if part else None for part in found.divergences] == [
            ("source", "receipt#1", "signal"),
            None,
        ]
        assert (found.first.status, found.second.status, found.differs) == ("completed", "waiting", True)
        assert not [node.node for node in found.nodes if node.differs]
        assert await engine.prune()
        await fork.signal("paid", "by cheque")
        assert await fork.result() == "by cheque"
        alone = await engine.compare("fork", "fork")
        assert (alone.differs, [node.visits for node in alone.nodes]) == (False, [(1, 1)])
        assert alone.first.lost_before is not None
        assert alone.first.lost_before[0] == "source"


async def test_runs_with_different_outputs_differ_by_value() -> None:
    async with Engine() as engine:
        for run_id, payload in (("a", "card"), ("b", "cheque"), ("c", "card")):
            run = await engine.start(asked, 5, run_id=run_id)
            await run.signal("paid", payload)
            await run.result()
        found = await engine.compare("a", "b")
        assert [(value.name, value.values) for value in found.outputs] == [("receipt#1", ("card", "cheque"))]
        assert (found.first.attempts, [node.visits for node in found.nodes]) == (3, [(1, 1), (1, 1)])
        assert not (await engine.compare("a", "c")).differs
        await engine.execute(fragile([True]), 1, run_id="other")
        other = await engine.compare("a", "other")
        assert (other.first.flow, other.second.flow, other.same_flow) == ("asked", "fragile", False)
        assert [part.token for part in other.divergences if part] == ["charge#1", "split#1"]


def test_a_notebook_displays_the_drawing() -> None:
    shown = asked._repr_mimebundle_()
    assert shown == {"image/svg+xml": asked.svg(), "text/plain": asked.ascii()}
    assert set(asked._repr_mimebundle_(include=None, exclude=None)) == set(shown)


def test_themes_differ_in_colours_only() -> None:
    light, dark, auto = asked.svg(theme="light"), asked.svg(theme="dark"), asked.svg()
    assert "prefers-color-scheme" in auto
    assert "prefers-color-scheme" not in light + dark
    assert light.split("</style>")[1] == dark.split("</style>")[1] == auto.split("</style>")[1]
    assert light != dark


async def test_a_drawing_shows_which_of_two_routes_to_a_node_was_chosen() -> None:
    g = Graph("g")
    g.node(name="judge")(lambda value: value)
    g.node(name="publish")(lambda value: value)
    g.edge(START, "judge")
    g.branch("judge", lambda value: value, {"good": "publish", "enough": "publish"})
    g.edge("publish", END)
    async with Engine() as engine:
        await engine.execute(g, "enough", run_id="r")
        drawn = await engine.draw("r", format="ascii")
        assert "↓ ? enough \u00d71" in drawn
        assert "↓ ? good\n" in drawn
        events = [event for step in await engine.history("r") for event in step.events]
        assert [(event.node, event.route) for event in events if event.type == "node_finished"] == [
            ("judge", "enough"),
            ("publish", None),
        ]
