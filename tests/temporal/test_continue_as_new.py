"""Runs that continue as new at every chance: their signals and events go on as if they had one execution."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any

import pytest
from servers import Server
from worker_processes import change_options

from beluga_graph import END, START, Context, Event, Graph
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.mirror.recording import export_history

PATIENCE_S = 240
SIGNALS = 20


@asynccontextmanager
async def serving(
    server: Server, flow: Graph, monkeypatch: pytest.MonkeyPatch, *, continue_events: int = 1
) -> AsyncIterator[TemporalEngine]:
    change_options(monkeypatch, continue_events=continue_events)
    engine = TemporalEngine(server.address, task_queue=token_hex(4))
    async with asyncio.timeout(PATIENCE_S), engine, engine.worker([flow]):
        yield engine


def listening() -> Graph:
    """Return a loop that reads signals one by one and notes them in the context of its value."""
    g = Graph("listening")
    g.wait("hear", "said", type=int)
    g.node(name="check")(lambda number: number)
    g.edge(START, "hear")
    g.edge("hear", "check")
    g.branch("check", lambda number: number < SIGNALS - 1, {True: "hear", False: END})
    return g


async def test_signals_are_read_once_and_in_order(temporal_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    flow = listening()
    async with serving(temporal_server, flow, monkeypatch) as engine:
        run = await engine.start(flow)
        followed = asyncio.create_task(_follow(run))
        for number in range(SIGNALS):
            await run.signal("said", number)
        assert await run.result() == SIGNALS - 1
        events = await followed
        assert [event.output for event in events if event.type == "node_finished" and event.node == "check"] == list(
            range(SIGNALS)
        )
        assert events == [event async for event in run.events() if event.seq is not None]
    histories = await export_history(await temporal_server.connect(), run.id)
    assert len(histories) > SIGNALS / 2


async def test_a_slow_branch_lets_no_history_grow_without_end(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, rounds, client = asyncio.Event(), 40, await temporal_server.connect()
    g = Graph("slow_branch")
    g.fan_out("both", to=["slow", "count"], join="all")

    @g.node
    async def slow(value: int) -> str:
        await gate.wait()
        return "slow"

    g.node(name="count")(lambda number: number + 1)
    g.branch("count", lambda number: number < rounds, {True: "count", False: "all"})
    g.join("all", lambda results: results)
    g.edge(START, "both")
    g.edge("slow", "all")
    g.edge("all", END)
    async with serving(temporal_server, g, monkeypatch, continue_events=20) as engine:
        run = await engine.start(g, 0)
        while (await client.get_workflow_handle(run.id).describe()).history_length <= 20:  # noqa: ASYNC110
            await asyncio.sleep(0.05)
        gate.set()
        assert await run.result() == ["slow", rounds]
    first, *others = await export_history(client, run.id)
    assert others
    assert len(first.events) < 3 * 20  # all rounds together have 240


async def _follow(run: Any) -> list[Event]:
    return [event async for event in run.events() if event.seq is not None]


async def test_a_cancelled_run_ends_in_whichever_execution_it_is(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = Graph("endless")

    @flow.node
    async def turn(ctx: Context, value: int) -> int:
        return value + 1

    flow.edge(START, turn)
    flow.branch(turn, lambda value: value < 0, {True: END, False: turn})
    async with serving(temporal_server, flow, monkeypatch) as engine:
        run = await engine.start(flow, 0)
        async for event in run.events():
            if event.type == "node_finished" and event.output == 5:
                break
        assert await run.cancel() == "cancelled"
        assert await run.status() == "cancelled"
