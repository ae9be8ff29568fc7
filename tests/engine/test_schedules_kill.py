"""Processes that serve schedules are killed: each due time still gets one run, and each run ends."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from contextlib import ExitStack
from datetime import datetime, timedelta
from pathlib import Path

import scheduled_child
from scheduled_child import scheduled_flow
from wrapped_store import until

from beluga_graph import Engine, RunStatus
from beluga_graph.storage.verify import verify_store

NAME = "ticks"
KILLS = 4
PATIENCE_S = 60.0


def serve(folder: Path, stack: ExitStack) -> subprocess.Popen[str]:
    """Start a process that serves, and is ended in any case."""
    command = [sys.executable, scheduled_child.__file__, str(folder)]
    process = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
    stack.callback(process.kill)
    assert process.stdout is not None
    assert process.stdout.readline() == "serving\n"
    return process


def logged(folder: Path) -> list[str]:
    """Return the ids of the runs that were executed, once for each time."""
    log = folder / "log"
    return [line.split()[0].partition("@")[2] for line in log.read_text().splitlines()] if log.exists() else []


async def test_each_due_time_gets_one_run_while_servers_are_killed(tmp_path: Path) -> None:
    with ExitStack() as stack:
        async with Engine(tmp_path / "store") as engine:
            flow = scheduled_flow(tmp_path)
            given = await engine.schedule(NAME, flow, 7, every=1, overlap="allow", catch_up="all")
        servers = [serve(tmp_path, stack) for _ in range(2)]
        for kill in range(KILLS):
            before = len(logged(tmp_path))
            await until(lambda before=before: len(logged(tmp_path)) > before)
            servers.pop(0).kill()
            if kill % 2:
                servers.pop(0).kill()  # nothing is served for a while
                servers.append(serve(tmp_path, stack))
            servers.append(serve(tmp_path, stack))
        before = len(logged(tmp_path))
        await until(lambda: len(logged(tmp_path)) > before + 2)
        async with Engine(tmp_path / "store") as engine:
            await engine.pause(NAME)
            async with asyncio.timeout(PATIENCE_S):
                while any(run.status is not RunStatus.completed for run in await engine.runs()):  # noqa: ASYNC110 - ends are not announced
                    await asyncio.sleep(0.05)
            found = sorted(run.run_id.partition("@")[2] for run in await engine.runs())
        for server in servers:
            server.terminate()
            assert server.wait(60) == 0
    assert given.next_due is not None
    times = [datetime.fromisoformat(time) for time in found]
    assert times == [given.next_due + timedelta(seconds=number) for number in range(len(times))]
    assert set(logged(tmp_path)) == set(found)
    async with Engine(tmp_path / "store") as engine:
        assert verify_store(engine.store).damage == ()
