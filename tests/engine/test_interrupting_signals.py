"""Signals that interrupt, on an engine: with stores, parked runs, resumes, changed graphs and other engines."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from beluga_graph import END, START, Engine, Graph, Retry, RunStatus
from beluga_graph.errors import BadSignal, RunFailed
from beluga_graph.testing import VirtualClock


async def hang(value: Any) -> Any:
    await asyncio.Event().wait()


def order(**more: Any) -> Graph:
    """Return a graph that ships for ever, unless it is cancelled."""
    g = Graph("order")
    g.node(name="ship")(hang)
    g.node(name="refund")(lambda reason: f"refunded: {reason}")
    g.edge(START, "ship")
    g.edge("ship", END)
    g.edge("refund", END)
    g.on_signal("ship", "cancel", "refund", **more)
    return g


async def test_the_task_of_an_interrupted_node_is_cancelled() -> None:
    begun, ended = asyncio.Event(), asyncio.Event()
    g = Graph("g")

    @g.node
    async def work(value: int) -> int:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return value

    g.edge(START, work)
    g.edge(work, END)
    g.on_signal(work, "stop", END)
    async with Engine() as engine:
        run = await engine.start(g, 1)
        await begun.wait()
        await run.signal("stop", 5)
        assert await run.result(10) == 5
        await asyncio.wait_for(ended.wait(), 10)


@pytest.mark.parametrize("durability", ["commit", "batch"])
async def test_a_signal_that_came_before_the_run_has_an_owner_interrupts_it(tmp_path: Path, durability: Any) -> None:
    async with Engine(tmp_path / "store", durability=durability) as engine:
        await engine.start(order(), 1, run_id="r")
    async with Engine(tmp_path / "store", durability=durability) as sender:
        await sender.signal("r", "cancel", "late")
    async with Engine(tmp_path / "store", durability=durability) as engine:
        engine.register(order())
        await engine.recover()
        run = await engine.resume("r")
        assert await run.result(10) == "refunded: late"


async def test_a_parked_run_is_woken_by_a_signal_that_interrupts_it(tmp_path: Path) -> None:
    g = Graph("patient")
    g.wait("answer", "answer")
    g.edge(START, "answer")
    g.edge("answer", END)
    g.on_signal(g, "enough", END)
    async with Engine(tmp_path / "store") as engine:
        run = await engine.start(g, 1)
        while (waits := await engine.inspector.waits(run.id)) is None:  # noqa: ASYNC110 - it is not announced
            await asyncio.sleep(0.01)
        assert sorted(waits.signals) == ["answer", "enough"]
        await engine.signal(run.id, "enough", "so be it")
        assert await run.result(10) == "so be it"


async def test_a_payload_that_does_not_fit_is_refused() -> None:
    async with Engine() as engine:
        run = await engine.start(order(type=str), 1)
        with pytest.raises(BadSignal, match="the payload of signal 'cancel' does not fit"):
            await run.signal("cancel", 5)
        await run.signal("cancel", "late")
        assert await run.result(10) == "refunded: late"


@pytest.mark.parametrize("wrong", [5, [int], "Unknown"])
async def test_a_type_that_is_none_is_reported_to_the_sender(wrong: Any) -> None:
    async with Engine() as engine:
        run = await engine.start(order(type=wrong), 1)
        with pytest.raises(BadSignal, match="against which no payload can be checked: correct the flow"):
            await run.signal("cancel", 5)


async def test_after_a_misfit_of_another_engine_the_resumed_run_waits_for_another_signal(tmp_path: Path) -> None:
    async with Engine(tmp_path / "store") as engine:
        await engine.start(order(type=str), 1, run_id="r")
    async with Engine(tmp_path / "store") as stranger:
        await stranger.signal("r", "cancel", 5)
    async with Engine(tmp_path / "store") as engine:
        engine.register(order(type=str))
        run = await engine.resume("r")
        with pytest.raises(RunFailed, match=r"refund\.cancel"):
            await run.result(10)
        again = await engine.resume("r")
        await again.signal("cancel", "late")
        assert await again.result(10) == "refunded: late"


async def test_an_accepted_signal_beats_a_pause_that_is_over(tmp_path: Path) -> None:
    g = Graph("g")
    g.timer("pause", 3600)
    g.edge(START, "pause")
    g.edge("pause", END)
    g.on_signal("pause", "stop", END)
    async with Engine(tmp_path / "store", clock=VirtualClock(1_000)) as engine:
        await engine.start(g, "slept", run_id="r")
        await engine.close()
    async with Engine(tmp_path / "store", clock=VirtualClock(1_000)) as sender:
        await sender.signal("r", "stop", "stopped")
    async with Engine(tmp_path / "store", clock=VirtualClock(9_000_000)) as engine:
        engine.register(g)
        run = await engine.resume("r")
        assert await run.result(10) == "stopped"


async def test_a_run_that_waits_listens_to_an_edge_that_is_added_to_its_graph(tmp_path: Path) -> None:
    def patient(*signals: str) -> Graph:
        g = Graph("patient")
        g.wait("answer", "answer")
        g.edge(START, "answer")
        g.edge("answer", END)
        for signal in signals:
            g.on_signal("answer", signal, END)
        return g

    async with Engine(tmp_path / "store") as engine:
        await engine.start(patient(), 1, run_id="r")
    async with Engine(tmp_path / "store") as engine:
        engine.register(patient("stop"))
        run = await engine.resume("r")
        await run.signal("stop", "stopped")
        assert await run.result(10) == "stopped"


async def test_a_sub_flow_that_waits_for_its_next_try_is_interrupted() -> None:
    def fail(value: Any) -> Any:
        raise ValueError(value)

    inner, g = Graph("inner"), Graph("g")
    inner.node(name="fail")(fail)
    inner.edge(START, "fail")
    inner.edge("fail", END)
    g.add(inner, retry=Retry(attempts=3, initial=3600, maximum=3600))
    g.edge(START, "inner")
    g.edge("inner", END)
    g.on_signal("inner", "stop", END)
    async with Engine() as engine:
        run = await engine.start(g, 1)
        await run.signal("stop", "stopped")
        assert await run.result(10) == "stopped"
        assert await run.status() is RunStatus.completed


async def test_a_fork_copies_an_unread_signal_that_interrupts_it(tmp_path: Path) -> None:
    async with Engine(tmp_path / "store") as engine:
        run = await engine.start(order(), 1)
        await run.signal("cancel", "late")
        await run.result(10)
        fork = await engine.fork(run.id, 1)
        await fork.signal("cancel", "again")
        assert await fork.result(10) in ("refunded: late", "refunded: again")
