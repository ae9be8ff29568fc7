"""Workers that are killed or stopped: finished nodes run once, and the result is that of an undisturbed run."""

from __future__ import annotations

import asyncio
import random
from dataclasses import replace
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from crash_flows import FLOWS, PATIENT
from crash_runs import StartedRun, undisturbed, until_happened
from servers import Server
from worker_processes import Attempt, Job, WorkerProcess, change_options, effects_of

from beluga_graph import Limits, RunFailed
from beluga_graph.temporal import TemporalEngine

PATIENCE_S = 400
HEARTBEAT_S = 3.0
ALONE = ("chain", "loop", "branch", "retry")  # flows with one token
RUNS = 50
KILLS = 8


@pytest.mark.parametrize(
    ("point", "durability"),
    [
        ("before", "commit"),
        ("inside", "commit"),
        ("finished", "commit"),
        ("reported", "commit"),
        ("inside", "batch"),
        ("reported", "batch"),
    ],
)
async def test_runs_whose_worker_is_killed_end_like_undisturbed_ones(
    temporal_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, point: str, durability: Any
) -> None:
    change_options(monkeypatch, heartbeat_s=HEARTBEAT_S)
    queue, path = token_hex(4), tmp_path / "effects"
    job = Job(address=temporal_server.address, queue=queue, effects=path, point=point, count=12)
    engine = TemporalEngine(temporal_server.address, task_queue=queue, durability=durability)
    async with asyncio.timeout(PATIENCE_S), engine:
        first = await WorkerProcess.start(job)
        runs = await asyncio.gather(*(StartedRun.start(engine, flow) for flow in FLOWS))
        await first.killed_itself()
        before, ended = effects_of(path), {run.run.id: await run.ended_attempts() for run in runs}
        second = await WorkerProcess.start(Job(address=temporal_server.address, queue=queue, effects=path))
        try:
            await asyncio.gather(*(run.check_end() for run in runs))
        finally:
            second.kill()
    for run in runs:
        happened = effects_of(path)[run.run.id]
        await run.check_attempts(happened)
        again = {attempt for attempt, times in happened.items() if times > 1}
        assert all(happened[attempt] == 2 for attempt in again), run.flow
        assert again <= set(before[run.run.id]) - ended[run.run.id], run.flow
        if durability == "commit" and run.flow in ALONE:
            assert len(again) <= 1, run.flow


@pytest.mark.parametrize("durability", ["commit", "batch"])
async def test_killing_workers_at_random_moments_changes_no_result(
    temporal_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, durability: Any
) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    change_options(monkeypatch, heartbeat_s=HEARTBEAT_S)
    queue, path = token_hex(4), tmp_path / "effects"
    job = Job(address=temporal_server.address, queue=queue, effects=path, pause=0.1)
    engine = TemporalEngine(temporal_server.address, task_queue=queue, durability=durability)
    seen: list[tuple[str, Attempt, int]] = []
    async with asyncio.timeout(PATIENCE_S), engine, asyncio.TaskGroup() as group:
        workers = list(await asyncio.gather(WorkerProcess.start(job), WorkerProcess.start(job)))
        try:
            flows = [chance.choice(list(FLOWS)) for _ in range(RUNS)]
            runs = await asyncio.gather(*(StartedRun.start(engine, flow, PATIENT) for flow in flows))
            ends = [group.create_task(run.check_end()) for run in runs]
            for _ in range(KILLS):
                await asyncio.sleep(chance.uniform(0.2, 1.5))
                assert not all(end.done() for end in ends), "the runs have ended too early: make them longer"
                workers.pop(chance.randrange(len(workers))).kill()
                sample = chance.choice(runs)
                counted = effects_of(path)[sample.run.id]
                seen += [(sample.run.id, attempt, counted[attempt]) for attempt in await sample.ended_attempts()]
                workers.append(await WorkerProcess.start(job))
            await asyncio.wait(ends)
        finally:
            for worker in workers:
                worker.kill()
    happened = effects_of(path)
    for run in runs:
        await run.check_attempts(happened[run.run.id])
    for run_id, attempt, times in seen:
        assert happened[run_id][attempt] == times, f"{attempt} ran again"


async def test_workers_that_stop_in_good_order_are_no_interruptions(temporal_server: Server, tmp_path: Path) -> None:
    queue, path, stops = token_hex(4), tmp_path / "effects", 5
    hanging = Job(address=temporal_server.address, queue=queue, effects=path, pause=3_600, grace=0)
    async with asyncio.timeout(PATIENCE_S), TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        worker = await WorkerProcess.start(hanging)
        run = await StartedRun.start(engine, "chain", Limits(max_interruptions=1))
        for stop in range(stops):
            await until_happened(path, stop + 1)
            await asyncio.to_thread(worker.stop)
            is_last = stop == stops - 1
            worker = await WorkerProcess.start(replace(hanging, pause=0) if is_last else hanging)
        await run.check_end()
        worker.kill()
    assert effects_of(path)[run.run.id]["first#1", 1] == stops + 1


async def test_a_node_that_kills_its_workers_ends_as_interrupted_and_can_be_resumed(
    temporal_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_options(monkeypatch, heartbeat_s=HEARTBEAT_S)
    queue, path = token_hex(4), tmp_path / "effects"
    job = Job(address=temporal_server.address, queue=queue, effects=path)
    async with asyncio.timeout(PATIENCE_S), TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        worker = await WorkerProcess.start(replace(job, point="inside"))
        run = await StartedRun.start(engine, "chain", Limits(max_interruptions=1))
        for again in (replace(job, point="inside"), job):
            await worker.killed_itself()
            worker = await WorkerProcess.start(again)
        with pytest.raises(RunFailed, match="Interrupted: 2 workers were lost while the node ran; max_interruptions"):
            await run.run.result()
        assert list(effects_of(path)[run.run.id].items()) == [(("first#1", 1), 2)]
        resumed = await engine.resume(run.run.id)
        assert await resumed.result() == (await asyncio.to_thread(undisturbed, "chain")).output
        worker.kill()
