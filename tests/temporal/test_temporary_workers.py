"""Runs whose own workers were killed answer their callers, who may have the code of another version only."""

from __future__ import annotations

import asyncio
from secrets import token_hex
from typing import Any

import pytest
from list_bus import ListBus
from moving_flows import FLOWS, PATIENCE_S, Effects, asking, opened, until_status
from servers import Server
from temporalio.worker import Worker
from worker_child import killed_worker

from beluga_graph import RunCancelled, RunConflict, RunStatus, TemporalUnavailable
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.client import canceller, temporary_workers


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list to which each temporary worker adds its queue."""
    queues: list[str] = []

    def start(*args: Any, task_queue: str, **options: Any) -> Worker:
        queues.append(task_queue)
        return Worker(*args, task_queue=task_queue, **options)

    monkeypatch.setattr(temporary_workers, "Worker", start)
    return queues


async def leave_run(server: Server, queue: str, flow: str = "asking", bus: ListBus | None = None) -> str:
    """Start a run and kill its only worker while the run waits; return its id."""
    async with TemporalEngine(server.address, task_queue=queue, bus=bus) as engine:
        with killed_worker(server, queue, flow):
            run = await engine.start(FLOWS[flow](), 1, run_id=token_hex(8))
            await until_status(engine, run.id, "waiting")
            await until_idle(engine, run.id)
    return run.id


async def until_idle(engine: TemporalEngine, run_id: str) -> None:
    """Wait until no worker has work of a run: the server would keep it for a killed one for 10 s."""
    while True:
        found = await engine._host.workflows.read_description(run_id)
        if not found.HasField("pending_workflow_task") and not found.pending_activities:
            return
        await asyncio.sleep(0.05)


async def test_a_run_of_a_killed_worker_takes_an_answer(temporal_server: Server, started: list[str]) -> None:
    queue, effects = token_hex(4), Effects()
    async with asyncio.timeout(PATIENCE_S):
        run_id = await leave_run(temporal_server, queue)
        async with opened(temporal_server, asking(more=True), queue=queue, deps=Effects()) as engine:
            (question,) = [found for found in await engine.pending() if found.run_id == run_id]
            with pytest.raises(RunConflict, match="does not ask 'none'"):
                await engine.answer(run_id, "none", "approve")
            await engine.answer(run_id, question.id, "approve")
            assert [found for found in await engine.pending() if found.run_id == run_id] == []
            with pytest.raises(RunConflict, match="does not ask"):
                await engine.answer(run_id, question.id, "approve")
        async with opened(temporal_server, asking(), queue=queue, deps=effects) as engine:
            assert await (await engine.follow(run_id)).result() == "paid 1"
    assert len(started) == 3
    assert list(effects.keys.values()) == [1]


async def test_a_run_of_a_killed_worker_is_cancelled(temporal_server: Server, started: list[str]) -> None:
    queue = token_hex(4)
    async with asyncio.timeout(PATIENCE_S):
        run_id = await leave_run(temporal_server, queue)
        async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:  # no worker lives at all
            assert await engine.cancel(run_id) == RunStatus.cancelled
            with pytest.raises(RunCancelled):
                await (await engine.follow(run_id)).result()
    assert len(started) == 1


async def test_a_run_of_a_killed_worker_is_read(temporal_server: Server) -> None:
    queue = token_hex(4)
    async with asyncio.timeout(PATIENCE_S):
        run_id = await leave_run(temporal_server, queue)
        async with opened(temporal_server, asking(more=True), queue=queue, deps=Effects()) as engine:
            run = await engine.follow(run_id)
            assert [found.node for found in await engine.pending() if found.run_id == run_id] == ["pay"]
            assert (await engine.snapshot(run_id)).status == RunStatus.waiting
            stored = [event.type for step in await engine.history(run_id) for event in step.events]
            events = run.events()
            assert stored
            assert [(await anext(events)).type for _ in stored] == stored
            await events.aclose()


async def test_the_last_message_of_a_cancelled_run_is_sent_by_a_worker_of_another_version(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(canceller, "_ENDS_WITHIN_S", PATIENCE_S)  # the machine may be slow
    queue, bus = token_hex(4), ListBus()
    async with asyncio.timeout(PATIENCE_S):
        run_id = await leave_run(temporal_server, queue, bus=bus)
        engine = TemporalEngine(temporal_server.address, task_queue=queue, bus=bus)
        async with engine, engine.worker([asking(more=True)]):
            assert await engine.cancel(run_id) == RunStatus.cancelled
            await bus.wait_for("run.cancelled")
    assert [message.topic for message in bus.messages].count("run.cancelled") == 1


async def test_a_cancelled_run_whose_message_no_worker_can_send_ends_at_the_next_request(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, bus = token_hex(4), ListBus()
    async with asyncio.timeout(PATIENCE_S):
        run_id = await leave_run(temporal_server, queue, bus=bus)
        async with TemporalEngine(temporal_server.address, task_queue=queue, bus=bus) as engine:
            with pytest.raises(TemporalUnavailable, match=f"queue '{queue}'.* cancel the run again"):
                await engine.cancel(run_id)
            monkeypatch.setattr(canceller, "_ENDS_WITHIN_S", PATIENCE_S)
            async with engine.worker([asking(more=True)]):
                assert await engine.cancel(run_id) == RunStatus.cancelled
                await bus.wait_for("run.cancelled")
    assert [message.topic for message in bus.messages].count("run.cancelled") == 1


async def test_a_queue_has_one_temporary_worker_at_a_time_and_none_afterwards(
    temporal_server: Server, started: list[str]
) -> None:
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, asking(), deps=Effects()) as engine:
        run = await engine.start(asking(), 1, run_id=token_hex(8))
        known = await engine._host.workflows.describe(run.id)
        workers = temporary_workers.TemporaryWorkers(engine._host.workflows)
        async with workers.serve(known):
            async with workers.serve(known):
                pass
            assert (await engine._host.workflows.query(run.id, "state"))["run"]
        assert started == [known.queue]
        async with workers.serve(known):
            pass
        assert started == [known.queue] * 2
        assert workers._running == {}


async def test_a_living_worker_answers_by_itself(temporal_server: Server, started: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, asking(), deps=Effects()) as engine:
        runs = [await engine.start(asking(), 1, run_id=token_hex(8)) for _ in range(2)]
        for run in runs:
            await until_status(engine, run.id, "waiting")
        (question,) = [found for found in await engine.pending() if found.run_id == runs[0].id]
        await engine.answer(runs[0].id, question.id, "approve")
        assert await runs[0].result() == "paid 1"
        assert await runs[1].cancel() == RunStatus.cancelled
    assert started == []
