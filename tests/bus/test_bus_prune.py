"""Pruning a bus deletes old events that all have handled, with the entries that refer to them, and no others."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from draining import drain_as_time_passes

from beluga_graph import BusClosed, BusEvent, EventBus
from beluga_graph.bus import log as bus_log
from beluga_graph.storage.verify import verify_store
from beluga_graph.testing import VirtualClock
from stores import LMDBStore, MemoryStore
from stores.base import Put, Store, StoreError

ROOT = Path(__file__).parents[2]


class Heard(list[Any]):
    """A handler that keeps its events."""

    def __call__(self, event: BusEvent) -> None:
        self.append(event.data)


def counts(store: Store, letters: str = "edtx") -> list[int]:
    """Return how many records there are of each kind."""
    return [sum(1 for _ in store.scan(letter.encode())) for letter in letters]


@pytest.fixture(params=["memory", "disk"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    """A store of each kind."""
    return MemoryStore() if request.param == "memory" else LMDBStore(tmp_path)


async def test_old_handled_events_are_deleted_with_all_entries_that_refer_to_them(store: Store) -> None:
    clock = VirtualClock()
    async with EventBus(store, clock=clock) as bus:
        heard = Heard()
        bus.subscribe("a", heard, name="n")
        for number in range(600):
            await bus.publish("a", number, correlation_id="all")
        await bus.drain()
        await clock.advance(10)
        await bus.publish("a", 600, correlation_id="all")
        await bus.drain()
        assert await bus.prune(older_than=10.001) == 0
        assert await bus.prune(older_than=10) == 600
        assert await bus.prune(older_than=10) == 0
        assert counts(store) == [1, 1, 1, 0]
        assert [event.data for event in await bus.trace("all")] == [600]
        assert (await bus.publish("a", 601)).position == 602
        await bus.drain()
        assert heard == list(range(602))
    assert verify_store(store).damage == ()
    store.close()


async def test_the_last_event_stays_so_that_no_position_is_used_twice(store: Store) -> None:
    heard = Heard()
    async with EventBus(store) as bus:
        bus.subscribe("a", heard, name="n")
        for number in range(3):
            await bus.publish("a", number)
        await bus.drain()
        assert await bus.prune(older_than=0) == 2
        assert await bus.prune(older_than=0) == 0
    async with EventBus(store) as bus:
        bus.subscribe("a", heard, name="n")
        assert (await bus.publish("a", 3)).position == 4
        await bus.drain()
    assert heard == [0, 1, 2, 3]
    store.close()


async def test_an_event_stays_while_a_named_subscription_has_to_handle_it(tmp_path: Path) -> None:
    heard, late = Heard(), Heard()
    async with EventBus(tmp_path) as bus:
        bus.subscribe("a", late, name="down")
        await bus.publish("a", 0)
        await bus.drain()
    async with EventBus(tmp_path) as bus, EventBus(tmp_path) as other:
        bus.subscribe("a", heard, name="here")
        for number in range(1, 4):
            await bus.publish("a", number)
        await bus.drain()
        for each in (bus, other):
            assert await each.prune(older_than=0) == (1 if each is bus else 0)
        bus.subscribe("a", late, name="down")
        await bus.drain()
        assert await other.prune(older_than=0) == 2
    assert (heard, late) == ([1, 2, 3], [0, 1, 2, 3])


async def test_an_event_stays_while_an_unnamed_subscription_has_to_handle_it(store: Store) -> None:
    go_on = asyncio.Event()
    heard: list[int] = []

    async def slow(event: BusEvent) -> None:
        await go_on.wait()
        heard.append(event.data)

    async with EventBus(store) as bus:
        bus.subscribe("a", slow)
        for number in range(4):
            await bus.publish("a", number)
        assert await bus.prune(older_than=0) == 0
        go_on.set()
        await bus.drain()
        assert await bus.prune(older_than=0) == 3
    assert heard == [0, 1, 2, 3]
    store.close()


async def test_a_name_subscribed_to_other_topics_keeps_no_event(store: Store) -> None:
    async with EventBus(store) as bus:
        bus.subscribe("rare", print, name="idle")
        for number in range(20):
            await bus.publish("a", number)
        await bus.drain()
        assert await bus.prune(older_than=0) == 19
    store.close()


async def test_dead_letters_are_deleted_with_their_event(store: Store) -> None:
    clock = VirtualClock()

    async def refuse(event: BusEvent) -> None:
        raise ValueError

    async with EventBus(store, clock=clock) as bus:
        bus.subscribe("a", refuse, name="n")
        bus.subscribe("a", refuse, name="m")
        for number in range(2):
            await bus.publish("a", number)
        await drain_as_time_passes(bus, clock)
        assert counts(store, "x") == [4]
        assert await bus.prune(older_than=0) == 1
        assert [letter.position for letter in await bus.dead_letters()] == [2, 2]
    assert verify_store(store).damage == ()
    store.close()


async def test_publishing_under_the_id_of_a_pruned_event_makes_a_new_event(store: Store) -> None:
    async with EventBus(store) as bus:
        for name in ("x", "y"):
            await bus.publish("a", 1, event_id=name)
        assert await bus.prune(older_than=0) == 1
        again = await bus.publish("a", 2, event_id="x")
        assert (again.position, again.data) == (3, 2)
        assert (await bus.publish("a", 3, event_id="x")).position == 3
        assert await bus.prune(older_than=0) == 1
        assert counts(store) == [1, 1, 1, 0]
    store.close()


async def test_a_bus_in_memory_does_not_forget_an_id_for_an_event_that_was_pruned(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus_log, "REMEMBERED", 4)
    monkeypatch.setattr(bus_log, "_SLACK", 2)
    async with EventBus() as bus:
        for name in ("x", "y"):
            await bus.publish("a", 1, event_id=name)
        assert await bus.prune(older_than=0) == 1
        await bus.publish("a", 2, event_id="x")
        for _ in range(3):
            await bus.publish("a")
        assert (await bus.publish("a", 3, event_id="x")).position == 3


async def test_a_damaged_event_stays_and_keeps_no_other(tmp_path: Path) -> None:
    store = LMDBStore(tmp_path)
    async with EventBus(store) as bus:
        for number in range(4):
            await bus.publish("a", number)
        key = b"e" + (2).to_bytes(8, "big")
        store.commit(Put(key, b"damage"))
        assert await bus.prune(older_than=0) == 2
        assert [damage.where for damage in verify_store(store).damage] == [key.hex()]
    store.close()


async def test_concurrent_prunes_count_each_event_once(tmp_path: Path) -> None:
    async with EventBus(tmp_path) as one, EventBus(tmp_path) as two:
        await asyncio.gather(*(one.publish("a", number) for number in range(1000)))
        assert (
            sum(await asyncio.gather(one.prune(older_than=0), two.prune(older_than=0), one.prune(older_than=0))) == 999
        )
        assert counts(one.store) == [1, 1, 1, 0]


CHILD = """
import asyncio, os, signal, sys
from beluga_graph import EventBus
from stores import LMDBStore

