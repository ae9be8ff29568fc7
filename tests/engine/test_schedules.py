"""A schedule starts one run for each due time, and can be changed, paused and dropped."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from scheduled_jobs import BERLIN, DAY, HOUR, MONDAY, Job, clock_at, engine_with, info

from beluga_graph import RunStatus, ScheduleNotFound
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.verify import verify_store
from stores import MemoryStore
from stores.base import Delete

pytestmark = pytest.mark.usefixtures("quick_looks")


# Due times.


async def test_a_run_starts_at_each_time_of_a_cron_expression_and_is_named_by_it() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, cron="0 9 * * MON-FRI", timezone=BERLIN) as engine:
        assert job.begun == []
        await clock.advance(7 * DAY)
        days = ["2026-11-30", "2026-12-01", "2026-12-02", "2026-12-03", "2026-12-04"]
        assert job.begun == [f"report@{day}T09:00:00+01:00" for day in days]
        assert job.inputs == [7] * 5
        assert await engine.status(job.begun[-1]) is RunStatus.completed
        found = await info(engine)
        assert found.last_run == job.begun[-1]
        assert found.last_due is not None
        assert found.last_due.isoformat() == "2026-12-04T09:00:00+01:00"
        assert found.next_due == datetime(2026, 12, 7, 8, tzinfo=UTC)


async def test_an_interval_counts_from_the_moment_it_was_given() -> None:
    job, clock = Job(), clock_at(MONDAY + timedelta(milliseconds=1))
    async with engine_with(job, clock, every=HOUR):
        await clock.advance(3 * HOUR + 1)
    assert job.begun == [f"report@2026-11-30T{at}:30:01+00:00" for at in ("08", "09", "10")]


async def test_an_interval_counts_from_its_start() -> None:
    job, clock = Job(), clock_at()
    start = datetime(2026, 11, 30, 12, tzinfo=UTC)
    async with engine_with(job, clock, every=timedelta(minutes=90), start=start):
        await clock.advance(8 * HOUR)
    assert job.times == ["12:00", "13:30", "15:00"]


async def test_times_before_a_schedule_was_given_are_not_due() -> None:
    job, clock = Job(), clock_at()
    start = MONDAY - timedelta(days=3)
    async with engine_with(job, clock, every=HOUR, start=start, catch_up="all"):
        await clock.advance(0)
        assert job.begun == []
        await clock.advance(HOUR)
    assert job.times == ["08:30"]


async def test_a_cron_expression_is_not_due_before_its_start() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, cron="0 * * * *", start=MONDAY + timedelta(hours=5)):
        await clock.advance(7 * HOUR)
    assert job.times == ["13:00", "14:00"]


async def test_the_jitter_delays_each_run_by_the_same_time_in_every_process_and_keeps_its_name() -> None:
    delays = []
    for _ in range(2):
        job, clock = Job(), clock_at()
        seen: list[int] = []
        async with engine_with(job, clock, every=60, jitter=3600, overlap="allow"):
            for _ in range(600):
                await clock.advance(1)
                seen += [clock.now_ms()] * (len(job.begun) - len(seen))
        assert job.begun[:2] == ["report@2026-11-30T07:31:00+00:00", "report@2026-11-30T07:32:00+00:00"]
        start_ms = round(MONDAY.timestamp() * 1000)
        delays.append([at_ms - start_ms - 60_000 * number for number, at_ms in enumerate(seen, 1)])
    assert delays[0] == delays[1]
    assert len(set(delays[0])) > 3
    assert all(0 <= delay <= 61_000 for delay in delays[0])  # never after the next due time


# Giving, changing and dropping.


async def test_a_schedule_that_is_given_again_with_the_same_rule_stays_where_it_is() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, every=HOUR) as engine:
        await clock.advance(HOUR // 2)
        before = await info(engine)
        assert await engine.schedule("report", job.flow, 7, every=timedelta(hours=1)) == before
        changed = await engine.schedule("report", job.flow, 8, every=HOUR, overlap="allow", catch_up="none")
        assert (changed.next_due, changed.overlap, changed.catch_up) == (before.next_due, "allow", "none")
        await clock.advance(HOUR // 2)
    assert (job.times, job.inputs) == (["08:30"], [8])


async def test_a_schedule_that_is_given_with_another_rule_counts_from_now_on() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, cron="0 9 * * *", timezone=BERLIN) as engine:
        await clock.advance(1200)
        found = await engine.schedule("report", job.flow, 7, every=HOUR)
        assert (found.cron, found.next_due) == (None, MONDAY + timedelta(seconds=1200 + HOUR))
        await clock.advance(HOUR)
    assert job.times == ["08:50"]


async def test_a_paused_schedule_goes_on_with_the_last_time_that_it_missed() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, cron="0 * * * *") as engine:
        await clock.advance(HOUR)
        await engine.pause("report")
        await engine.pause("report")
        await clock.advance(5 * HOUR)
        assert job.times == ["08:00"]
        assert (await info(engine)).is_paused
        await engine.schedule("report", job.flow, 9, cron="0 * * * *")  # as each start of a program does
        assert (await info(engine)).is_paused
        await engine.unpause("report")
        await clock.advance(0)
        assert job.times == ["08:00", "13:00"]
        await clock.advance(HOUR)
        assert job.times == ["08:00", "13:00", "14:00"]
        missed = (await info(engine)).last_missed
        assert missed == datetime(2026, 11, 30, 12, tzinfo=UTC)


async def test_a_dropped_schedule_starts_no_run_and_keeps_its_runs() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, every=HOUR) as engine:
        await clock.advance(HOUR)
        await engine.unschedule("report")
        await clock.advance(DAY)
        assert len(job.begun) == 1
        assert await engine.schedules() == []
        assert await engine.status(job.begun[0]) is RunStatus.completed
        for call in (engine.pause, engine.unpause, engine.unschedule):
            with pytest.raises(ScheduleNotFound, match="there is no schedule 'report'"):
                await call("report")
    kinds = {key[:1] for key, _ in engine.store.disk.scan(b"")}  # type: ignore[attr-defined]  # a wrapped store
    assert kinds.isdisjoint({Prefix.SCHEDULE, Prefix.SCHEDULE_STATE, Prefix.SCHEDULE_DUE, Prefix.SCHEDULE_QUEUED})


async def test_a_damaged_schedule_is_reported_by_every_reader_and_can_be_dropped() -> None:
    job, clock, disk = Job(), clock_at(), MemoryStore()
    async with engine_with(job, clock, disk, every=HOUR) as engine:
        (key,) = [key for key, _ in disk.scan(Prefix.SCHEDULE_STATE)]
        disk.commit(Delete(key))
        for call in (engine.schedules(), engine.pause("report"), engine.schedule("report", job.flow, 7, every=60)):
            with pytest.raises(DamagedRecord, match="schedule 'report' has no state: unschedule it"):
                await call
        assert len(verify_store(disk).damage) == 1
        await engine.unschedule("report")
        assert verify_store(disk).damage == ()
        await engine.schedule("report", job.flow, 7, every=HOUR)
        await clock.advance(HOUR)
        assert len(job.begun) == 1
