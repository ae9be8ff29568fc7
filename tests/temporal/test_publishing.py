"""What a run publishes on a server reaches a bus, in order, once each: the same events as on the local engine."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from secrets import token_hex
from typing import Any

import publishing_flow
import pytest
from publishing_flow import make_flow
from servers import Server

from beluga_graph import END, START, BusEvent, Context, Engine, EventBus, Graph, Retry, RunFailed
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.connection import new_execution as requests
from beluga_graph.temporal.workflow.run_options import RunOptions

TOPICS = ["run.started", "first.a", "first.b", "second", "second", "second", "run.completed"]
PATIENCE_S = 60


async def trace_of(bus: EventBus, run_id: str, count: int) -> list[BusEvent]:
    """Return the events of a run once there are as many, or as they are after a minute."""
    trace: list[BusEvent] = []
    for _ in range(PATIENCE_S * 10):
        trace = list(await bus.trace(run_id))
        if len(trace) >= count:
            break
        await asyncio.sleep(0.1)
    return trace


def shown(trace: list[BusEvent]) -> list[tuple[Any, ...]]:
    return [(event.topic, event.data, event.agent_id, event.correlation_id, event.causation_id) for event in trace]


@pytest.mark.parametrize("has_claims", [False, True])
@pytest.mark.parametrize("continue_events", [10_000, 1])
async def test_a_bus_hears_the_same_as_from_the_local_engine(
    temporal_server: Server,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    has_claims: bool,
    continue_events: int,
) -> None:
    run_id, queue = token_hex(8), token_hex(4)
    async with EventBus() as bus, Engine(bus=bus) as local:
        await local.execute(make_flow(), 1, run_id=run_id)
        expected = await trace_of(bus, run_id, len(TOPICS))
    monkeypatch.setattr(requests, "RunOptions", lambda **given: RunOptions(**given, continue_events=continue_events))
    options: dict[str, Any] = {"claims": tmp_path / "claims"} if has_claims else {}
    async with (
        EventBus(tmp_path / "bus") as bus,
        TemporalEngine(temporal_server.address, task_queue=queue, bus=bus, **options) as engine,
        engine.worker([make_flow()]),
    ):
        assert await engine.execute(make_flow(), 1, run_id=run_id) == 3
        found = await trace_of(bus, run_id, len(TOPICS))
        last = await (await temporal_server.connect()).get_workflow_handle(run_id).describe()
        has_continued = last.raw_description.workflow_execution_info.first_run_id != last.run_id
    assert has_continued is (continue_events == 1)
    assert shown(found) == shown(expected)
    assert [event.topic for event in found] == TOPICS
    assert len({event.id for event in found}) == len(TOPICS)


async def test_messages_wait_on_the_server_for_a_worker_that_has_a_bus(temporal_server: Server) -> None:
    run_id, queue = token_hex(8), token_hex(4)
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine, engine.worker([make_flow()]):
        assert await engine.execute(make_flow(), 1, run_id=run_id) == 3
    other: Graph = Graph("other")
    other.edge(START, other.node(lambda value: value, name="same"))
    other.edge("same", END)
    async with (
        EventBus() as bus,
        TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine,
        engine.worker([other]),
    ):
        found = await trace_of(bus, run_id, len(TOPICS) - 2)
    assert [event.topic for event in found] == TOPICS[1:-1]


async def test_a_failed_attempt_publishes_nothing_and_failure_and_cancel_are_announced(temporal_server: Server) -> None:
    flow: Graph = Graph("fails")
    tries: list[int] = []

    @flow.node(retry=Retry(attempts=2, initial=0.01))
    async def fail(ctx: Context, value: int) -> int:
        ctx.publish("told", len(tries))
        tries.append(value)
        raise ValueError("no")

    flow.edge(START, fail)
    flow.edge(fail, END)
    topics = ["run.started", "run.waiting", "run.failed", "run.cancelled"]
    queue = token_hex(4)
    for make_engine in (Engine, partial(TemporalEngine, temporal_server.address, task_queue=queue)):
        run_id = token_hex(8)
        async with EventBus() as bus, make_engine(bus=bus) as engine, AsyncExitStack() as stack:
            if isinstance(engine, TemporalEngine):
                await stack.enter_async_context(engine.worker([flow]))
            with pytest.raises(RunFailed):
                await engine.execute(flow, 1, run_id=run_id)
            await engine.cancel(run_id)
            found = await trace_of(bus, run_id, len(topics))
        assert [event.topic for event in found] == topics
    assert len(tries) == 4


@pytest.mark.parametrize(("dies_at", "when"), [("first.b", "before"), ("first.b", "after"), ("run.completed", "after")])
async def test_each_event_is_published_once_although_workers_are_killed(
    temporal_server: Server, tmp_path: Path, dies_at: str, when: str
) -> None:
    run_id, queue = token_hex(8), token_hex(4)
    async with (
        EventBus(tmp_path / "bus") as bus,
        TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine,
        serving(temporal_server, queue, tmp_path, dies_at, when) as doomed,
    ):
        run = await engine.start(make_flow(), 1, run_id=run_id)
        assert await asyncio.to_thread(doomed.wait, PATIENCE_S) == -signal.SIGKILL
        assert [event.topic for event in await bus.trace(run_id)].count(dies_at) == int(when == "after")
        async with serving(temporal_server, queue, tmp_path, "-", "-"):
            assert await run.result(PATIENCE_S) == 3
            found = await trace_of(bus, run_id, len(TOPICS))
    assert [event.topic for event in found] == TOPICS


@asynccontextmanager
async def serving(server: Server, queue: str, folder: Path, *dies: str) -> AsyncIterator[subprocess.Popen[bytes]]:
    """Serve the flow in a process of its own."""
    script = Path(publishing_flow.__file__)
    command = [sys.executable, str(script), server.address, queue, str(folder), *dies]
    with await asyncio.to_thread(subprocess.Popen, command, stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout is not None
            assert await asyncio.to_thread(process.stdout.readline) == b"ready\n"
            yield process
        finally:
            process.kill()
