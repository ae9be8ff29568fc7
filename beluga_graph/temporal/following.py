"""Following: the end of a run and its events, read from the server while the run goes on there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from beluga_graph.events import Event
from beluga_graph.execution.stored_events import decode_events
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.faults import translated
from beluga_graph.temporal.mirrored_runs import MirroredRuns
from beluga_graph.temporal.watchdog import Watchdog
from beluga_graph.temporal.wire import RUN_FAILED, unpack
from beluga_graph.temporal.workflows import Workflows

__all__ = ["Follower"]

_LOOK_S = 0.05  # between two looks for new events


class Follower:
    """Waits for the ends of runs, and for their events."""

    def __init__(self, workflows: Workflows, mirrored: MirroredRuns) -> None:
        self._workflows, self._mirrored = workflows, mirrored

    async def wait_ended(self, run_id: str) -> Snapshot:
        """Wait for the end of a run; return what is known of it at its end: status, output, error, steps and usage.

        Raises `RunCancelled`, `RunNotFound`, `TemporalUnavailable`.
        """
        handle = await self._workflows.handle(run_id)
        client = await self._workflows.connection.client()
        with translated(run_id, self._workflows.connection.address):
            try:
                return _ended(run_id, unpack(await Watchdog(client, run_id).wait(handle.result())))
            except WorkflowFailureError as error:
                cause = error.cause
                if not isinstance(cause, ApplicationError) or cause.type != RUN_FAILED:
                    raise
        if cause.details:
            return _ended(run_id, unpack(cause.details[0]))
        return (await self._mirrored.replay(run_id)).run  # the failure was too large for the server

    async def events(
        self, plan: Plan, run_id: str, after: int, decode: Callable[[Value | None], Any]
    ) -> AsyncGenerator[Event, None]:
        """Yield the stored events of steps after `after`, then those to come, until the run ends."""
        while True:
            is_open = (await self._workflows.describe(run_id)).is_open
            if not is_open:
                async for event in self._mirrored.events(run_id, after):
                    yield event
                return
            page = await self._workflows.query(run_id, "events", after)
            if page["from"] > after + 1:  # an earlier execution has made the steps between
                async for event in self._mirrored.events(run_id, after, page["from"] - 1):
                    yield event
                after = page["from"] - 1
            for packed in page["steps"]:
                seq, _, events, values = unpack(packed)
                for event in decode_events(run_id, seq, events, values, decode, plan.shape.nodes):
                    yield event
                after = seq
            if not page["steps"]:
                await asyncio.sleep(_LOOK_S)


def _ended(run_id: str, end: Any) -> Snapshot:
    run = Snapshot(run_id=run_id, plan="", started_ms=0, value=b"")
    run.status, run.steps, run.usage, run.reason = end["status"], end["steps"], end["usage"], end["reason"]
    run.output, run.error = end.get("output"), end.get("error")
    return run
