"""Runs that are parked while their flow changes: the whole table of changes, on an engine with a store on disk."""

from __future__ import annotations

from pathlib import Path

import pytest
from parked_changes import CHANGES, ParkedChange
from parked_flows import HOUR

from beluga_graph import Engine, GraphChanged, Run, RunFailed
from beluga_graph.flows.flow import Flow
from beluga_graph.testing import VirtualClock

PATIENCE_S = 60.0


async def park(store: Path, change: ParkedChange, clock: VirtualClock) -> None:
    """Start a run with the old flow, and leave it where it waits."""
    async with Engine(store, clock=clock) as engine:
        run = await engine.start(change.old, "in", run_id="r")
        await clock.advance(0)
        assert await run.status() == "waiting"


async def feed(run: Run, change: ParkedChange, clock: VirtualClock) -> None:
    """Send what the run waits for, let the time pass, and compare the result."""
    for name, payload in change.signals:
        await run.signal(name, payload)
    await clock.advance(change.hours * HOUR)
    if change.failure is None:
        assert await run.result(PATIENCE_S) == change.output
        return
    with pytest.raises(RunFailed) as failed:
        await run.result(PATIENCE_S)
    assert (failed.value.node, failed.value.cause.type) == change.failure


async def resume(store: Path, flow: Flow, change: ParkedChange, clock: VirtualClock, rename: dict[str, str]) -> None:
    async with Engine(store, clock=clock) as engine:
        engine.register(flow)
        assert all(found.safe for found in await engine.difference("r", rename=rename))
        await feed(await engine.resume("r", rename=rename), change, clock)


def test_the_table_has_rows_of_each_kind() -> None:
    safe = [change for change in CHANGES if not change.refused]
    renamed = [change for change in CHANGES if change.rename]
    assert len({change.name for change in CHANGES}) == len(CHANGES)
    assert (len(safe) >= 20, len(renamed) >= 5, len(CHANGES) - len(safe) - len(renamed) >= 10) == (True, True, True)


@pytest.mark.parametrize("change", CHANGES, ids=str)
async def test_a_parked_run_goes_on_or_is_refused_as_the_table_says(tmp_path: Path, change: ParkedChange) -> None:
    clock = VirtualClock()
    await park(tmp_path, change, clock)
    if change.refused:
        async with Engine(tmp_path, clock=clock) as engine:
            engine.register(change.new)
            with pytest.raises(GraphChanged) as refused:
                await engine.resume("r")
            assert refused.value.difference == change.refused
            assert [str(found) for found in (await engine.check(change.new))["r"]] == [*change.refused]
            if change.rename:
                assert refused.value.rename == change.rename
    if change.output is not None or change.failure is not None:
        await resume(tmp_path, change.new, change, clock, change.rename)


@pytest.mark.parametrize("change", [change for change in CHANGES if change.refused], ids=str)
async def test_a_refused_run_goes_on_with_the_old_flow(tmp_path: Path, change: ParkedChange) -> None:
    clock = VirtualClock()
    await park(tmp_path, change, clock)
    async with Engine(tmp_path, clock=clock) as engine:
        engine.register(change.new)
        with pytest.raises(GraphChanged):
            await engine.resume("r")
        before = [step.seq for step in await engine.history("r")]
    async with Engine(tmp_path, clock=clock) as engine:
        engine.register(change.old)
        assert [step.seq for step in await engine.history("r")] == before
        run = await engine.resume("r")
        for signal in ("seen", "pay"):
            await run.signal(signal, "x")
        await clock.advance(HOUR)
        assert (await run.outcome()).status == "completed"
