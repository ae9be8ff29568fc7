"""Races between signals, forks, ends, deadlines, outages and closes."""

import asyncio
import contextlib
import threading
from collections import Counter
from collections.abc import AsyncGenerator
from typing import Any

import pytest
from flows_for_tests import chain, waits
from wrapped_store import RUN, Held, WrappedStore, ends, owns, steps, until

from beluga_graph import (
    END,
    START,
    Context,
    Engine,
    Event,
    Graph,
    Limits,
    RunConflict,
    RunFailed,
    RunNotFound,
    RunStatus,
)
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, StoreFull

BUSY_RUNS = 6


def counting(stopped: threading.Event, **options: Any) -> Graph:
    """Return a flow that counts until it is stopped."""
    g = Graph("counting", **options)

    @g.node
    async def count(value: int) -> int:
        return value + 1

    g.edge(START, count)
    g.branch(count, lambda _: stopped.is_set(), {True: END, False: count})
    return g


@pytest.mark.parametrize("first", ["fork", "start"])
async def test_a_fork_and_a_start_that_race_for_an_id_make_one_run(first: str) -> None:
    calls: list[str] = []

    async def note(ctx: Context, value: int) -> int:
        calls.append(ctx.run_id)
        await asyncio.sleep(0)
        return value

    async with Engine(MemoryStore()) as engine:
        flow = chain(lambda value: value, note)
        await engine.execute(flow, 1, run_id="source")
        calls.clear()
        wanted = engine.start(flow, 7, run_id="new") if first == "start" else engine.fork("source", 2, run_id_new="new")
        again = engine.fork("source", 2, run_id_new="new")
        run, refused = await asyncio.gather(wanted, again, return_exceptions=True)
        assert isinstance(refused, RunConflict)
        assert await run.result(60) == (7 if first == "start" else 1)
        assert calls == ["new"]
        triggers = [step.trigger for step in await engine.history("new")]
        assert triggers == ["RunStarted" if first == "start" else "RunForked", *["NodeFinished"] * len(triggers[1:])]


async def test_a_fork_fires_overdue_deadlines_before_it_runs_nodes() -> None:
    clock, ran = VirtualClock(), []
    inner = Graph("inner")
    inner.node(name="a")(lambda value: value)

    @inner.node
    async def b(ctx: Context, value: int) -> int:
        ran.append(ctx.run_id)
        return value

    inner.edge(START, "a")
    inner.edge("a", b)
    inner.edge(b, END)
    g = Graph("g")
    g.add(inner, timeout=10)
    g.edge(START, "inner")
    g.edge("inner", END)
    async with Engine(MemoryStore(), clock=clock) as engine:
        assert await engine.execute(g, 1, run_id="source") == 1
        clock.set(clock.now_ms() + 3_600_000)
        fork = await engine.fork("source", 2, run_id_new="new")
        with pytest.raises(RunFailed) as caught:
            await fork.result(60)
    assert caught.value.cause.type == "Timeout"
    assert ran == ["source"]


@pytest.mark.parametrize(
    ("node", "refused", "status"),
    [
        ("completes", False, RunStatus.completed),
        ("completes", True, RunStatus.cancelled),
        ("fails", False, RunStatus.cancelled),  # a failed run can be resumed, so it can be cancelled
        ("fails", True, RunStatus.cancelled),
    ],
)
async def test_a_cancel_that_meets_an_end_in_flight_returns_the_stored_status(
    node: str, refused: bool, status: RunStatus
) -> None:
    async def body(value: int) -> int:
        if node == "fails":
            raise ValueError
        return value

    held = Held(ends, StoreFull("x", "full") if refused else None)
    async with Engine(WrappedStore(MemoryStore(), shared=True, before=held)) as engine:
        run = await engine.start(chain(body), 1, run_id=RUN)
        await held.reached()
        cancelling = asyncio.create_task(run.cancel())
        for _ in range(5):
            await asyncio.sleep(0)
        assert not cancelling.done()
        held.let_go()
        assert await asyncio.wait_for(cancelling, 60) is status
        assert await run.status() is status
        assert (await run.outcome(60)).status is status


async def test_close_and_resume_return_while_other_runs_are_active() -> None:
    disk, stopped = MemoryStore(), threading.Event()
    async with Engine(WrappedStore(disk)) as engine:
        await engine.start(waits(1), 1, run_id="parked")
    engine = Engine(WrappedStore(disk, shared=True))
    flow = counting(stopped, limits=Limits(max_visits=1_000_000))
    runs = [await engine.start(flow, 0) for _ in range(BUSY_RUNS)]
    engine.register(waits(1))
    async with asyncio.timeout(60):
        parked = await engine.resume("parked")
        await parked.signal("s", "hello")
        assert await parked.result() == "hello"
        await engine.close()
    async with Engine(WrappedStore(disk)) as engine:
        assert {await engine.status(run.id) for run in runs} == {RunStatus.running}


