"""A durable bus: named subscriptions catch up, dead letters are kept, processes get events of each other."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from draining import drain_as_time_passes

from beluga_graph import BusError, BusEvent, EventBus
from beluga_graph.bus import worker as bus_worker
from beluga_graph.storage.verify import verify_store
from beluga_graph.testing import VirtualClock
from stores import LMDBStore, MemoryStore
from stores.base import Put

ROOT = Path(__file__).parents[2]


class Heard(list[Any]):
    """A handler that keeps its events."""

    def __call__(self, event: BusEvent) -> None:
        self.append(event.data)


async def until(holds: Any) -> None:
    """Wait until a condition holds, for at most a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # no event announces the condition
            await asyncio.sleep(0.001)


async def test_a_name_continues_where_it_was_and_a_new_name_begins_now(tmp_path: Path) -> None:
    first, second, third, late = Heard(), Heard(), Heard(), Heard()
    async with EventBus(tmp_path) as bus:
        await bus.publish("a", 0)
        bus.subscribe("a", first, name="n")
        await bus.publish("a", 1)
        await bus.drain()
    async with EventBus(tmp_path) as bus:
        await bus.publish("a", 2)
        await bus.publish("b", 3)
    async with EventBus(tmp_path) as bus:
        bus.subscribe("a", second, name="n")
        bus.subscribe("a", third)
        bus.subscribe("**", late, name="late", from_start=True)
        await bus.publish("a", 4)
        await bus.drain()
    assert (first, second, third, late) == ([1], [2, 4], [4], [0, 1, 2, 3, 4])


async def test_an_event_whose_handler_did_not_return_comes_again(tmp_path: Path) -> None:
    begun: list[int] = []

    async def hang(event: BusEvent) -> None:
        begun.append(event.data)
        await asyncio.Event().wait()

    async with EventBus(tmp_path) as bus:
        bus.subscribe("a", hang, name="n")
        await bus.publish("a", 1)
        await until(lambda: begun)
    heard = Heard()
    async with EventBus(tmp_path) as bus:
        bus.subscribe("a", heard, name="n")
        await bus.drain()
        await bus.drain()
    assert (begun, heard) == ([1], [1])


async def test_a_cursor_far_behind_moves_past_events_of_other_topics(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bus_worker, "_FAR", 10)
    async with EventBus(tmp_path) as bus:
        bus.subscribe("a", print, name="n")
        await asyncio.gather(*(bus.publish("b") for _ in range(100)))
        await bus.drain()
    async with EventBus(tmp_path) as bus:
        cursor = bus._log.cursor("n")
        assert cursor is not None
        assert cursor.position >= 64


async def test_a_handler_that_always_raises_is_tried_five_times_and_leaves_a_dead_letter() -> None:
    store, clock = MemoryStore(), VirtualClock()
    tried: list[tuple[int, int]] = []

    async def refuse(event: BusEvent) -> None:
        tried.append((event.data, clock.now_ms()))
        if event.data == 1:
            raise ValueError("not this one")

    async with EventBus(store, clock=clock) as bus:
        subscription = bus.subscribe("a", refuse, name="n")
        for number in range(3):
            await bus.publish("a", number)
        await drain_as_time_passes(bus, clock)
        (letter,) = await bus.dead_letters("n")
        assert letter.event is not None
        assert (letter.subscription, letter.event.data, letter.error, letter.tries) == (
            "n",
            1,
            "ValueError: not this one",
            5,
        )
        assert [number for number, _ in tried] == [0, 1, 1, 1, 1, 1, 2]
        times = [at for number, at in tried if number == 1]
        assert [after - before for before, after in pairwise(times)] == [50, 100, 200, 400]
        assert subscription.errors == 5
        assert await bus.dead_letters("m") == []
    async with EventBus(store) as again:
        assert await again.dead_letters() == [letter]


async def test_a_handler_that_recovers_leaves_no_dead_letter(tmp_path: Path) -> None:
    tried: list[int] = []

    def mend(event: BusEvent) -> None:
        tried.append(event.data)
        if len(tried) < 3:
            raise ValueError

    async with EventBus(tmp_path) as bus:
        bus.subscribe("a", mend, name="n")
        await bus.publish("a", 1)
        await bus.drain()
        assert (tried, await bus.dead_letters()) == ([1, 1, 1], [])


async def test_a_name_is_subscribed_once_at_a_time(tmp_path: Path) -> None:
    async with EventBus(tmp_path) as bus:
        first, second = Heard(), Heard()
        subscription = bus.subscribe("a", first, name="n")
        with pytest.raises(BusError, match="'n' is subscribed here"):
            bus.subscribe("b", second, name="n")
        await bus.publish("a", 1)
        await bus.drain()
        subscription.cancel()
        await bus.publish("a", 2)
        bus.subscribe("a", second, name="n")
        await bus.drain()
        assert (first, second) == ([1], [2])
        for name in ("", "x" * 201, "a\nb"):
            with pytest.raises(BusError, match="cannot name a subscription"):
                bus.subscribe("a", print, name=name)


