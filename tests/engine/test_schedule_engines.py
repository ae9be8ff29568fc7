"""One run starts for each due time, however many engines know the schedule."""

from __future__ import annotations

import asyncio

import pytest
from scheduled_jobs import HOUR, Job, clock_at, engine_with, info
from wrapped_store import WrappedStore, until

from beluga_graph import Engine, Workflow, step
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.verify import verify_store
from stores import MemoryStore

pytestmark = pytest.mark.usefixtures("quick_looks")


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
