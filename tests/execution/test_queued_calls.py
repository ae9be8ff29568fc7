"""Calls that wait for a thread: which of them begin, and from when their time counts."""

import threading
from typing import Any

import pytest
from flows_for_tests import chain
from wrapped_store import until

from beluga_graph import (
    END,
    START,
    Context,
    Engine,
    Graph,
    RunStatus,
)
from beluga_graph.execution.context import attempt_of
from beluga_graph.testing import VirtualClock

POOL = 32  # threads of an engine


def wide(work: Any, **options: Any) -> Graph:
    """Return a flow with eight more branches than an engine has threads."""
    g = Graph("wide")
    g.node(name="work", **options)(work)
    g.fan_out("fan", "work", over=lambda _: range(POOL + 8), join="j")
    g.join("j", on_error="collect")
    g.edge(START, "fan")
    g.edge("j", END)
    return g


async def test_a_queued_call_without_a_waiting_caller_never_begins() -> None:
    ran, let_go = [], threading.Event()

    def work(value: int) -> int:
        ran.append(value)
        assert let_go.wait(60)
        return value

    async with Engine(clock=VirtualClock()) as engine:
        run = await engine.start(wide(work, timeout=10), 1)
        await until(lambda: len(ran) == POOL)
        assert await run.cancel() is RunStatus.cancelled
        let_go.set()
        assert await engine.execute(chain(lambda value: value), 1) == 1  # queued behind the calls of the other run
    assert len(ran) == POOL


def as_a_node(work: Any) -> Any:
    return work


def as_a_tool(work: Any) -> Any:
    async def body(ctx: Context, value: int) -> Any:
        return await attempt_of(ctx).in_thread(work, value)

    return body


@pytest.mark.parametrize("wrapped", [as_a_node, as_a_tool])
async def test_the_time_of_an_attempt_begins_with_its_function_not_with_its_wait_for_a_thread(wrapped: Any) -> None:
    ran, clock, turns = [], VirtualClock(), [threading.Event() for _ in range(POOL + 8)]

    def work(value: int) -> int:
        ran.append(value)
        assert turns[value].wait(60)
        return value

    async with Engine(clock=clock) as engine:
        run = await engine.start(wide(wrapped(work), timeout=10), 1)
        await until(lambda: len(ran) == POOL)
        await clock.advance(9)  # the timeout less one second
        for value in ran[:8]:
            turns[value].set()
        await until(lambda: len(ran) == POOL + 8)
        await clock.advance(9)  # the first calls have timed out; the queued ones have not
        for turn in turns:
            turn.set()
        results = await run.result(60)
    assert [results[value] for value in ran[:8]] == ran[:8]
    assert [results[value].type for value in ran[8:POOL]] == ["Timeout"] * (POOL - 8)
    assert [results[value] for value in ran[POOL:]] == ran[POOL:]


async def test_a_call_that_waits_for_the_thread_of_a_timed_out_call_begins_when_that_call_ends() -> None:
    ran, let_go, clock = [], threading.Event(), VirtualClock()

    def work(value: int) -> int:
        ran.append(value)
        assert let_go.wait(60)
        return value

    async with Engine(clock=clock) as engine:
        run = await engine.start(wide(work, timeout=10), 1)
        await until(lambda: len(ran) == POOL)
        await clock.advance(11)
        let_go.set()
        results = await run.result(60)
    assert [results[value].type for value in ran[:POOL]] == ["Timeout"] * POOL
    assert [results[value] for value in ran[POOL:]] == ran[POOL:]


async def test_a_queued_call_of_a_cancelled_run_never_begins() -> None:
    ran, let_go = [], threading.Event()

    def work(value: int) -> int:
        ran.append(value)
        assert let_go.wait(60)
        return value

    async with Engine() as engine:
        run = await engine.start(wide(work, timeout=60), 1)
        await until(lambda: len(ran) == POOL)
        assert await run.cancel() is RunStatus.cancelled
        let_go.set()
        assert await engine.execute(chain(lambda value: value), 1) == 1  # queued behind the calls of the other run
    assert len(ran) == POOL
