"""Watchers of runs: a slow reader sees every stored event once, and how many live events it lost."""

import asyncio
from collections.abc import Iterator

import pytest
from flows_for_tests import chain
from wrapped_store import until

import beluga_graph.runtime.watcher
from beluga_graph import END, START, Context, Engine, Event, Graph

EVENTS, STORED = 50, 10


@pytest.fixture
def short_queues(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.runtime.watcher, "EVENTS_MOST", EVENTS)
    monkeypatch.setattr(beluga_graph.runtime.watcher, "STORED_MOST", STORED)


def talking(nodes: int, words: int) -> Graph:
    async def talk(ctx: Context, value: int) -> int:
        for word in range(words):
            ctx.emit_text(f"{word} ")
        await asyncio.sleep(0)
        return value + 1

    return chain(*[talk] * nodes)


def queued(engine: Engine) -> Iterator[int]:
    for live in engine._host.runs.actives.values():
        for watch in live.watchers:
            yield len(watch._events)


def stored(events: list[Event]) -> list[Event]:
    return [event for event in events if event.seq is not None]


@pytest.mark.usefixtures("short_queues")
@pytest.mark.parametrize("words", [0, 1, 30])
async def test_a_watcher_that_lags_sees_every_stored_event_once_and_the_number_of_lost_texts(words: int) -> None:
    nodes, most = 40, 0
    async with Engine() as engine:
        stream = engine.stream(talking(nodes, words), 0, run_id="r")
        seen = [await anext(stream)]
        while engine._host.runs.current("r") is not None:
            most = max([most, *queued(engine)])
            await asyncio.sleep(0)
        seen += [event async for event in stream]
        on_disk = [event for step in await engine.history("r") for event in step.events]
    assert most <= EVENTS + 2 * STORED + 1
    assert stored(seen) == on_disk
    live = [event for event in seen if event.type in ("text", "node_started")]
    lost = sum(event.output for event in seen if event.type == "lagged")
    assert len(live) + lost == nodes * (words + 1)
    assert lost > 0 or words < 2
    assert all(event.seq is None for event in seen if event.type == "lagged")


@pytest.mark.usefixtures("short_queues")
async def test_a_watcher_that_keeps_up_loses_nothing() -> None:
    async with Engine() as engine:
        seen = [event async for event in engine.stream(talking(40, 3), 0)]
    assert [event.type for event in seen].count("text") == 120
    assert "lagged" not in {event.type for event in seen}


@pytest.mark.usefixtures("short_queues")
async def test_a_step_with_more_events_than_a_queue_holds_is_seen_in_full() -> None:
    g = Graph("wide")
    g.wait("w", "go", timeout=3600)
    g.fan_out("out", to="w", over=lambda value: range(3 * STORED), join="in")
    g.join("in", len)
    g.edge(START, "out")
    g.edge("in", END)
    async with Engine() as engine:
        stream = engine.stream(g, 0, run_id="r")
        seen = [await anext(stream)]
        await until(lambda: engine._host.runs.head("r").status == "waiting")
        seen += [await anext(stream) for _ in range(2)]
        for _ in range(3 * STORED):
            await engine.signal("r", "go", 1)
        seen += [event async for event in stream]
        on_disk = [event for step in await engine.history("r") for event in step.events]
    assert stored(seen) == on_disk


@pytest.mark.usefixtures("short_queues")
@pytest.mark.parametrize("after", [0, 3, 17])
async def test_a_late_watcher_that_lags_begins_at_the_step_it_asked_for(after: int) -> None:
    async with Engine() as engine:
        run = await engine.start(talking(40, 5), 0, run_id="r")
        events = run.events(after=after)
        seen = [await anext(events)]
        await run.result()
        seen += [event async for event in events]
        steps = await engine.history("r")
    on_disk = [event for step in steps[after:] for event in step.events]
    assert stored(seen) == on_disk
