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
from list_bus import ListBus
from publishing_flow import make_flow
from servers import Server, dev_server
from temporalio.client import WorkflowExecutionStatus
from worker_processes import change_options

from beluga_graph import END, START, BusEvent, Context, Engine, EventBus, Graph, Retry, RunFailed
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.activities import outbox
from beluga_graph.temporal.connection import new_execution as requests
from beluga_graph.temporal.workflow.run_options import RunOptions
from beluga_graph.temporal.workflow.wire import OUTBOX_WORKFLOW

TOPICS = ["run.started", "first.a", "first.b", "second", "second", "second", "run.completed"]
OUTBOXES = f"WorkflowType = '{OUTBOX_WORKFLOW}'"
PATIENCE_S = 60
HEARTBEAT_S = 3.0


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
    async with (
        EventBus() as bus,
        TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine,
        engine.worker([other_flow()]),
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


async def test_the_end_of_a_failed_run_is_announced_without_its_code(temporal_server: Server) -> None:
    flow: Graph = Graph("fails")

    @flow.node
    async def fail(value: int) -> int:
        raise ValueError("no")

    flow.edge(START, fail)
    flow.edge(fail, END)
    run_id, topics = token_hex(8), ["run.started", "run.failed", "run.cancelled"]
    async with (
        EventBus() as bus,
        TemporalEngine(temporal_server.address, task_queue=token_hex(4), bus=bus) as engine,
    ):
        async with engine.worker([flow]):
            with pytest.raises(RunFailed):
                await engine.execute(flow, 1, run_id=run_id)
        async with engine.worker([other_flow()]):
            await engine.cancel(run_id)
            found = await trace_of(bus, run_id, len(topics))
    assert [event.topic for event in found] == topics


@pytest.mark.parametrize(
    ("dies_at", "when"),
    [("first.b", "before"), ("first.b", "after"), ("run.completed", "after"), ("outbox", "ended")],
)
async def test_each_event_is_published_once_although_workers_are_killed(
    temporal_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dies_at: str, when: str
) -> None:
    change_options(monkeypatch, heartbeat_s=HEARTBEAT_S)
    run_id, queue = token_hex(8), token_hex(4)
    async with (
        EventBus(tmp_path / "bus") as bus,
        TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine,
        serving(temporal_server, queue, tmp_path, dies_at, when) as doomed,
    ):
        run = await engine.start(make_flow(), 1, run_id=run_id)
        assert await asyncio.to_thread(doomed.wait, PATIENCE_S) == -signal.SIGKILL
        if dies_at != "outbox":
            assert [event.topic for event in await bus.trace(run_id)].count(dies_at) == int(when == "after")
        async with serving(temporal_server, queue, tmp_path, "-", "-"):
            assert await run.result(PATIENCE_S) == 3
            found = await trace_of(bus, run_id, len(TOPICS))
    assert [event.topic for event in found] == TOPICS


async def test_an_outbox_keeps_a_message_once_although_the_worker_that_added_it_is_killed(
    temporal_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_options(monkeypatch, heartbeat_s=HEARTBEAT_S)
    run_id, queue, bus = token_hex(8), token_hex(4), ListBus()
    async with TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine:
        async with serving(temporal_server, queue, tmp_path, "outbox", "open") as doomed:
            run = await engine.start(make_flow(), 1, run_id=run_id)
            assert await asyncio.to_thread(doomed.wait, PATIENCE_S) == -signal.SIGKILL
        async with serving(temporal_server, queue, tmp_path, "-", "open"):
            assert await run.result(PATIENCE_S) == 3
        await wait_for_repeated_batch(temporal_server, run_id)
        async with engine.worker([make_flow()]):
            await bus.wait_for(TOPICS[-1])
    assert [message.topic for message in bus.messages] == TOPICS
    assert len({message.event_id for message in bus.messages}) == len(TOPICS)


async def test_a_changed_graph_is_adopted_although_the_worker_that_sent_messages_is_gone(
    temporal_server: Server, tmp_path: Path
) -> None:
    run_id, queue, bus = token_hex(8), token_hex(4), ListBus()
    async with (
        TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine,
        serving(temporal_server, queue, tmp_path, "outbox", "open") as doomed,
    ):
        await engine.start(make_flow(), 1, run_id=run_id)
        assert await asyncio.to_thread(doomed.wait, PATIENCE_S) == -signal.SIGKILL
    new = make_flow(second_name="renamed")
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine, engine.worker([new]):
        run = await engine.resume(run_id, rename={"second": "renamed"})
        assert await run.result(PATIENCE_S) == 3
    await wait_for_repeated_batch(temporal_server, run_id)
    async with TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine, engine.worker([new]):
        await bus.wait_for(TOPICS[-1])
    assert [message.topic for message in bus.messages] == TOPICS
    assert len({message.event_id for message in bus.messages}) == len(TOPICS)


async def test_an_outbox_without_a_bus_continues_as_new_before_its_history_is_too_long(tmp_path: Path) -> None:
    bus, steps = ListBus(), 30
    with dev_server(tmp_path, limit__historyCount__suggestContinueAsNew=20) as server:
        queue = token_hex(4)
        async with TemporalEngine(server.address, task_queue=queue) as engine, engine.worker([counting(steps)]):
            assert await engine.execute(counting(steps), 0, run_id="counts") == steps
        executions = [each async for each in (await server.connect()).list_workflows(OUTBOXES)]
        async with TemporalEngine(server.address, task_queue=queue, bus=bus) as engine, engine.worker([other_flow()]):
            await bus.wait_for(f"count.{steps}")
    assert [message.topic for message in bus.messages] == [f"count.{number + 1}" for number in range(steps)]
    assert len({each.id for each in executions}) == 1
    assert [each.status for each in executions].count(WorkflowExecutionStatus.CONTINUED_AS_NEW) > 1


@pytest.mark.parametrize(
    ("limits", "full_bytes", "refusal"),
    [
        ({"history__maximumSignalsPerExecution": 2}, 30_000_000, "exceeded workflow execution limit for signal events"),
        ({}, 0, "its messages wait for a bus: start a worker that has one"),
    ],
)
async def test_a_run_whose_outbox_is_full_ends_after_a_bus_has_its_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limits: dict[str, int], full_bytes: int, refusal: str
) -> None:
    monkeypatch.setattr(outbox, "_FULL_BYTES", full_bytes)
    bus, steps, queue = ListBus(), 5, token_hex(4)
    with dev_server(tmp_path, **limits) as server:
        async with TemporalEngine(server.address, task_queue=queue, bus=bus) as engine:
            async with TemporalEngine(server.address, task_queue=queue) as other, other.worker([counting(steps)]):
                run = await engine.start(counting(steps), 0, run_id="counts")
                await wait_for_refusal(server, run.id, refusal)
            async with engine.worker([counting(steps)]):
                assert await run.result(PATIENCE_S) == steps
                await bus.wait_for("run.completed")
    topics = [f"count.{number + 1}" for number in range(steps)]
    assert [message.topic for message in bus.messages] == ["run.started", *topics, "run.completed"]


async def wait_for_refusal(server: Server, run_id: str, refusal: str) -> None:
    """Return once an activity of a run was refused for a reason. Raises `TimeoutError`."""
    handle = (await server.connect()).get_workflow_handle(run_id)
    async with asyncio.timeout(PATIENCE_S):
        while True:
            activities = (await handle.describe()).raw_description.pending_activities
            if any(refusal in each.last_failure.message for each in activities):
                return
            await asyncio.sleep(0.1)


async def test_messages_as_large_as_a_payload_reach_a_bus_without_claims(temporal_server: Server) -> None:
    flow, count, chars = Graph("large"), 3, 1_890_000

    @flow.node
    async def publish(ctx: Context, number: int) -> None:
        ctx.publish(f"large.{number}", "x" * chars)

    flow.fan_out("split", to=publish, over=range, join=flow.join("meet", len))
    flow.edge(START, "split")
    flow.edge("meet", END)
    bus, queue = ListBus(), token_hex(4)
    async with TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine, engine.worker([flow]):
        assert await engine.execute(flow, count) == count
        await bus.wait_for("run.completed")
    large = [message for message in bus.messages if message.topic.startswith("large")]
    assert {message.topic for message in large} == {f"large.{number}" for number in range(count)}
    assert all(len(message.value) > chars for message in large)
    assert len(bus.messages) == count + 2


def counting(steps: int) -> Graph:
    """Return a flow that publishes one message in each step."""
    g: Graph = Graph("counting")

    @g.node
    async def count(ctx: Context, value: int) -> int:
        ctx.publish(f"count.{value + 1}", value)
        return value + 1

    g.edge(START, count)
    g.branch(count, lambda value: "stop" if value == steps else "again", {"stop": END, "again": count})
    return g


def other_flow() -> Graph:
    """Return a flow that publishes nothing."""
    g: Graph = Graph("other")
    g.edge(START, g.node(lambda value: value, name="same"))
    g.edge("same", END)
    return g


async def wait_for_repeated_batch(server: Server, run_id: str) -> None:
    """Wait until the outbox has got one batch twice, under one number.

    The server writes a signal into the history only after the workflow task under way. A task that a killed worker had
    ends by its time limit.
    """
    async with asyncio.timeout(PATIENCE_S):
        while True:
            added = [batch async for batch in batches_of(server, run_id)]
            if len(added) > len(set(added)):
                break
            await asyncio.sleep(0.1)
    assert len(added) == len(set(added)) + 1


async def batches_of(server: Server, run_id: str) -> AsyncIterator[bytes]:
    """Yield the batches that an outbox got, as its history has them."""
    client = await server.connect()
    async for found in client.list_workflows(OUTBOXES):
        if found.id.startswith(f"outbox:{run_id}:"):
            async for event in client.get_workflow_handle(found.id, run_id=found.run_id).fetch_history_events():
                for payload in event.workflow_execution_signaled_event_attributes.input.payloads:
                    yield payload.data


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
