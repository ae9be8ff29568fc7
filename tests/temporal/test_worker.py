"""A worker of several flows stops as one: its time of grace is that of all flows together."""

import asyncio
from secrets import token_hex

from servers import Server

from beluga_graph import Workflow, step
from beluga_graph.temporal import TemporalEngine

PATIENCE_S = 120.0


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
        walks, of_idle, of_slow = worker._workers
        while not (walks.is_shutdown and of_idle.is_shutdown):  # noqa: ASYNC110 - a stop is not announced
            await asyncio.sleep(0.05)
        assert not of_slow.is_shutdown
        gate.set()
        await stopping
        async with engine.worker([slow]):
            assert await run.result() == 2
