"""Races between signals, forks, ends, deadlines, outages and closes."""

import asyncio
import contextlib
import threading
from collections import Counter
from typing import Any

import pytest
from flows_for_tests import chain
from wrapped_store import RUN, Held, WrappedStore, ends, owns, steps, until

from beluga_graph import (
    END,
    START,
    Context,
    Engine,
    Graph,
    Limits,
    RunConflict,
    RunError,
    RunFailed,
    RunStatus,
)
from beluga_graph.codec import Codec
from beluga_graph.execution.context import attempt_of
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import encode_record
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Put, StoreFull

POOL = 32  # threads of an engine
BUSY_RUNS = 6
MANY = 400


def waits(count: int) -> Graph:
    """Return a chain of waits for `s`."""
    g = Graph("waits")
    names = [f"w{i}" for i in range(count)]
    for name in names:
        g.wait(name, "s")
    for source, target in zip([START, *names], [*names, END], strict=True):
        g.edge(source, target)
    return g


def two_waits(**second: Any) -> Graph:
    """Return a flow that waits for `s` in two branches at a time."""
    g = Graph("two_waits")
    g.wait("w0", "s")
    g.wait("w1", "s", **second)
    g.fan_out("fan", ["w0", "w1"], join="j")
    g.join("j")
    g.edge(START, "fan")
    g.edge("j", END)
    return g


def counting(stopped: threading.Event, **options: Any) -> Graph:
    """Return a flow that counts until it is stopped."""
    g = Graph("counting", **options)

    @g.node
    async def count(value: int) -> int:
        return value + 1

    g.edge(START, count)
    g.branch(count, lambda _: stopped.is_set(), {True: END, False: count})
    return g


@pytest.mark.parametrize("shared", [False, True])
async def test_two_signals_of_one_pass_are_both_kept_and_delivered(shared: bool) -> None:
    async with Engine(WrappedStore(MemoryStore(), shared=shared)) as engine:
        run = await engine.start(two_waits(), 1, run_id=RUN)
        await asyncio.gather(run.signal("s", "one"), run.signal("s", "two"))
        assert await run.result(60) == ["one", "two"]


async def test_a_large_signal_that_meets_a_conflict_keeps_its_value() -> None:
    disk, key = MemoryStore(), Keys(RUN).signal("s", 0)

    def quicker(ops: Any) -> None:
        if any(op.key == key for op in ops) and disk.get(key) is None:  # another process takes the position first
            disk.commit(Put(key, encode_record(key, ("s", Codec().encode("other"), 0))))

    async with Engine(WrappedStore(disk, before=quicker)) as engine:
        run = await engine.start(two_waits(), 1, run_id=RUN)
        await run.signal("s", "x" * 20_000)
        assert await run.result(60) == ["other", "x" * 20_000]


async def test_accepted_signals_beat_the_timeouts_of_every_wait() -> None:
    disk, clock = MemoryStore(), VirtualClock()
    flow = two_waits(timeout=10)
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.start(flow, 1, run_id=RUN)
    async with Engine(WrappedStore(disk), clock=clock) as sender:
        await sender.signal(RUN, "s", "one")
        await sender.signal(RUN, "s", "two")
    clock.set(clock.now_ms() + 60_000)
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        engine.register(flow)
        assert await (await engine.resume(RUN)).result(60) == ["one", "two"]


@pytest.mark.parametrize("durability", ["commit", "batch"])
async def test_many_queued_signals_are_delivered_without_deep_recursion(durability: Any) -> None:
    disk, flow = MemoryStore(), waits(MANY)
    async with Engine(WrappedStore(disk)) as engine:
        await engine.start(flow, 1, run_id=RUN)
    async with Engine(WrappedStore(disk)) as sender:
        for i in range(MANY):
            await sender.signal(RUN, "s", i)
    async with Engine(WrappedStore(disk), durability=durability) as engine:
        engine.register(flow)
        assert await (await engine.resume(RUN)).result(60) == MANY - 1


async def test_an_ended_run_has_no_doorbell_records() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(waits(1), 1, run_id=RUN)
        for i in range(20):
            await run.signal("nobody waits for it", i)
        await run.signal("s", 1)
        assert await run.result(60) == 1
    assert list(disk.scan(b"D")) == []


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
        assert (await run.outcome(5)).status is status


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
        assert let_go.wait(10)
        return value

    async with Engine() as engine:
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
        assert turns[value].wait(10)
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
        results = await run.result(10)
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
        results = await run.result(10)
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
        assert (len(ran), engine._host.runs.active) == (1, {})


async def test_a_node_that_cancels_its_own_task_stops_its_run_which_can_be_resumed() -> None:
    mended: list[bool] = []

    async def body(value: int) -> int:
        if not mended:
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return value

    async with Engine() as engine:
        run = await engine.start(chain(body), 1, run_id=RUN)
        with pytest.raises(RunError, match="the task of one of its nodes was cancelled: resume it"):
            await run.result(60)
        mended.append(True)
        assert await (await engine.resume(RUN)).result(60) == 1


@pytest.mark.parametrize("where", ["shared", "get", "scan"])
async def test_a_store_that_fails_outside_of_a_commit_stops_the_run_with_its_error(where: str) -> None:
    class Gone(WrappedStore):
        is_gone = False

        def __getattribute__(self, name: str) -> Any:
            if name == where and self.is_gone:
                raise StoreFull("x", "no address space")
            return super().__getattribute__(name)

    disk = MemoryStore()
    store = Gone(disk)
    async with Engine(store) as engine, Engine(WrappedStore(disk)) as sender:
        run = await engine.start(waits(1), 1, run_id=RUN)
        store.is_gone = True
        await sender.signal(RUN, "s", 1)
        await asyncio.wait_for(asyncio.shield(run._followers.run.done), 60)
        store.is_gone = False
        with pytest.raises(StoreFull, match="no address space"):
            await run.result(60)
        assert await (await engine.resume(RUN)).result(60) == 1


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


def failing() -> Graph:
    """Return a flow of one node that fails when its event is set."""

    async def fail(ctx: Context, value: int) -> int:
        await ctx.deps.wait()
        raise ValueError("no")

    g = Graph("failing")
    g.node(name="fail")(fail)
    g.edge(START, "fail")
    g.edge("fail", END)
    return g


@pytest.mark.parametrize("meanwhile", ["a node looks at the lease", "the doorbell is rung to cancel"])
async def test_a_trigger_between_a_failure_and_its_commit_does_not_hide_the_failure(
    meanwhile: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fails = asyncio.Event()
    async with Engine(MemoryStore(), deps=fails) as engine:
        run = await engine.start(failing(), 1, run_id=RUN)
        scheduler = engine._host.scheduler
        live, put, looks = engine._host.runs.active[RUN], scheduler.committer.put, []

        def put_beside(entry: Any, **_: Any) -> None:
            """Put the step, and make another trigger arrive in the same pass of the loop."""
            monkeypatch.setattr(scheduler.committer, "put", put)
            put(entry)
            if meanwhile == "a node looks at the lease":
                look = scheduler.commit(live, [live.claim])
                looks.append(look)
                look.send(None)
            else:
                keys = live.log.keys
                engine.store.commit(Put(keys.cancel, b"\x01"), Put(keys.wakeup, b"ring"))
                engine._host.parking._answer_wakeups()

        monkeypatch.setattr(scheduler.committer, "put", put_beside)
        monkeypatch.setattr(scheduler.committer, "put", put_beside)
        fails.set()
        with pytest.raises(RunFailed):
            await run.result(60)
        for look in looks:
            look.close()