async def test_a_close_during_the_clean_up_of_a_timed_out_attempt_does_not_fail_the_run() -> None:
    disk, clock, cleaning = MemoryStore(), VirtualClock(), asyncio.Event()

    async def body(value: int) -> int:
        if not cleaning.is_set():
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await asyncio.Event().wait()  # for example, it closes a connection
        return value

    flow = chain(body, timeout=10)
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.start(flow, 1, run_id=RUN)
        await clock.advance(11)
        await cleaning.wait()
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        assert await engine.status(RUN) is RunStatus.running
        assert [step.trigger for step in await engine.history(RUN)] == ["RunStarted"]
        engine.register(flow)
        assert await (await engine.resume(RUN)).result(60) == 1


async def test_a_run_can_be_resumed_while_its_stream_is_still_closing() -> None:
    calls, cleaned = Counter[str](), asyncio.Event()

    async def body(value: int) -> int:
        calls["began"] += 1
        if calls["began"] == 1:
            try:
                await asyncio.Event().wait()
            finally:
                calls["cleaning"] += 1
                await cleaned.wait()
        return value

    async with Engine() as engine:
        stream = engine.stream(chain(body), 1, run_id=RUN)
        await anext(stream)
        await until(lambda: calls["began"])
        closing = asyncio.create_task(stream.aclose())
        await until(lambda: calls["cleaning"])
        again = asyncio.create_task(engine.execute(chain(body), 1, run_id=RUN))
        await asyncio.sleep(0)
        cleaned.set()
        assert await asyncio.wait_for(again, 60) == 1
        await closing


@pytest.mark.parametrize("slow", [owns, steps])
async def test_a_stream_that_is_cancelled_while_it_starts_leaves_no_active_run(slow: Any) -> None:
    disk, held, ran = MemoryStore(), Held(slow), []

    async def body(value: int) -> int:
        ran.append(1)
        return value

    async with Engine(WrappedStore(disk, shared=True, before=held)) as engine:

        async def use() -> None:
            async with contextlib.aclosing(engine.stream(chain(body), 1, run_id=RUN)) as events:
                async for _ in events:
                    pass

        using = asyncio.create_task(use())
        await held.reached()
        using.cancel()
        held.let_go()
        with pytest.raises(asyncio.CancelledError):
            await using
        await engine.execute(chain(body, name="other"), 1)  # after everything that was queued
        assert (len(ran), engine._host.runs.actives) == (1, {})


async def test_a_fork_that_is_cancelled_while_it_starts_leaves_no_active_run() -> None:
    async with Engine(MemoryStore()) as engine:
        await (await engine.start(chain(lambda value: value), 1, run_id="source")).result(60)
        fork = asyncio.create_task(engine.fork("source", 1, run_id_new="new"))
        for _ in range(100):
            if "new" in engine._host.runs.actives:
                break
            await asyncio.sleep(0)
        fork.cancel()
        with pytest.raises(asyncio.CancelledError):
            await fork
        await until(lambda: not engine._host.runs.actives)
        with contextlib.suppress(RunNotFound):  # it was cancelled before its first commit
            assert await (await engine.resume("new")).result(60) == 1


async def test_a_stream_whose_close_is_cancelled_leaves_no_active_run() -> None:
    cleaning, gate = asyncio.Event(), asyncio.Event()

    async def clean_up(value: int) -> int:
        if not gate.is_set():
            try:
                await asyncio.sleep(60)
            finally:
                cleaning.set()
                await gate.wait()
        return value

    async with Engine(MemoryStore()) as engine:
        stream = engine.stream(chain(clean_up), 1, run_id=RUN)
        await until_started(stream)
        close = asyncio.create_task(stream.aclose())
        await cleaning.wait()
        close.cancel()
        with pytest.raises(asyncio.CancelledError):
            await close
        gate.set()
        assert await (await asyncio.wait_for(engine.resume(RUN), 60)).result(60) == 1


async def until_started(stream: AsyncGenerator[Event, None]) -> None:
    """Read a stream until an attempt begins."""
    async for event in stream:
        if event.type == "node_started":
            await asyncio.sleep(0)
            return


async def test_the_limits_of_a_run_override_only_what_they_name() -> None:
    never = threading.Event()
    async with Engine() as engine:
        flow = counting(never, limits=Limits(max_visits=5))
        for limits in (None, Limits(max_steps=1_000)):
            with pytest.raises(RunFailed, match="visited 5 times") as caught:
                await engine.execute(flow, 0, limits=limits)
            assert caught.value.cause.type == "LimitReached"
        with pytest.raises(RunFailed, match="visited 8 times"):
            await engine.execute(flow, 0, limits=Limits(max_visits=8))


async def test_a_resume_raises_the_limits_that_it_names_and_keeps_the_others() -> None:
    never = threading.Event()
    async with Engine() as engine:
        flow = counting(never, limits=Limits(max_visits=50))
        with pytest.raises(RunFailed, match="made 5 steps"):
            await engine.execute(flow, 0, run_id=RUN, limits=Limits(max_steps=5))
        with pytest.raises(RunFailed, match="made 5 steps"):
            await (await engine.resume(RUN)).result(60)
        with pytest.raises(RunFailed, match="made 20 steps"):
            await (await engine.resume(RUN, limits=Limits(max_steps=20))).result(60)
        with pytest.raises(RunFailed, match="visited 50 times"):
            await engine.execute(flow, 0, run_id=RUN, limits=Limits(max_steps=1_000))
        never.set()
        assert await (await engine.resume(RUN, limits=Limits(max_visits=60))).result(60) > 40
