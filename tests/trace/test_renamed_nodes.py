"""The trace of a run that continues in a graph with other node names."""

from __future__ import annotations

import asyncio

from beluga_graph import END, START, Engine, Graph
from beluga_graph.testing import VirtualClock
from beluga_graph.trace.visits import NodeStats
from stores import MemoryStore


def framed(frame: str, wait: str) -> Graph:
    """Return a flow with a frame that waits."""
    inner = Graph(frame)
    inner.wait(wait, "go")
    inner.edge(START, wait)
    inner.edge(wait, END)
    g = Graph("framed")
    g.add(inner)
    g.edge(START, frame)
    g.edge(frame, END)
    return g


async def read_stats() -> list[dict[str, NodeStats]]:
    """Return the statistics of a run before its nodes are renamed, after that, and at its end."""
    store, clock = MemoryStore(), VirtualClock()
    names = ("old", "old/wait", "new", "new/pause")
    found = []

    async def look(engine: Engine) -> None:
        trace = await engine.trail("renamed")
        found.append({name: trace.summarize(name) for name in names})

    async with Engine(store, clock=clock) as engine:
        run = await engine.start(framed("old", "wait"), "x", run_id="renamed")
        async for event in run.events():
            if event.type == "waiting":
                break
        await look(engine)
    async with Engine(store, clock=clock) as engine:
        engine.register(framed("new", "pause"))
        run = await engine.resume("renamed", rename={"old": "new", "old/wait": "new/pause"})
        await look(engine)
        await run.signal("go", "yes")
        await run.result()
        await look(engine)
    return found


def test_a_visit_moves_to_the_renamed_node_with_all_of_its_statistics() -> None:
    before, renamed, ended = asyncio.run(read_stats())
    assert (before["old"].status, before["old/wait"].status) == ("waiting", "waiting")
    for at, status, now in ((renamed, "waiting", 1), (ended, "done", 0)):
        assert at["old"] == at["old/wait"] == NodeStats()
        for name in ("new", "new/pause"):
            stats = at[name]
            assert (stats.status, stats.visits, stats.attempts, stats.now) == (status, 1, 1, now)
