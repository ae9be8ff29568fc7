"""Runs on the server that are continued: with a changed graph, after a failure, by their id, and to be ended."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from secrets import token_hex
from typing import Any

import pytest
from moving_flows import FLOWS, PATIENCE_S, RENAMES, Effects, asking, failing, opened, renamed, shelving, until_status
from servers import Server
from worker_child import killed_worker

from beluga_graph import (
    BadRename,
    BadRunId,
    GraphChanged,
    Limits,
    RunCancelled,
    RunConflict,
    RunError,
    RunFailed,
    RunNotFound,
    RunStatus,
    TemporalUnavailable,
)
from beluga_graph.kernel.triggers import PlanAdopted
from beluga_graph.storage.verify import verify_store
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from stores import MemoryStore


async def until_at(engine: TemporalEngine, run_id: str, node: str) -> None:
    while node not in [token.node for token in (await engine.snapshot(run_id)).tokens]:  # noqa: ASYNC110
        await asyncio.sleep(0.1)


async def expect_whole(engine: TemporalEngine, run_id: str) -> list[str]:
    """Expect that the run can be read over all its graphs; return its triggers."""
    copy = MemoryStore()
    await engine.mirror(run_id, copy)
    assert verify_store(copy).damage == ()
    assert await engine.draw(run_id, format="mermaid")
    steps = await engine.history(run_id)
    assert [step.seq for step in steps] == [*range(1, len(steps) + 1)]
    for step in steps:
        await engine.snapshot(run_id, step.seq)
    return [step.trigger for step in steps]


# A changed graph.


@pytest.mark.parametrize("at", ["work", "hear"])
async def test_a_run_of_a_killed_worker_goes_on_with_a_changed_graph(temporal_server: Server, at: str) -> None:
    queue, flow, effects = token_hex(4), "halting" if at == "work" else "waiting", Effects()
    async with asyncio.timeout(PATIENCE_S * 2):
        async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
            with killed_worker(temporal_server, queue, flow):
                run = await engine.start(FLOWS[flow](), 1, run_id=token_hex(8))
                await until_at(engine, run.id, at)
        async with opened(temporal_server, FLOWS["new"](), queue=queue, deps=effects) as engine:
            with pytest.raises(GraphChanged, match=at):
                await engine.resume(run.id)
            with pytest.raises(BadRename):
                await engine.resume(run.id, rename={"none": "now"})
            resumed = await engine.resume(run.id, rename=RENAMES)
            await until_at(engine, run.id, "heard")
            assert (await engine.resume(run.id)).id == run.id  # a second time has no effect
            await resumed.signal("go", 7)
            assert await resumed.result() == [7, 1]
            triggers = await expect_whole(engine, run.id)
            assert triggers.count("PlanAdopted") == 1
            assert [event.type async for event in resumed.events()][-1] == "done"
    assert len(effects.keys) == (2 if at == "work" else 1)


async def test_unread_signals_and_state_survive_a_change(temporal_server: Server) -> None:
    queue = token_hex(4)
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, shelving(), queue=queue, deps=Effects()) as engine:
            run = await engine.start(shelving(), "in", run_id=token_hex(8))
            await until_status(engine, run.id, "waiting")
            await run.signal("later", 1)
        async with opened(temporal_server, shelving(is_longer=True), queue=queue, deps=Effects()) as engine:
            resumed = await engine.resume(run.id)
            await resumed.signal("go", 1)
            await resumed.signal("go", 2)
            found = await resumed.result()
            assert (found["of"][0], found["of"][1], found["of"][2]["total"]) == (2, "in", 3)
            await expect_whole(engine, run.id)


async def test_old_and_new_versions_run_side_by_side(temporal_server: Server) -> None:
    queue, old_effects, new_effects = token_hex(4), Effects(), Effects()
    old, new = renamed(is_new=False, halts=False), renamed(is_new=True)
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, old, queue=queue, deps=old_effects) as one,
        opened(temporal_server, new, queue=queue, deps=new_effects) as two,
    ):
        first, third = [await one.start(old, 1, run_id=token_hex(8)) for _ in range(2)]
        second = await two.start(new, 1, run_id=token_hex(8))
        for run in (first, second, third):
            await until_status(one, run.id, "waiting")
        with pytest.raises(GraphChanged, match="earlier version"):
            await two.start(new, 1, run_id=first.id)
        await two.resume(third.id, rename=RENAMES)
        for run in (first, second, third):
            await run.signal("go", 5)
            assert await run.result() == [5, 1]
    assert {key.partition(":")[0] for key in old_effects.keys} == {first.id, third.id}
    assert sum(old_effects.keys.values()) == 3
    assert sum(new_effects.keys.values()) == 3


async def test_a_run_that_moves_on_between_judgement_and_change_is_judged_again(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, judged = token_hex(4), []
    change_graph = WorkflowClient.change_graph

    async def slow(self: WorkflowClient, plan: Any, run: Any, triggers: Any) -> bool:
        if not judged:
            await engine.signal(run.run_id, "go", 1)
            while (await self.query(run.run_id, "state"))["run"]["seq"] == run.seq:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        judged.append(run.seq)
        return await change_graph(self, plan, run, triggers)

    monkeypatch.setattr(WorkflowClient, "change_graph", slow)
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, shelving(), queue=queue, deps=Effects()) as old:
        run = await old.start(shelving(), "in", run_id=token_hex(8))
        await until_status(old, run.id, "waiting")
        async with opened(temporal_server, shelving(is_longer=True), queue=queue, deps=Effects()) as engine:
            resumed = await engine.resume(run.id)
            await resumed.signal("go", 2)
            assert (await resumed.result())["of"][0] == 2
            assert len(set(judged)) == len(judged) >= 2
            assert (await expect_whole(engine, run.id)).count("PlanAdopted") == 1


async def test_the_change_of_a_run_that_was_judged_earlier_is_refused(temporal_server: Server) -> None:
    queue = token_hex(4)
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, shelving(), shelving(is_longer=True), queue=queue, deps=Effects()) as engine,
    ):
        run = await engine.start(shelving(), "in", run_id=token_hex(8))
        await until_status(engine, run.id, "waiting")
        left = await engine._host.mirrored.replay(run.id)
        plan = shelving(is_longer=True).plan()
        left.run.seq -= 1
        assert not await engine._host.workflows.change_graph(plan, left.run, [PlanAdopted(plan.fingerprint, 0)])
        left.run.seq += 1
        found = await asyncio.gather(
            *(
                engine._host.workflows.change_graph(plan, left.run, [PlanAdopted(plan.fingerprint, 0)])
                for _ in range(3)
            ),
            return_exceptions=True,
        )
        assert found.count(True) == 1


async def test_an_engine_whose_worker_has_both_versions_changes_a_run_of_the_earlier_one(
    temporal_server: Server,
) -> None:
    flows = [shelving(), shelving(is_longer=True)]
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, *flows, deps=Effects()) as engine:
        run = await engine.start(flows[0], "in", run_id=token_hex(8))
        await until_status(engine, run.id, "waiting")
        engine.register(flows[1])
        resumed = await engine.resume(run.id)
        for payload in (1, 2):
            await resumed.signal("go", payload)
        assert (await resumed.result())["of"][0] == 2
        assert (await expect_whole(engine, run.id)).count("PlanAdopted") == 1


# A failed run.


async def test_a_failed_run_is_tried_again_once_whoever_asks(temporal_server: Server) -> None:
    queue, effects = token_hex(4), Effects("bad")
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, failing(), queue=queue, deps=effects) as engine,
        TemporalEngine(temporal_server.address, task_queue=queue) as other,
    ):
        other.register(failing())
        run = await engine.start(failing(), 1, run_id=token_hex(8))
        with pytest.raises(RunFailed):
            await run.result()
        effects.broken.clear()
        runs = await asyncio.gather(*(each.resume(run.id) for each in (engine, other) * 3))
        assert {await each.result() for each in runs} == {4}
        triggers = await expect_whole(engine, run.id)
        assert triggers.count("RunResumed") == 1
        assert [event.type async for event in run.events()][-1] == "done"
    assert sorted(effects.keys.values()) == [1, 2]


async def test_a_run_fails_and_is_resumed_several_times(temporal_server: Server) -> None:
    effects = Effects("bad")
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, failing(), deps=effects) as engine:
        run = await engine.start(failing(), 1, run_id=token_hex(8))
        for _ in range(2):
            with pytest.raises(RunFailed):
                await run.result()
            run = await engine.resume(run.id)
        with pytest.raises(RunFailed):
            await run.result()
        effects.broken.clear()
        again = await engine.start(failing(), 1, run_id=run.id)  # goes on, too
        assert await again.result() == 4
        triggers = await expect_whole(engine, run.id)
        assert triggers.count("RunResumed") == 3


async def test_limits_of_a_resumed_run_apply_to_the_rest(temporal_server: Server) -> None:
    async with asyncio.timeout(PATIENCE_S), opened(temporal_server, failing(), deps=Effects()) as engine:
        run = await engine.start(failing(), 1, run_id=token_hex(8), limits=Limits(max_steps=1))
        with pytest.raises(RunFailed, match="max_steps"):
            await run.result()
        with pytest.raises(RunFailed, match="max_steps"):
            await (await engine.resume(run.id)).result()
        assert await (await engine.resume(run.id, limits=Limits(max_steps=9))).result() == 4


async def test_a_failed_run_adopts_a_changed_graph(temporal_server: Server) -> None:
    queue, effects = token_hex(4), Effects("bad")
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, failing(), queue=queue, deps=effects) as engine:
            runs = [await engine.start(failing(), 1, run_id=token_hex(8)) for _ in range(2)]
            for run in runs:
                with pytest.raises(RunFailed):
                    await run.result()
        effects.broken.clear()
        async with opened(temporal_server, failing(more=True), queue=queue, deps=effects) as engine:
            assert await (await engine.resume(runs[0].id)).result() == [4]
            assert await (await engine.start(failing(more=True), 1, run_id=runs[1].id)).result() == [4]
            for run in runs:
                triggers = await expect_whole(engine, run.id)
                assert triggers[triggers.index("PlanAdopted") :][:2] == ["PlanAdopted", "RunResumed"]


# A known id.


async def test_a_known_id_attaches_or_is_refused(temporal_server: Server) -> None:
    flow = shelving()
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, flow, failing(), deps=Effects()) as engine,
    ):
        run = await engine.start(flow, 1, run_id=token_hex(8))
        again = await engine.start(flow, 1, run_id=run.id)
        with pytest.raises(RunConflict, match="another input"):
            await engine.start(flow, 2, run_id=run.id)
        with pytest.raises(RunConflict, match="flow 'shelving', not 'failing'"):
            await engine.start(failing(), 1, run_id=run.id)
        for payload in (1, 2):
            await again.signal("go", payload)
        output = await run.result()
        assert await engine.execute(flow, 1, run_id=run.id) == output
        with pytest.raises(RunNotFound):
            await engine.resume("none")
        with pytest.raises(RunError, match="not known here"):
            await TemporalEngine(temporal_server.address).resume(run.id)


# Ending.


async def test_every_run_can_be_ended_once(temporal_server: Server) -> None:
    effects = Effects("bad")
    halting = renamed(is_new=False)
    async with (
        asyncio.timeout(PATIENCE_S),
        opened(temporal_server, failing(), shelving(), asking(), halting, deps=effects) as engine,
    ):
        failed = await engine.start(failing(), 1, run_id=token_hex(8))
        waiting = await engine.start(shelving(), 1, run_id=token_hex(8))
        running = await engine.start(halting, 1, run_id=token_hex(8))
        with pytest.raises(RunFailed):
            await failed.result()
        await until_status(engine, waiting.id, "waiting")
        await until_at(engine, running.id, "work")
        for run in (failed, waiting, running):
            assert [await run.cancel(), await run.cancel(), await run.status()] == [RunStatus.cancelled] * 3
            with pytest.raises(RunCancelled):
                await run.result()
            assert (await run.outcome()).status == RunStatus.cancelled
            assert (await expect_whole(engine, run.id))[-1] == "CancelRequested"
            assert (await engine.resume(run.id)).id == run.id
            assert await run.status() == RunStatus.cancelled
        effects.broken.clear()
        completed = await engine.start(failing(), 5, run_id=token_hex(8))
        assert await completed.result() == 12
        assert await completed.cancel() == RunStatus.completed


async def test_a_failed_run_is_ended_without_its_code(temporal_server: Server) -> None:
    queue, effects = token_hex(4), Effects("bad")
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, failing(), queue=queue, deps=effects) as engine:
            run = await engine.start(failing(), 1, run_id=token_hex(8))
            with pytest.raises(RunFailed):
                await run.result()
        async with opened(temporal_server, asking(), queue=queue, deps=effects) as engine:
            assert await engine.cancel(run.id) == RunStatus.cancelled
            await expect_whole(engine, run.id)


# Without a worker.


async def test_a_run_without_a_worker_does_not_hang_its_callers(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("beluga_graph.temporal.connection.workflow_client.PATIENCE", timedelta(seconds=2))
    queue = token_hex(4)
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, asking(), queue=queue, deps=Effects()) as engine:
            run = await engine.start(asking(), 1, run_id=token_hex(8))
            await until_status(engine, run.id, "waiting")
            (question,) = [found for found in await engine.pending() if found.run_id == run.id]
        engine = TemporalEngine(temporal_server.address, task_queue=queue)
        version = f"queue '{queue}/{engine.register(asking()).name}:{asking().plan().fingerprint[:12]}'"
        with pytest.raises(TemporalUnavailable, match=version):
            await engine._host.workflows.query(run.id, "state")
        with pytest.raises(TemporalUnavailable, match=version):
            await engine._host.workflows.answer(run.id, question.id, b"")


async def test_a_known_id_of_a_run_that_has_ended_returns_its_output_without_a_worker(temporal_server: Server) -> None:
    queue, run_id = token_hex(4), token_hex(8)
    async with asyncio.timeout(PATIENCE_S):
        async with opened(temporal_server, failing(), queue=queue, deps=Effects()) as engine:
            output = await engine.execute(failing(), 1, run_id=run_id)
        async with opened(temporal_server, queue=queue) as engine:
            assert await engine.execute(failing(more=True), 1, run_id=run_id) == output
            with pytest.raises(RunConflict, match="input"):
                await engine.execute(failing(more=True), 2, run_id=run_id)
            with pytest.raises(TemporalUnavailable, match="no worker serves"):
                await engine.execute(failing(more=True), 1, run_id=token_hex(8))


# Ids of other workflows.


@pytest.mark.parametrize("run_id", ["outbox:order-7", "session:shop:1"])
async def test_ids_of_sessions_and_outboxes_are_no_run_ids(temporal_server: Server, run_id: str) -> None:
    async with TemporalEngine(temporal_server.address, task_queue=token_hex(4)) as engine:
        for call in (engine.start(asking(), 1, run_id=run_id), engine.cancel(run_id), engine.status(run_id)):
            with pytest.raises(BadRunId, match="are of other workflows; choose another one"):
                await call


async def test_another_workflow_of_the_id_is_not_a_run(temporal_server: Server) -> None:
    run_id = token_hex(8)
    client = await temporal_server.connect()
    other = await client.start_workflow("Other", id=run_id, task_queue=token_hex(4))
    async with TemporalEngine(temporal_server.address, task_queue=token_hex(4)) as engine:
        for call in (engine.cancel(run_id), engine.status(run_id), engine.resume(run_id)):
            with pytest.raises(RunNotFound, match="has type 'Other': it is not a run"):
                await call
        async with engine.worker([asking()]):
            with pytest.raises(RunNotFound, match="has type 'Other': it is not a run"):
                await engine.start(asking(), 1, run_id=run_id)
    await other.terminate()
