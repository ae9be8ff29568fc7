"""A schedule starts one run for each due time, and its options decide about overlaps and missed times."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import BaseModel
from wrapped_store import WrappedStore, until

import beluga_graph.engine.store_poller
from beluga_graph import Context, Engine, RunStatus, ScheduleInfo, ScheduleNotFound, Workflow, step, wait_signal
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.verify import verify_store
from beluga_graph.testing import VirtualClock
from stores import MemoryStore
from stores.base import Delete, Op

BERLIN = "Europe/Berlin"
MONDAY = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)  # half past eight in Berlin
HOUR, DAY = 3600, 86_400
FAR_EAST = timezone(timedelta(hours=14))


def clock_at(at: datetime = MONDAY) -> VirtualClock:
    return VirtualClock(round(at.timestamp() * 1000))


class Job:
    """A flow that records its runs, and the runs that are under way at a time."""

    def __init__(self, name: str = "job", *, waits: bool = False) -> None:
        self.begun: list[str] = []
        self.inputs: list[Any] = []
        parts = [step("work", self._work), *([wait_signal("go")] if waits else [])]
        self.flow = Workflow(name, *parts)

    async def _work(self, ctx: Context, value: Any) -> Any:
        self.begun.append(ctx.run_id)
        self.inputs.append(value)
        return value

    @property
    def times(self) -> list[str]:
        """The due times of the runs, without date and offset."""
        return [run_id.partition("T")[2][:5] for run_id in self.begun]


@asynccontextmanager
async def engine_with(
    job: Job, clock: VirtualClock, disk: MemoryStore | None = None, **options: Any
) -> AsyncIterator[Engine]:
    async with Engine(WrappedStore(disk or MemoryStore()), clock=clock) as engine:
        await engine.schedule("report", job.flow, 7, **options)
        yield engine


async def info(engine: Engine) -> ScheduleInfo:
    (found,) = await engine.schedules()
    return found


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.store_poller, "INTERVAL_S", 0.005)


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


# Several engines.


async def test_two_engines_start_one_run_for_each_due_time() -> None:
    jobs, clock, disk = [Job(), Job()], clock_at(), MemoryStore()
    async with (
        engine_with(jobs[0], clock, disk, every=60, overlap="allow"),
        Engine(WrappedStore(disk, shared=True), clock=clock) as second,
    ):
        second.register(jobs[1].flow)
        server = asyncio.create_task(second.serve())
        await clock.advance(HOUR)
        server.cancel()
    begun = jobs[0].begun + jobs[1].begun
    assert len(begun) == len(set(begun)) == 60
    assert verify_store(disk).damage == ()


async def test_a_server_notices_schedules_of_other_processes_and_their_changes() -> None:
    job, clock, disk = Job(), clock_at(), MemoryStore()
    async with Engine(WrappedStore(disk), clock=clock) as server:
        server.register(job.flow)
        serving = asyncio.create_task(server.serve())
        async with Engine(WrappedStore(disk), clock=clock_at()) as client:
            await client.schedule("report", job.flow, 7, every=HOUR)
        await until(lambda: server._host.firing._disarm is not None)
        await clock.advance(HOUR)
        assert job.times == ["08:30"]
        async with Engine(WrappedStore(disk), clock=clock_at()) as client:
            await client.pause("report")
        await until(lambda: server._host.firing._disarm is None)
        await clock.advance(HOUR)
        assert job.times == ["08:30"]
        serving.cancel()


async def test_a_schedule_of_an_unknown_flow_waits_and_holds_up_no_other() -> None:
    job, other, clock, disk = Job(), Job("other"), clock_at(), MemoryStore()
    async with engine_with(job, clock, disk, every=HOUR):
        pass
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.schedule("second", other.flow, None, every=2 * HOUR)
        await clock.advance(4 * HOUR)
        assert (job.times, other.times) == ([], ["09:30", "11:30"])
        assert [(found.flow, found.is_registered) for found in await engine.schedules()] == [
            ("job", False),
            ("other", True),
        ]
        engine.register(job.flow)
        await clock.advance(0)
        assert job.times == ["11:30"]


async def test_no_more_runs_are_under_way_than_a_server_allows() -> None:
    clock, disk, gate, most, under_way = clock_at(), MemoryStore(), asyncio.Event(), 0, 0

    async def work(value: int) -> int:
        nonlocal most, under_way
        under_way += 1
        most = max(most, under_way)
        await gate.wait()
        under_way -= 1
        return value

    flow = Workflow("work", step("work", work))
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        serving = asyncio.create_task(engine.serve(max_runs=2))
        await asyncio.sleep(0)
        await engine.schedule("report", flow, 1, every=60, overlap="allow", catch_up="all")
        await clock.advance(600)
        assert (most, under_way) == (2, 2)
        gate.set()
        await until(lambda: len(list(disk.scan(Prefix.RUN))) == 10)
        serving.cancel()
    assert most == 2


async def test_a_server_that_stops_starts_no_run() -> None:
    job, clock, disk = Job(), clock_at(), MemoryStore()
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.schedule("report", job.flow, 1, every=HOUR)
    await clock.advance(3 * HOUR)
    assert job.begun == []


async def test_a_run_that_has_the_id_already_is_the_run_of_its_due_time() -> None:
    job, clock = Job(), clock_at()
    async with engine_with(job, clock, every=HOUR) as engine:
        await engine.execute(job.flow, 1, run_id="report@2026-11-30T08:30:00+00:00")
        await clock.advance(HOUR)
        assert job.inputs == [1]
        assert (await info(engine)).last_run == "report@2026-11-30T08:30:00+00:00"
        await clock.advance(HOUR)
        assert job.inputs == [1, 7]


# Inputs and errors.


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
