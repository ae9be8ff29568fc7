"""A server that is killed and started again in the middle of runs: every node runs once."""

from __future__ import annotations

import asyncio
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from crash_flows import FLOWS, Effects
from crash_runs import StartedRun, until_happened
from servers import Server
from worker_processes import change_options, effects_of

from beluga_graph import TemporalUnavailable
from beluga_graph.temporal import TemporalEngine

PATIENCE_S = 400
HEARTBEAT_S = 45.0  # longer than the server is away: no attempt is taken for lost meanwhile
KILLS = 3


async def ended(run: StartedRun) -> None:
    """Return at the end of a run, however often the server goes away before."""
    while True:
        try:
            await run.run.result()
        except TemporalUnavailable:
            await asyncio.sleep(0.2)
        else:
            return


@pytest.mark.parametrize("durability", ["commit", "batch"])
async def test_a_killed_server_repeats_and_loses_nothing(
    durable_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    change_options(monkeypatch, heartbeat_s=HEARTBEAT_S)
    path = tmp_path / "effects"
    effects = Effects(path, pause=0.2)
    engine = TemporalEngine(durable_server.address, task_queue=token_hex(4), durability=durability, deps=effects)
    async with asyncio.timeout(PATIENCE_S), engine, engine.worker([flow() for flow in FLOWS.values()]):
        runs = [await StartedRun.start(engine, flow) for flow in FLOWS]
        async with asyncio.TaskGroup() as group:
            for run in runs:
                group.create_task(ended(run))
            for kill in range(KILLS):
                await until_happened(path, 8 * (kill + 1))
                durable_server.kill()
                await asyncio.to_thread(durable_server.start)
        for run in runs:
            await run.check_end()
            happened = effects_of(path)[run.run.id]
            await run.check_attempts(happened)
            assert set(happened.values()) == {1}, run.flow
