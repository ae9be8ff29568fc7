"""Attempts that their run has cancelled: their code ends, and no worker logs that as a failure."""

from __future__ import annotations

import asyncio
import logging
from secrets import token_hex

import pytest
from servers import Server
from worker_processes import change_options

from beluga_graph import END, START, Context, Graph, RunCancelled
from beluga_graph.temporal import TemporalEngine

PATIENCE_S = 60


class Deps:
    """Notes the nodes that have begun, and those that were cancelled."""

    def __init__(self) -> None:
        self.begun, self.cancelled = asyncio.Event(), asyncio.Event()


async def hang(ctx: Context, value: int) -> None:
    ctx.deps.begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        ctx.deps.cancelled.set()


async def win(ctx: Context, value: int) -> int:
    await ctx.deps.begun.wait()
    return value


def race() -> Graph:
    g = Graph("race_of_two")
    g.node(name="hang")(hang)
    g.node(name="win")(win)
    g.fan_out("start", to=["hang", "win"], join="first")
    g.join("first", lambda results: results[0], wait=1)
    g.edge(START, "start")
    g.edge("first", END)
    return g


@pytest.mark.parametrize("is_lost", [True, False])
async def test_a_cancelled_attempt_ends_quietly(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, is_lost: bool
) -> None:
    change_options(monkeypatch, heartbeat_s=3.0)  # a run reaches an attempt with the answer to a heartbeat
    flow, deps = race(), Deps()
    engine = TemporalEngine(temporal_server.address, task_queue=token_hex(4), deps=deps)
    async with asyncio.timeout(PATIENCE_S), engine, engine.worker([flow]):
        run = await engine.start(flow, 7)
        if is_lost:
            assert await run.result() == 7
        else:
            await deps.begun.wait()
            await run.cancel()
            with pytest.raises(RunCancelled):
                await run.result()
        await deps.cancelled.wait()
    assert [record.message for record in caplog.records if record.levelno >= logging.WARNING] == []