async def test_two_buses_with_one_name_handle_each_event_at_least_once(tmp_path: Path) -> None:
    async with EventBus(tmp_path) as one, EventBus(tmp_path) as two:
        heard = Heard(), Heard()
        one.subscribe("a", heard[0], name="n")
        two.subscribe("a", heard[1], name="n")
        await asyncio.gather(*(bus.publish("a", n) for n, bus in enumerate([one, two] * 20)))
        await one.drain()
        await two.drain()
        assert sorted({*heard[0], *heard[1]}) == list(range(40))
        for each in heard:
            assert len(each) == len(set(each))
        cursor = one._log.cursor("n")
        assert cursor is not None
        assert cursor.position == 40


async def test_concurrent_buses_give_every_event_a_position_of_its_own(tmp_path: Path) -> None:
    async with EventBus(tmp_path) as one, EventBus(tmp_path) as two:
        events = await asyncio.gather(
            *(bus.publish("a", event_id=f"{n // 2}") for n, bus in enumerate([one, two] * 50))
        )
        assert {event.position for event in events} == set(range(1, 51))
        assert len({(event.id, event.position) for event in events}) == 50


CHILD = """
import asyncio, sys
from beluga_graph import EventBus

async def main():
    async with EventBus(sys.argv[1]) as bus:
        over = asyncio.Event()
        async def answer(event):
            await bus.publish("pong", event.data, agent_id="child")
            over.set()
        bus.subscribe("ping", answer, name="child")
        print("ready", flush=True)
        await asyncio.wait_for(over.wait(), 60)

asyncio.run(main())
"""


async def test_processes_handle_events_of_each_other_and_share_the_topology(tmp_path: Path) -> None:
    heard = Heard()
    with subprocess.Popen(  # noqa: ASYNC220  # it starts at once
        [sys.executable, "-W", "error", "-c", CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True, cwd=ROOT
    ) as child:
        assert child.stdout is not None
        assert (await asyncio.to_thread(child.stdout.readline)).strip() == "ready"
        async with EventBus(tmp_path) as bus:
            bus.subscribe("pong", heard)
            ping = await bus.publish("ping", 7, agent_id="parent")
            await until(lambda: heard == [7])
            assert await asyncio.to_thread(child.wait) == 0
            assert [event.topic for event in await bus.trace(ping.id)] == ["ping", "pong"]
            assert [tuple(edge) for edge in bus.observed()] == [
                ("child", "pong", "Heard"),
                ("parent", "ping", "child"),
            ]


async def test_a_damaged_event_is_reported_and_skipped(tmp_path: Path) -> None:
    heard = Heard()
    store = LMDBStore(tmp_path)
    async with EventBus(store) as bus:
        for number in range(3):
            await bus.publish("a", number)
        key = b"e" + (2).to_bytes(8, "big")
        blob = store.get(key)
        assert blob is not None
        store.commit(Put(key, blob[:-1] + b"\x07"))
        subscription = bus.subscribe("a", heard, name="n", from_start=True)
        await bus.drain()
        assert (heard, subscription.errors) == ([0, 2], 1)
        (letter,) = await bus.dead_letters()
        assert (letter.position, letter.event, letter.error[:13]) == (2, None, "DamagedRecord")
        assert [damage.where for damage in verify_store(store).damage] == [key.hex()]
    store.close()


async def test_verify_reads_every_record_of_a_bus(tmp_path: Path) -> None:
    store = LMDBStore(tmp_path)
    clock = VirtualClock()

    async def refuse(event: BusEvent) -> None:
        raise ValueError

    async with EventBus(store, clock=clock) as bus:
        bus.subscribe("a", refuse, name="n")
        await bus.publish("a", 1)
        await drain_as_time_passes(bus, clock)
    checked = verify_store(store)
    assert checked.damage == ()
    assert checked.records == {
        "bus cursors": 1,
        "bus event ids": 1,
        "bus events": 1,
        "dead letters": 1,
        "index entries": 1,
        "observed edges": 2,
    }
    store.close()


async def test_a_store_that_is_closed_under_a_bus_ends_its_subscriptions() -> None:
    store = MemoryStore()
    async with EventBus(store) as bus:
        subscription = bus.subscribe("a", print)
        await bus.publish("b")
        await bus.drain()
        store.close()
        await until(lambda: subscription.cancelled)
        assert type(subscription.last_error).__name__ == "StoreClosed"


@pytest.mark.parametrize("name", [None, "n"])
async def test_close_abandons_a_handler_that_does_not_end(
    name: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(bus_worker, "_CLOSE_S", 0.01)
    store, let_go = MemoryStore(), asyncio.Event()
    begun: list[Any] = []
    before = asyncio.all_tasks()

    async def stubborn(event: BusEvent) -> None:
        begun.append(event.data)
        while not let_go.is_set():
            try:
                await let_go.wait()
            except asyncio.CancelledError:
                continue

    bus = EventBus(store)
    bus.subscribe("a", stubborn, name=name)
    for number in range(2):
        await bus.publish("a", number)
    await until(lambda: begun)
    async with asyncio.timeout(60):
        await bus.close()
    assert f"subscription {name or 'stubborn'!r}: its handler has not ended" in caplog.text
    let_go.set()
    await until(lambda: asyncio.all_tasks() == before)
    assert begun == [0]
    heard = Heard()
    async with EventBus(store) as again:
        again.subscribe("a", heard, name=name)
        await again.drain()
    assert heard == ([] if name is None else [0, 1])
