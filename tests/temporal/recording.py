"""The record of one run, without everything that may differ between engines: times, step numbers and ids of runs."""

import asyncio
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

from parity_flows import Entry

from beluga_graph import Event, Failure, RunCancelled, RunFailed, RunStatus

__all__ = ["Recorded", "record", "without_times"]

ENDS_WITHIN_S = 240.0


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """How a run went: equal for equal runs on any engine."""

    status: RunStatus
    output: Any
    """The output of a completed run, else `None`."""
    failure: Failure | None
    """The failure of a failed run."""
    raised: tuple[Any, ...]
    """The error that `Run.result` raised: the name of its class; for `RunFailed` also node, attempt and failure."""
    usage: dict[str, int]
    steps: int
    reason: str | None
    events: dict[str, list[Event]]
    """The stored events by their token, each token's in order, without times, step numbers and the run's id."""


async def record(engine: Any, entry: Entry, *, run_id: str | None = None) -> Recorded:
    """Run an entry to its end on an engine, and return its record. Raises `TimeoutError` if it does not end."""
    async with asyncio.timeout(ENDS_WITHIN_S):
        run = await engine.start(
            entry.flow(),
            entry.value,
            run_id=run_id,
            context=entry.context,
            session=entry.session,
            limits=entry.limits,
        )
        if entry.drive is not None:
            await entry.drive(engine, run)
        output, raised = await _result_of(run)
        outcome = await run.outcome()
        events: defaultdict[str, list[Event]] = defaultdict(list)
        async for event in run.events(after=0):
            if event.seq is not None:
                events[event.token].append(without_times(event))
    assert outcome.output == output
    return Recorded(
        status=outcome.status,
        output=output,
        failure=outcome.failure,
        raised=raised,
        usage=outcome.usage,
        steps=outcome.steps,
        reason=outcome.reason,
        events=dict(events),
    )


async def _result_of(run: Any) -> tuple[Any, tuple[Any, ...]]:
    """Return the output of a run, and what its `result` raised."""
    try:
        return await run.result(), ()
    except RunFailed as error:
        return None, ("RunFailed", error.node, error.attempt, error.cause)
    except RunCancelled:
        return None, ("RunCancelled",)


def without_times(event: Event) -> Event:
    """Return an event without everything that differs between two runs of a flow."""
    due_ms = None if event.due_ms is None else 0
    return replace(event, run_id="", seq=None, index=None, due_ms=due_ms)
