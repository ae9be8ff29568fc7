"""Worker processes for the flows of the crash tests. They may be killed, by a test or by themselves."""

from __future__ import annotations

import asyncio
import multiprocessing
import signal
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import partial
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import pytest
from crash_flows import FLOWS, Effects

import beluga_graph.temporal.activities.attempt
import beluga_graph.temporal.connection.workflow_client
import beluga_graph.temporal.worker
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.activities.progress import Progress
from beluga_graph.temporal.connection.new_execution import options_for
from beluga_graph.temporal.workflow.wire import Reply

__all__ = ["Attempt", "Job", "WorkerProcess", "change_options", "effects_of"]

Attempt = tuple[str, int]
"""Token, and number of the attempt."""

STICKY = timedelta(seconds=1)  # how long the server keeps a run for a worker that was killed

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["beluga_graph.temporal.worker"])


@dataclass(frozen=True, kw_only=True)
class Job:
    """The work of one process: it serves all flows on a task queue, and kills itself at a point if it has one.

    The points are those of `Effects`, and `finished` and `reported`: a node has returned, and its reply was added.
    """

    address: str
    queue: str
    effects: Path
    point: str = ""
    count: int = 1
    pause: float = 0.0
    grace: float = 10.0


class WorkerProcess:
    """A worker in a process of its own, which serves when this returns."""

    def __init__(self, job: Job) -> None:
        ready, ready_there = _children.Pipe(duplex=False)
        self._process = _children.Process(target=_serve, args=(job, ready_there), daemon=True)
        self._process.start()
        ready_there.close()
        with ready:
            ready.recv()

    @classmethod
    async def start(cls, job: Job) -> WorkerProcess:
        """Return a new process without blocking the loop."""
        return await asyncio.to_thread(cls, job)

    def kill(self) -> None:
        """Send SIGKILL and wait for the end."""
        self._process.kill()
        self._process.join()

    def stop(self) -> None:
        """Stop in good order, and wait for the end."""
        self._process.terminate()
        self._process.join()
        assert self._process.exitcode == 0

    async def killed_itself(self) -> None:
        """Return when the process has killed itself."""
        await asyncio.to_thread(self._process.join)
        assert self._process.exitcode == -signal.SIGKILL


def change_options(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Change the options of runs that this process starts."""
    monkeypatch.setattr(
        beluga_graph.temporal.connection.workflow_client,
        "options_for",
        lambda *args, **given: replace(options_for(*args, **given), **changes),
    )


def effects_of(path: Path) -> defaultdict[str, Counter[Attempt]]:
    """Return how often each attempt had its effect, by run."""
    found: defaultdict[str, Counter[Attempt]] = defaultdict(Counter)
    for line in path.read_text().splitlines() if path.exists() else ():
        key, attempt = line.rsplit(" ", 1)
        run_id, _, token = key.partition(":")
        found[run_id][token, int(attempt)] += 1
    return found


def _serve(job: Job, ready: Connection) -> None:
    asyncio.run(_serve_until_stopped(job, ready))


async def _serve_until_stopped(job: Job, ready: Connection) -> None:
    effects = Effects(job.effects, pause=job.pause, point=job.point, count=job.count)
    # The public API has no options for these: the first is for tests only, and the second marks two more points.
    worker = partial(beluga_graph.temporal.worker.Worker, sticky_queue_schedule_to_start_timeout=STICKY)
    beluga_graph.temporal.worker.Worker = worker  # type: ignore[assignment, misc]
    beluga_graph.temporal.activities.attempt.Progress = partial(_MarkedProgress, effects)  # type: ignore[assignment, misc]
    stopped = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stopped.set)
    engine = TemporalEngine(job.address, task_queue=job.queue, deps=effects)
    async with engine, engine.worker([flow() for flow in FLOWS.values()], grace=job.grace):
        ready.send("ready")
        ready.close()
        await stopped.wait()


class _MarkedProgress(Progress):
    def __init__(self, effects: Effects) -> None:
        super().__init__()
        self._effects = effects

    def add(self, reply: Reply) -> Reply:
        self._effects.passes("finished")
        added = super().add(reply)
        self._effects.passes("reported")
        return added
