"""Schedules for tests: a flow that records its runs, and an engine that has a schedule for it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

from wrapped_store import WrappedStore

from beluga_graph import Context, Engine, ScheduleInfo, Workflow, step, wait_signal
from beluga_graph.testing import VirtualClock
from stores import MemoryStore

__all__ = ["BERLIN", "DAY", "HOUR", "MONDAY", "Job", "clock_at", "engine_with", "info"]

BERLIN = "Europe/Berlin"
MONDAY = datetime(2026, 11, 30, 7, 30, tzinfo=UTC)  # half past eight in Berlin
HOUR, DAY = 3600, 86_400


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
