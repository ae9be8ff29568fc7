"""Parked runs on the server: rows of the table of changes of their flow, and versions of a flow side by side."""

from __future__ import annotations

import asyncio
from secrets import token_hex

import pytest
from moving_flows import PATIENCE_S, opened, until_status
from parked_changes import CHANGES, ParkedChange
from parked_flows import Wait, build
from servers import Server

from beluga_graph import GraphChanged, RunError, RunFailed
from beluga_graph.temporal import TemporalRun

ROWS = [
    "a step after the wait",
    "the next step is gone",
    "the next step is another wait",
    "a branch after the wait",
    "the next step takes another type that does not fit",
    "a wait is moved to a later place",
    "the wait is renamed",
    "the wait hears another signal",
    "the timer is a wait",
    "a signal that interrupts the wait",
    "a step after the wait in a sub-flow",
    "a step after the sub-flow",
    "the sub-flow is renamed",
    "a step after the join",
    "one branch more",
    "the join is renamed",
    "a new field with a default",
    "a new field without a default",
]


@pytest.mark.parametrize("change", [change for change in CHANGES if change.name in ROWS], ids=str)
async def test_a_parked_run_goes_on_or_is_refused_as_the_table_says(
    temporal_server: Server, change: ParkedChange
) -> None:
    queue = token_hex(4)
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, change.old, queue=queue) as old:
        run_id = (await old.start(change.old, "in", run_id=token_hex(8))).id
        await until_status(old, run_id, "waiting")
        async with opened(temporal_server, change.new, queue=queue) as new:
            if change.refused:
                with pytest.raises(GraphChanged) as refused:
                    await new.resume(run_id)
                assert refused.value.difference == change.refused
            if change.signals:
                assert not change.refused or refused.value.rename == change.rename
                await feed(await new.resume(run_id, rename=change.rename), change)
        if not change.signals:
            run = await old.resume(run_id)  # the old flow still has it
            assert await run.cancel() == "cancelled"


async def feed(run: TemporalRun, change: ParkedChange) -> None:
    """Send what the run waits for, and compare the result."""
    for name, payload in change.signals:
        await run.signal(name, payload)
    if change.failure is None:
        assert await run.result() == change.output
        return
    with pytest.raises(RunFailed) as failed:
        await run.result()
    assert (failed.value.node, failed.value.cause.type) == change.failure


def test_the_rows_are_in_the_table() -> None:
    assert len([change for change in CHANGES if change.name in ROWS]) == len(ROWS)


async def test_runs_keep_their_version_while_a_worker_serves_it(temporal_server: Server) -> None:
    queue = token_hex(4)
    one, two = (build("order", Wait("pay"), f"ship-{version}", name="shop", version=version) for version in "12")
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, one, queue=queue) as engine:
            run_id = (await engine.start(one, "in", run_id=token_hex(8))).id
            await until_status(engine, run_id, "waiting")
        async with opened(temporal_server, two, queue=queue) as engine:
            with pytest.raises(RunError, match=r"it keeps its version of the flow, 'shop@1'.*known: shop@2"):
                await engine.resume(run_id)
            with pytest.raises(RunError, match=r"it keeps its version of the flow, 'shop@1'.*known: shop@2"):
                await engine.start(two, "in", run_id=run_id)
        async with opened(temporal_server, one, two, queue=queue) as engine:
            assert {run.flow for run in await engine.runs() if run.run_id == run_id} == {"shop@1"}
            run = await engine.start(two, "in", run_id=run_id)
            newer = await engine.start(two, "in", run_id=token_hex(8))
            for started in (run, newer):
                await started.signal("pay", "paid")
            assert await run.result() == ["paid", "ship-1"]
            assert await newer.result() == ["paid", "ship-2"]
            assert [event.type async for event in engine.stream(two, "in", run_id=run_id)][-1] == "done"
