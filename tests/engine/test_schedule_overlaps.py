"""The options of a schedule decide about the times of an outage, and about runs that would overlap."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from scheduled_jobs import DAY, HOUR, Job, clock_at, engine_with, info
from wrapped_store import WrappedStore, until

from beluga_graph import Engine, RunStatus
from beluga_graph.storage.verify import verify_store
from stores import MemoryStore

pytestmark = pytest.mark.usefixtures("quick_looks")


# Outages.


@pytest.mark.parametrize(
    ("catch_up", "times"),
    [
        ("last", ["08:00", "12:00", "13:00"]),
        ("all", ["08:00", "09:00", "10:00", "11:00", "12:00", "13:00"]),
        ("none", ["08:00", "13:00"]),
    ],
)
async def test_the_catch_up_decides_about_the_times_of_an_outage(catch_up: Any, times: list[str]) -> None:
    job, clock, disk = Job(), clock_at(), MemoryStore()
    async with engine_with(job, clock, disk, cron="0 * * * *", catch_up=catch_up):
        await clock.advance(HOUR)
    clock.set(clock.now_ms() + 4 * HOUR * 1000)
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        engine.register(job.flow)
        await clock.advance(HOUR)
        assert job.times == times
        assert ((await info(engine)).last_missed is None) == (catch_up == "all")
    assert verify_store(disk).damage == ()


async def test_a_time_that_is_a_moment_late_is_not_missed() -> None:
    job, clock, disk = Job(), clock_at(), MemoryStore()
    async with engine_with(job, clock, disk, cron="0 * * * *", catch_up="none"):
        pass
    clock.set(clock.now_ms() + 1830 * 1000)  # half a minute after eight
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        engine.register(job.flow)
        await clock.advance(0)
    assert job.times == ["08:00"]


async def test_a_clock_that_jumps_fires_no_time_twice() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, cron="0 * * * *", catch_up="all") as engine:
        await clock.advance(2 * HOUR)
        clock.set(clock.now_ms() - 90 * 60 * 1000)
        await clock.advance(0)
        await engine.schedule("report", job.flow, 7, every=HOUR)
        await engine.schedule("report", job.flow, 7, cron="0 * * * *", catch_up="all")  # its times come once more
        await clock.advance(3 * HOUR)
    assert job.times == ["08:00", "09:00", "10:00", "11:00"]


# Overlaps.


async def test_a_time_is_skipped_while_the_previous_run_has_not_ended() -> None:
    job, clock = Job(waits=True), clock_at()
    async with engine_with(job, clock, cron="0 * * * *") as engine:
        await clock.advance(3 * HOUR)
        assert job.times == ["08:00"]
        found = await info(engine)
        assert (found.skipped, found.last_skipped, found.queued) == (2, datetime(2026, 11, 30, 10, tzinfo=UTC), 0)
        await engine.signal(job.begun[0], "go", 1)
        await clock.advance(HOUR)
    assert job.times == ["08:00", "11:00"]


async def test_queued_runs_start_one_after_the_other_in_the_order_of_their_times() -> None:
    job, clock = Job(waits=True), clock_at()
    async with engine_with(job, clock, cron="0 * * * *", overlap="queue") as engine:
        await clock.advance(4 * HOUR)
        assert (job.times, (await info(engine)).queued) == (["08:00"], 3)
        for number in range(4):
            assert len(job.begun) == number + 1
            await engine.signal(job.begun[-1], "go", 1)
            await clock.advance(0)
        assert job.times == ["08:00", "09:00", "10:00", "11:00"]
        assert (await info(engine)).queued == 0


async def test_a_queued_run_starts_when_another_process_ends_the_previous_one() -> None:
    job, clock, disk = Job(waits=True), clock_at(), MemoryStore()
    async with engine_with(job, clock, disk, cron="0 * * * *", overlap="queue") as engine:
        await clock.advance(2 * HOUR)
        await until(lambda: not engine._host.runs.actives)
        async with Engine(WrappedStore(disk), clock=clock) as other:
            assert await other.cancel(job.begun[0]) is RunStatus.cancelled
        await until(lambda: len(job.begun) == 2)


async def test_what_is_queued_waits_while_the_schedule_is_paused_and_is_dropped_with_it() -> None:
    job, clock = Job(waits=True), clock_at()
    async with engine_with(job, clock, cron="0 * * * *", overlap="queue") as engine:
        await clock.advance(3 * HOUR)
        await engine.pause("report")
        await engine.cancel(job.begun[0])
        await clock.advance(0)
        assert (len(job.begun), (await info(engine)).queued) == (1, 2)
        await engine.unpause("report")
        await clock.advance(0)
        assert (len(job.begun), (await info(engine)).queued) == (2, 1)
        await engine.unschedule("report")
        await engine.cancel(job.begun[1])
        await clock.advance(DAY)
        assert len(job.begun) == 2


async def test_a_full_queue_skips_further_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("beluga_graph.engine.schedule_decisions.QUEUE_LENGTH_MAX", 2)
    job, clock = Job(waits=True), clock_at()
    async with engine_with(job, clock, cron="0 * * * *", overlap="queue") as engine:
        await clock.advance(5 * HOUR)
        found = await info(engine)
        assert (found.queued, found.skipped) == (2, 2)


async def test_runs_overlap_where_that_is_allowed() -> None:
    job, clock = Job(waits=True), clock_at()
    async with engine_with(job, clock, cron="0 * * * *", overlap="allow"):
        await clock.advance(3 * HOUR)
    assert job.times == ["08:00", "09:00", "10:00"]