class Dying(LMDBStore):
    def commit(self, *ops):
        super().commit(*ops)
        if len(ops) > 500:
            os.kill(os.getpid(), signal.SIGKILL)

async def main():
    async with EventBus(Dying(sys.argv[1])) as bus:
        await bus.prune(older_than=0)

asyncio.run(main())
"""


async def test_the_next_call_finishes_a_prune_that_was_killed(tmp_path: Path) -> None:
    async with EventBus(tmp_path) as bus:
        await asyncio.gather(*(bus.publish("a", number) for number in range(1000)))
    done = subprocess.run([sys.executable, "-c", CHILD, str(tmp_path)], cwd=ROOT, check=False)  # noqa: ASYNC221  # no other task runs
    assert done.returncode == -signal.SIGKILL
    store = LMDBStore(tmp_path)
    events, *others = counts(store)
    assert 1 < events < 1000
    assert others == [events, events, 0]
    assert verify_store(store).damage == ()
    async with EventBus(store) as bus:
        assert await bus.prune(older_than=0) == events - 1
    assert counts(store) == [1, 1, 1, 0]
    store.close()


async def test_prune_raises_the_error_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    store = MemoryStore()
    async with EventBus(store) as bus:
        for _ in range(3):
            await bus.publish("a")

        def refuse(*ops: Any) -> None:
            raise StoreError("no")

        with monkeypatch.context() as patched:
            patched.setattr(store, "commit", refuse)
            with pytest.raises(StoreError):
                await bus.prune(older_than=0)
        assert await bus.prune(older_than=0) == 2


@pytest.mark.parametrize("older_than", [-1, float("nan"), float("inf")])
async def test_an_invalid_age_is_refused(older_than: float) -> None:
    async with EventBus() as bus:
        with pytest.raises(ValueError, match="give seconds, from 0 on"):
            await bus.prune(older_than=older_than)
    with pytest.raises(BusClosed):
        await bus.prune(older_than=0)
