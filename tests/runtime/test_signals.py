"""Signals: accepted once, kept until their wait, and delivered in order, wherever they were sent."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flows_for_tests import chain, waiting, waits
from wrapped_store import RUN, WrappedStore

from beluga_graph import (
    END,
    START,
    BadSignal,
    Engine,
    Graph,
    RunConflict,
    RunFailed,
)
from beluga_graph.codec import Codec
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import encode_record
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Put

MANY = 400


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


async def test_a_signal_that_arrives_before_the_wait_begins_is_not_lost() -> None:
    gate = asyncio.Event()

    async def before(value):
        await gate.wait()
        return value

    g = Graph("g")
    g.edge(START, g.node(before))
    g.wait("w", "go")
    g.edge("before", "w")
    g.edge("w", END)
    async with Engine() as engine:
        run = await engine.start(g, 1)
        await run.signal("go", "early")
        gate.set()
        assert await run.result(timeout=60) == "early"


async def test_a_signal_to_an_inactive_run_is_delivered_when_it_continues() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.start(waiting(), 1, run_id="r")
    async with Engine(store) as engine:
        await engine.signal("r", "go", {"n": 1})
    async with Engine(store) as engine:
        assert await engine.execute(waiting(), 1, run_id="r") == {"n": 1}


async def test_signals_are_delivered_in_order_each_once() -> None:
    g = Graph("g")
    g.wait("one", "go")
    g.node(name="keep")(lambda value: [value])
    g.wait("two", "go")
    g.edge(START, "one")
    g.edge("one", "keep")
    g.edge("keep", "two")
    g.edge("two", END)
    async with Engine() as engine:
        run = await engine.start(g, 1)
        await run.signal("go", "first")
        await run.signal("go", "second")
        assert await run.result(timeout=60) == "second"
        received = [event.output async for event in run.events() if event.type == "signal"]
        assert received == ["first", "second"]


async def test_a_payload_of_another_type_is_refused_where_the_flow_is_known() -> None:
    async with Engine() as engine:
        run = await engine.start(waiting(type=int), 1, run_id="r")
        with pytest.raises(BadSignal, match="the payload of signal 'go' does not fit its wait"):
            await run.signal("go", "no number")
        await run.signal("go", "42")
        assert await run.result(timeout=60) == 42


async def test_a_payload_of_another_type_from_an_engine_without_the_flow_fails_the_wait_and_a_resume_waits_again(
    tmp_path: Path,
) -> None:
    async with Engine(tmp_path / "store") as engine, Engine(tmp_path / "store") as stranger:
        run = await engine.start(waiting(type=int), 1, run_id="r")
        await stranger.signal("r", "go", "no number")
        with pytest.raises(RunFailed, match="valid integer"):
            await run.result(timeout=60)
        run = await engine.resume("r")
        await run.signal("go", "42")
        assert await run.result(timeout=60) == 42


async def test_a_run_that_has_ended_takes_no_signal() -> None:
    async with Engine() as engine:
        await engine.execute(chain(lambda value: value), 1, run_id="r")
        with pytest.raises(RunConflict, match="it is completed: a run that has ended accepts no signal"):
            await engine.signal("r", "go")


async def test_a_signal_that_another_engine_sends_reaches_a_run_that_waits_here(tmp_path: Path) -> None:
    g = Graph("asking")
    g.wait("asked", "answer")
    g.edge(START, "asked")
    g.edge("asked", END)
    async with Engine(tmp_path / "store") as here, Engine(tmp_path / "store") as there:
        run = await here.start(g, None, run_id="r")
        await there.signal("r", "answer", "yes")
        assert await run.result(timeout=60) == "yes"
        assert not list(here.store.scan(b"D")), "and no wakeup record is left"


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


async def test_an_ended_run_has_no_wakeup_records() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(waits(1), 1, run_id=RUN)
        for i in range(20):
            await run.signal("nobody waits for it", i)
        await run.signal("s", 1)
        assert await run.result(60) == 1
    assert list(disk.scan(b"D")) == []
