"""The generic workflow and activity on a real server."""

import asyncio
import time
from secrets import token_hex

import pytest
from crash_flows import FLOWS, INPUT
from servers import Server
from temporalio.client import Client

from beluga_graph import Context, Engine
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import RunStarted
from beluga_graph.temporal.options import RunOptions
from beluga_graph.temporal.wire import FORMAT, WORKFLOW, pack, plain_trigger, unpack
from beluga_graph.temporal.worker import TemporalWorker, activity_queue


class Deps:
    pause = 0.0

    def happen(self, ctx: Context) -> None:
        pass


async def execute(client, flow, value, queue, **options):
    plan = flow.plan()
    run_id = token_hex(4)
    run = Snapshot(
        run_id=run_id, plan=plan.fingerprint, started_ms=time.time_ns() // 1_000_000, value=plan.encode(value)
    )
    packed = pack(
        {
            "format": FORMAT,
            "shape": plan.shape.to_plain(),
            "run": run.to_plain(),
            "triggers": [plain_trigger(RunStarted(0))],
            "items": (),
            "inbox": {},
            "session": (),
            "previous": "",
            "options": RunOptions(queue=activity_queue(queue, plan), **options).to_plain(),
        }
    )
    result = await client.execute_workflow(WORKFLOW, packed, id=run_id, task_queue=queue, result_type=bytes)
    return plan.codec.decode(unpack(result)["output"])


@pytest.mark.parametrize("options", [{}, {"ahead_ms": 50, "batch": 100}, {"continue_events": 1}], ids=str)
@pytest.mark.parametrize("name", ["chain", "loop", "branch", "nested", "retry", "state", "race"])
async def test_a_flow_gives_the_output_of_the_local_engine(temporal_server: Server, name: str, options: dict) -> None:
    flow = FLOWS[name]() if name in FLOWS else None
    if flow is None:
        pytest.fail(f"{sorted(FLOWS)}")
    async with Engine(deps=Deps()) as engine:
        expected = await engine.execute(flow, INPUT)
    client = await Client.connect(temporal_server.address)
    queue = token_hex(4)
    async with TemporalWorker(client, [flow.plan()], task_queue=queue, deps=Deps()), asyncio.timeout(60):
        assert await execute(client, flow, INPUT, queue, **options) == expected
