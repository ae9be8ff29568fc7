"""Workers serve each flow from a queue of its own, and stop as one: the time of grace is that of all flows together."""

import asyncio
from secrets import token_hex

from servers import Server

from beluga_graph import Workflow, step
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.connection.new_execution import queue_of

PATIENCE_S = 120.0


async def test_a_run_and_its_attempts_share_a_queue_so_that_the_server_need_not_queue_the_attempts(
    temporal_server: Server,
) -> None:
    async def double(value: int) -> int:
        return value * 2

    queue, flow = token_hex(4), Workflow("doubling", step("once")(double), step("twice")(double))
    async with asyncio.timeout(PATIENCE_S), TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        async with engine.worker([flow]):
            run = await engine.start(flow, 1)
            assert await run.result() == 4
        history = await (await engine._host.workflows.handle(run.id)).fetch_history()
    began = history.events[0].workflow_execution_started_event_attributes
    scheduled = [
        event.activity_task_scheduled_event_attributes
        for event in history.events
        if event.HasField("activity_task_scheduled_event_attributes")
    ]
    assert len(scheduled) == 2
    assert {each.task_queue.name for each in (began, *scheduled)} == {queue_of(flow.plan(), queue)}


async def test_one_engine_has_several_workers_and_a_flow_may_be_given_twice(temporal_server: Server) -> None:
    async def double(value: int) -> int:
        return value * 2

    one, two = (Workflow(name, step("double")(double)) for name in ("one", "two"))
    async with asyncio.timeout(PATIENCE_S), TemporalEngine(temporal_server.address, task_queue=token_hex(4)) as engine:
        async with engine.worker([one, one]), engine.worker([two]), engine.worker([one]):
            assert [await engine.execute(flow, 1) for flow in (one, two)] == [2, 2]
        async with engine.worker([two]):
            assert await engine.execute(two, 2) == 4


async def test_a_worker_that_stops_begins_nothing_while_the_node_of_one_flow_goes_on(temporal_server: Server) -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    @step("wait")
    async def wait(value: int) -> int:
        begun.set()
        await gate.wait()
        return value + 1

    @step("other")
    async def other(value: int) -> int:
        return value

    slow, idle = Workflow("slow", wait), Workflow("idle", other)
    async with asyncio.timeout(PATIENCE_S), TemporalEngine(temporal_server.address, task_queue=token_hex(4)) as engine:
        worker = await engine.worker([idle, slow], grace=3_600).__aenter__()
        run = await engine.start(slow, 1)
        await begun.wait()
        stopping = asyncio.create_task(worker.__aexit__(None, None, None))
        shared, of_idle, of_slow = worker._workers
        while not (shared.is_shutdown and of_idle.is_shutdown):  # noqa: ASYNC110 - a stop is not announced
            await asyncio.sleep(0.05)
        assert not of_slow.is_shutdown
        gate.set()
        await stopping
        async with engine.worker([slow]):
            assert await run.result() == 2
