"""Schedules whose store refuses writes, or whose records are damaged: the log says so, and no time is fired twice."""

from __future__ import annotations

import asyncio
import logging
from functools import partial

import pytest
from wrapped_store import Refused, WrappedStore, until

import beluga_graph.engine.schedule_firing
import beluga_graph.engine.store_poller
from beluga_graph import Context, Engine, Workflow, step
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage.keys import Prefix, hash16
from beluga_graph.storage.records import PRESENT, decode_record, encode_record
from beluga_graph.storage.schedule_records import iter_queues
from beluga_graph.storage.verify import verify_store
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Put, StoreFull
from stores.base import Op

HOUR = 3600
FULL = StoreFull("here", "no space left on device")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.store_poller, "INTERVAL_S", 0.005)
    monkeypatch.setattr(beluga_graph.engine.schedule_firing, "_TRY_AGAIN_S", 0.01)


def counting(begun: list[str]) -> Workflow:
    async def work(ctx: Context, value: int) -> int:
        begun.append(ctx.run_id)
        return value

    return Workflow("job", step("first", work))


async def test_each_outage_is_logged_once_and_its_due_time_starts_one_run(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[str] = []
    refused: list[object] = []
    store, clock = WrappedStore(MemoryStore()), VirtualClock()

    def refuse(ops: object) -> None:
        refused.append(ops)
        raise FULL

    async with Engine(store, clock=clock) as engine:
        await engine.schedule("report", counting(begun), 7, every=HOUR)
        for outage in (1, 2, 3):
            store.before = refuse
            await clock.advance(HOUR)
            await until(lambda: len(refused) > 9)
            assert len(begun) == outage - 1
            assert caplog.text.count("a schedule was not fired") == outage
            refused.clear()
            store.before = None
            await until(partial(lambda count: len(begun) == count, outage))
    assert len(set(begun)) == 3


async def test_the_log_names_a_run_of_a_schedule_that_the_store_has_stopped(caplog: pytest.LogCaptureFixture) -> None:
    begun: list[str] = []
    store, clock = WrappedStore(MemoryStore()), VirtualClock()
    async with Engine(store, clock=clock) as engine:
        await engine.schedule("report", counting(begun), 7, every=HOUR)

        def finishes(ops: object) -> bool:
            return bool(begun)

        store.before = Refused(finishes, FULL)
        await clock.advance(HOUR)
        await until(lambda: "of a schedule was stopped" in caplog.text)
        (record,) = [record for record in caplog.records if record.levelno == logging.WARNING]
        assert begun[0] in record.getMessage()
        assert "StoreFull: store 'here' is full" in record.getMessage()


@pytest.mark.parametrize("ending", [b"\xff" * 8, b"\xff" * 20, b"short", bytes(9)])
async def test_a_queued_start_without_a_time_is_reported_and_ends_with_its_schedule(
    ending: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    begun: list[str] = []
    disk, clock = MemoryStore(), VirtualClock()
    ops: list[Op] = [Put(Prefix.SCHEDULE_QUEUED + hash16("report") + ending, PRESENT)]
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.schedule("report", counting(begun), 7, every=HOUR, overlap="queue")
        disk.commit(*ops)
        assert list(iter_queues(disk)) == [hash16("report")]
        assert ["names no time" in damage.detail for damage in verify_store(disk).damage] == [True]
        async with asyncio.timeout(60):
            await until(lambda: "names no time" in caplog.text)
        assert begun == []
        await engine.unschedule("report")
        await engine.schedule("report", counting(begun), 7, every=HOUR)
        await clock.advance(HOUR)
        await until(lambda: len(begun) == 1)
    assert verify_store(disk).damage == ()


async def test_an_index_entry_of_a_due_time_that_does_not_come_keeps_no_engine_busy(
    caplog: pytest.LogCaptureFixture,
) -> None:
    begun: list[str] = []
    disk, clock = MemoryStore(), VirtualClock()
    async with asyncio.timeout(60), Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.schedule("paused", counting(begun), 7, every=HOUR)
        await engine.schedule("halved", counting(begun), 7, every=HOUR)
        due = list(disk.scan(Prefix.SCHEDULE_DUE))
        await engine.pause("paused")
        key = Prefix.SCHEDULE_STATE + hash16("halved")
        _, *others = decode_record(key, disk.get(key) or b"")
        disk.commit(*(Put(entry, PRESENT) for entry, _ in due), Put(key, encode_record(key, (None, *others))))
        await clock.advance(HOUR)
        await until(lambda: "a schedule was not fired" in caplog.text)
        with pytest.raises(DamagedRecord):
            await engine.pause("halved")
        assert begun == []
