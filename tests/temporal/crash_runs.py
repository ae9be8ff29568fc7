"""Runs of the flows of the crash tests on a server, and what they must end like."""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from crash_flows import FLOWS, INPUT, Effects
from recording import without_times
from worker_processes import Attempt, effects_of

from beluga_graph import Engine, Event, Limits
from beluga_graph.temporal import TemporalEngine, TemporalRun
from stores import MemoryStore

__all__ = ["StartedRun", "undisturbed", "until_happened"]


class Expected(NamedTuple):
    output: Any
    attempts: set[Attempt]
    events: dict[str, list[Event]]


@cache
def undisturbed(flow: str) -> Expected:
    """Return the end of a run on the local engine."""

    async def run() -> tuple[Any, dict[str, list[Event]]]:
        async with Engine(MemoryStore(), deps=Effects(path)) as engine:
            handle = await engine.start(FLOWS[flow](), INPUT)
            await send(flow, handle)
            return await handle.result(), await events_of(handle)

    with TemporaryDirectory() as folder:
        path = Path(folder, "effects")
        output, events = asyncio.run(run())
        (attempts,) = effects_of(path).values()
        return Expected(output, set(attempts), events)


async def send(flow: str, run: Any) -> None:
    """Send the signal that a flow waits for."""
    if flow in ("waits", "parks"):
        await run.signal("go", 40)


async def events_of(run: Any) -> dict[str, list[Event]]:
    """Return the stored events by token."""
    found: dict[str, list[Event]] = {}
    async for event in run.events():
        if event.seq is not None:
            found.setdefault(event.token, []).append(without_times(event))
    return found


@dataclass(frozen=True)
class StartedRun:
    """A run of one of the flows."""

    engine: TemporalEngine
    flow: str
    run: TemporalRun

    @classmethod
    async def start(cls, engine: TemporalEngine, flow: str, limits: Limits | None = None) -> StartedRun:
        run = await engine.start(FLOWS[flow](), INPUT, limits=limits)
        await send(flow, run)
        return cls(engine, flow, run)

    async def ended_attempts(self) -> set[Attempt]:
        """Return the attempts whose end is decided."""
        steps = await self.engine.history(self.run.id)
        return {(step.token, step.attempt) for step in steps if step.trigger in ("NodeFinished", "NodeFailed")}

    async def check_end(self) -> None:
        """Check that the run ends like an undisturbed one."""
        expected = await asyncio.to_thread(undisturbed, self.flow)
        assert await self.run.result() == expected.output, self.flow
        assert await events_of(self.run) == expected.events, self.flow

    async def check_attempts(self, happened: Counter[Attempt]) -> None:
        """Check that the attempts are those of an undisturbed run."""
        assert set(happened) == (await asyncio.to_thread(undisturbed, self.flow)).attempts, self.flow


async def until_happened(path: Path, times: int) -> None:
    """Return once there were so many effects of all runs together."""
    while sum(found.total() for found in effects_of(path).values()) < times:  # noqa: ASYNC110 - a file announces nothing
        await asyncio.sleep(0.05)
