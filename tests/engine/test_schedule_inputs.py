"""The input of a schedule reaches each run, and wrong options and errors are reported."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel
from scheduled_jobs import HOUR, Job, clock_at, info
from wrapped_store import WrappedStore, until

from beluga_graph import Engine, RunStatus, Workflow, step
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.verify import verify_store
from stores import MemoryStore
from stores.base import Op

pytestmark = pytest.mark.usefixtures("quick_looks")
FAR_EAST = timezone(timedelta(hours=14))


class Order(BaseModel):
    number: int
    day: date


async def test_the_input_is_stored_as_data_and_a_new_copy_reaches_each_run() -> None:
    clock, disk, seen = clock_at(), MemoryStore(), []

    async def work(order: Order) -> None:
        seen.append(order)

    flow = Workflow("orders", step("work", work))
    order = Order(number=1, day=date(2026, 11, 30))
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.schedule("orders", flow, order, every=HOUR)
        await clock.advance(2 * HOUR)
        assert seen == [order, order]
        assert (await info(engine)).input == order
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        assert type((await info(engine)).input).__name__ == "Unregistered"


async def test_a_large_input_is_stored_once_for_all_runs() -> None:
    clock, disk = clock_at(), MemoryStore()
    job = Job()
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.schedule("report", job.flow, "x" * 100_000, every=HOUR)
        await clock.advance(3 * HOUR)
        assert len(job.begun) == 3
        assert len(list(disk.scan(Prefix.VALUE))) == 1
    assert verify_store(disk).damage == ()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "give cron= or every=, and not both"),
        ({"cron": "* * * * *", "every": 60}, "give cron= or every=, and not both"),
        ({"cron": "0 9 * * FUN"}, "the day of the week 'FUN' is wrong"),
        ({"cron": "0 0 30 2 *"}, "is never due"),
        ({"every": 0}, "every=0: give at least one second"),
        ({"every": -5}, "every=-5: give at least one second"),
        ({"every": timedelta(0)}, "give at least one second"),
        ({"every": float("nan")}, "give at least one second"),
        ({"every": 1e300}, "give at least one second"),
        ({"every": True}, "give at least one second"),
        ({"every": 60, "timezone": "Mars"}, "there is no such time zone"),
        ({"every": 60, "start": datetime(2026, 1, 1)}, "give a datetime with a time zone"),  # noqa: DTZ001 - that is wrong
        ({"every": 10**400}, "give at least one second"),
        ({"every": 60, "start": datetime(1960, 1, 1, tzinfo=UTC)}, "give a time from 1970 to the year 2200"),
        ({"every": 60, "start": datetime(1, 1, 1, tzinfo=FAR_EAST)}, "give a time from 1970 to the year 2200"),
        ({"every": 60, "start": datetime.max.replace(tzinfo=UTC)}, "give a time from 1970 to the year 2200"),
        ({"cron": "0 0 1 1 *", "start": datetime(9990, 1, 1, tzinfo=UTC)}, "give a time from 1970 to the year 2200"),
        ({"every": 60, "jitter": -1}, "jitter=-1: give seconds, from 0 on"),
        ({"every": 60, "jitter": float("inf")}, "give seconds, from 0 on"),
        ({"every": 60, "overlap": "wait"}, "overlap='wait': give one of skip, queue, allow"),
        ({"every": 60, "catch_up": "some"}, "catch_up='some': give one of last, all, none"),
    ],
)
async def test_wrong_options_are_refused_with_the_way_out(options: dict[str, Any], complaint: str) -> None:
    async with Engine() as engine:
        with pytest.raises(ValueError, match=complaint):
            await engine.schedule("report", Job().flow, **options)
        assert await engine.schedules() == []


@pytest.mark.parametrize("name", ["", "a@b", "a/b", "a\\b", "a\nb", " ", "x" * 161])
async def test_a_wrong_name_is_refused(name: str) -> None:
    async with Engine() as engine:
        with pytest.raises(ValueError, match="does not name a schedule"):
            await engine.schedule(name, Job().flow, every=60)


async def test_the_longest_name_fits_into_the_ids_of_runs() -> None:
    job, clock = Job(), clock_at()
    async with Engine(clock=clock) as engine:
        await engine.schedule("x" * 160, job.flow, every=1.5, timezone="Australia/Lord_Howe")
        await clock.advance(2)
        assert len(job.begun) == 1
        assert await engine.status(job.begun[0]) is RunStatus.completed


async def test_an_error_of_one_schedule_does_not_hold_up_another(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beluga_graph.engine.schedule_firing._TRY_AGAIN_S", 0.01)
    job, other, clock, store = Job(), Job("other"), clock_at(), WrappedStore(MemoryStore())
    tombstone = Keys("report@2026-11-30T08:30:00+00:00").tombstone

    def refuse(ops: Sequence[Op]) -> None:
        if any(op.key == tombstone for op in ops):
            raise OSError("a passing trouble")

    async with Engine(store, clock=clock) as engine:
        await engine.schedule("report", job.flow, every=HOUR)
        await engine.schedule("second", other.flow, every=HOUR + 60)
        store.before = refuse
        await clock.advance(2 * HOUR)
        assert (job.times, other.times) == ([], ["08:31"])
        assert "a schedule was not fired and is tried again in 2 s: OSError" in caplog.text
        store.before = None
        await until(lambda: job.times == ["09:30"])
