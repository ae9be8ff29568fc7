"""Long times, on a server that skips them."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from secrets import token_hex
from typing import Any

from parity_graphs import link
from servers import Server

from beluga_graph import Context, Graph, Retry
from beluga_graph.temporal import TemporalEngine

PATIENCE_S = 120
DAY_S = 24 * 3_600.0


async def run_on(server: Server, flow: Graph, value: Any) -> Any:
    engine = TemporalEngine(server.address, task_queue=token_hex(4))
    async with asyncio.timeout(PATIENCE_S), engine, engine.worker([flow]):
        return await engine.execute(flow, value)


async def test_a_timer_of_thirty_days(skipping_server: Server) -> None:
    g = Graph("month")
    g.timer("pause", 30 * DAY_S)
    g.node(name="after")(lambda value: value + 1)
    link(g, "pause", "after")
    assert await run_on(skipping_server, g, 1) == 2


async def test_a_timer_until_a_time_in_thirty_days_that_a_function_decides(skipping_server: Server) -> None:
    g = Graph("decided_month")
    asked = []

    def until_next_month(ctx: Context, value: int) -> datetime:
        asked.append(value)
        return ctx.now() + timedelta(days=30)

    g.timer("pause", until=until_next_month)
    g.wait("answer", "go", timeout=lambda value: timedelta(days=30 * value), default=2)
    link(g, "pause", "answer")
    assert await run_on(skipping_server, g, 1) == 2
    assert asked == [1]


async def test_a_wait_of_ten_days_ends_with_its_default(skipping_server: Server) -> None:
    g = Graph("ten_days")
    g.wait("answer", "go", timeout=10 * DAY_S, default="silence")
    link(g, "answer")
    assert await run_on(skipping_server, g, 1) == "silence"


async def test_a_retry_after_a_day(skipping_server: Server) -> None:
    g = Graph("patient")

    @g.node(retry=Retry(attempts=3, initial=DAY_S, maximum=DAY_S))
    async def flaky(ctx, value):
        if ctx.attempt < 3:
            raise ConnectionError(ctx.attempt)
        return ctx.attempt

    link(g, flaky)
    assert await run_on(skipping_server, g, 1) == 3
