"""A run of a local engine goes on on the server, with all that it has, and nowhere else."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from secrets import token_hex
from typing import Any

import adopt_child
import pytest
from moving_flows import LARGE, PATIENCE_S, Effects, asking, failing, opened, shelving, until_status
from servers import NAMESPACE, Server
from sessions_flows import Gate, make_desk

import beluga_graph
from beluga_graph import (
    END,
    START,
    Engine,
    Flow,
    Graph,
    GraphChanged,
    LimitReached,
    RunBusy,
    RunConflict,
    RunError,
    RunFailed,
    RunNotFound,
    RunStatus,
    TemporalUnavailable,
    Workflow,
    sleep,
)
from beluga_graph.storage.verify import verify_store
from beluga_graph.temporal import TemporalEngine
from stores import LMDBStore, MemoryStore

NAP_S = 5.0  # long enough for a run to be parked on a busy machine


async def parked(local: Engine, flow: Flow, value: Any, *signals: tuple[str, Any], run_id: str = "") -> str:
    """Let a run wait in a local engine; return its id."""
    run = await local.start(flow, value, run_id=run_id or token_hex(8))
    await until_status(local, run.id, "waiting")
    for name, payload in signals:
        await local.signal(run.id, name, payload)
    return run.id


async def moved_to(local: Engine, run_id: str) -> str:
    return next(info.moved_to for info in await local.runs() if info.run_id == run_id)


async def local_result(flow: Graph, value: Any, *signals: tuple[str, Any]) -> Any:
    async with Engine(deps=Effects()) as local:
        run = await local.start(flow, value)
        for name, payload in signals:
            await local.signal(run.id, name, payload)
        return await run.result()


@pytest.mark.parametrize("has_claims", [False, True])
async def test_a_waiting_run_goes_on_with_its_state_and_its_unread_signals(
    temporal_server: Server, tmp_path: Path, has_claims: bool
) -> None:
    flow, effects, claims = shelving(), Effects(), tmp_path / "claims" if has_claims else None
    expected = await local_result(flow, LARGE, ("go", LARGE), ("go", "two"))
    store = LMDBStore(tmp_path / "local")
    async with asyncio.timeout(PATIENCE_S), Engine(store, deps=effects) as local:
        run_id = await parked(local, flow, LARGE)
        async with opened(temporal_server, flow, claims=claims, deps=effects) as engine:
            run = await engine.adopt(local, run_id)
            assert run.id == run_id
            assert await moved_to(local, run_id) == f"temporal://{temporal_server.address}/{NAMESPACE}"
            with pytest.raises(RunConflict, match="it goes on elsewhere"):
                await local.signal(run_id, "go", 1)
            await run.signal("go", LARGE)
            await run.signal("go", "two")
            assert await run.result() == expected
            again = await engine.adopt(local, run_id)
            assert await again.result() == expected
            assert (await engine.history(run_id))[0].seq == 3
            assert [event.type async for event in run.events()][-1] == "done"
            assert await engine.draw(run_id)
            copy = MemoryStore()
            await engine.mirror(run_id, copy)
            assert verify_store(copy).damage == ()
            assert (await Engine(copy).snapshot(run_id)).state["books"] == expected[2]["books"]
    assert set(effects.keys.values()) == {1}
    assert len(effects.keys) == 3


async def test_unread_signals_and_other_items_go_along(temporal_server: Server) -> None:
    flow, store = shelving(), MemoryStore()
    async with asyncio.timeout(PATIENCE_S), Engine(store, deps=Effects()) as local:
        run_id = await parked(local, flow, 1)
    async with asyncio.timeout(PATIENCE_S), Engine(store, deps=Effects()) as local:  # it does not watch the run
        for name, payload in (("go", LARGE), ("other", 0), ("go", "two")):
            await local.signal(run_id, name, payload)
        async with opened(temporal_server, flow, deps=Effects()) as engine:
            run = await engine.adopt(local, run_id)
            found = await run.result()
    assert found == await local_result(flow, 1, ("go", LARGE), ("go", "two"))


async def test_a_failed_run_is_tried_again_with_a_changed_graph(temporal_server: Server) -> None:
    local_effects, effects = Effects("bad"), Effects()
    async with asyncio.timeout(PATIENCE_S), Engine(deps=local_effects) as local:
        run = await local.start(failing(), 1, run_id=token_hex(8))
        with pytest.raises(RunFailed):
            await run.result()
        async with opened(temporal_server, failing(more=True), deps=effects) as engine:
            adopted = await engine.adopt(local, run.id)
            assert await adopted.result() == [4]
            triggers = [step.trigger for step in await engine.history(run.id)]
            assert triggers[:2] == ["PlanAdopted", "RunResumed"]
        with pytest.raises(RunConflict, match="it goes on elsewhere"):
            await local.resume(run.id)
    assert list(effects.keys) == [key for key in local_effects.keys if "bad" in key]


async def test_a_question_is_answered_on_the_server(temporal_server: Server) -> None:
    async with asyncio.timeout(PATIENCE_S), Engine(deps=Effects()) as local:
        run_id = await parked(local, asking(), 5)
        (question,) = await local.pending()
        async with opened(temporal_server, asking(), deps=Effects()) as engine:
            run = await engine.adopt(local, run_id)
            await engine.answer(run_id, question.id, "approve")
            assert await run.result() == "paid 5"


async def test_a_timer_that_is_overdue_fires_on_the_server(temporal_server: Server) -> None:
    flow, store = Workflow("timed", sleep("nap", NAP_S)), MemoryStore()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as local:
        run_id = await parked(local, flow, "in")
    async with asyncio.timeout(PATIENCE_S), Engine(store) as local, opened(temporal_server, flow) as engine:
        await asyncio.sleep(NAP_S)
        assert await (await engine.adopt(local, run_id)).result() == "in"


async def test_a_run_that_is_too_large_stays_and_goes_on_with_claims(temporal_server: Server, tmp_path: Path) -> None:
    flow, value, queue = shelving(), "y" * 2_500_000, token_hex(4)
    async with asyncio.timeout(PATIENCE_S), Engine(deps=Effects()) as local:
        run_id = await parked(local, flow, value)
        async with opened(temporal_server, flow, queue=queue, deps=Effects()) as engine:
            with pytest.raises(LimitReached, match="give the engine claims="):
                await engine.adopt(local, run_id)
        assert await moved_to(local, run_id) == ""
        async with opened(temporal_server, flow, queue=queue, claims=tmp_path / "claims", deps=Effects()) as engine:
            run = await engine.adopt(local, run_id)
            await run.signal("go", 1)
            await run.signal("go", 2)
            assert (await run.result())[1] == value


async def test_nothing_is_marked_before_the_server_can_take_the_run(temporal_server: Server) -> None:
    flow, queue = shelving(), token_hex(4)
    async with asyncio.timeout(PATIENCE_S), Engine(deps=Effects()) as local:
        run_id = await parked(local, flow, 1)
        engine = TemporalEngine(temporal_server.address, task_queue=queue)
        with pytest.raises(RunError, match=r"its flow 'shelving' is not known here"):
            await engine.adopt(local, run_id)
        engine.register(flow)
        with pytest.raises(
            TemporalUnavailable, match=f"no worker serves flow 'shelving' in this version .task queue '{queue}/"
        ):
            await engine.adopt(local, run_id)
        nowhere = TemporalEngine("127.0.0.1:1")
        with pytest.raises(TemporalUnavailable):
            await nowhere.adopt(local, run_id)
        with pytest.raises(RunNotFound):
            await engine.adopt(local, "none")
        async with opened(temporal_server, flow, queue=queue, deps=Effects()) as engine:
            await engine.start(flow, 1, run_id=run_id)
            with pytest.raises(RunConflict, match="the server has another run with this id"):
                await engine.adopt(local, run_id)
        async with opened(temporal_server, changed(), queue=queue, deps=Effects()) as engine:
            with pytest.raises(GraphChanged, match="w1"):
                await engine.adopt(local, run_id)
        assert await moved_to(local, run_id) == ""
        for payload in (1, 2):
            await local.signal(run_id, "go", payload)
        assert (await (await local.resume(run_id)).result())[0] == 2


def changed() -> Graph:
    """Return the flow without the node at which its runs wait."""
    g = Graph("shelving")
    g.node(name="other")(lambda value: value)
    g.edge(START, "other")
    g.edge("other", END)
    return g


async def test_a_run_whose_nodes_run_or_that_has_ended_stays(temporal_server: Server) -> None:
    flow = Graph("busy")
    entered, left = asyncio.Event(), asyncio.Event()

    @flow.node
    async def node(value: int) -> int:
        entered.set()
        await left.wait()
        return value

    flow.edge(START, node)
    flow.edge(node, END)
    async with asyncio.timeout(PATIENCE_S), Engine() as local, opened(temporal_server, flow) as engine:
        run = await local.start(flow, 1)
        await entered.wait()
        with pytest.raises(RunBusy):
            await engine.adopt(local, run.id)
        left.set()
        assert await run.result() == 1
        with pytest.raises(RunConflict, match="it is completed"):
            await engine.adopt(local, run.id)


async def test_many_callers_adopt_one_run_once(temporal_server: Server) -> None:
    flow, effects, store = shelving(), Effects(), MemoryStore()
    async with asyncio.timeout(PATIENCE_S), Engine(store, deps=effects) as local, Engine(store) as second:
        run_id = await parked(local, flow, 1)
        async with opened(temporal_server, flow, deps=effects) as engine:
            runs = await asyncio.gather(
                *(engine.adopt(each, run_id) for each in (local, second) * 3), return_exceptions=True
            )
            adopted = [run for run in runs if not isinstance(run, RunBusy)]  # `second` may meet the lease of `local`
            assert adopted
            assert not [run for run in adopted if isinstance(run, BaseException)]
            for payload in (1, 2):
                await engine.signal(run_id, "go", payload)
            assert (await adopted[0].result())[0] == 2  # type: ignore[union-attr] # no error is left
    assert set(effects.keys.values()) == {1}


def child(folder: Path, run_id: str, place: str = "") -> subprocess.Popen[str]:
    root = Path(beluga_graph.__file__).parent.parent
    command = [sys.executable, adopt_child.__file__, str(folder), run_id, place]
    path = ":".join((str(root), str(Path(__file__).parent), str(root / "tests" / "shared")))
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": path})
    assert process.stdout is not None
    if process.stdout.readline() != "ready\n":
        process.communicate()
        msg = "the child has ended"
        raise AssertionError(msg)
    return process


async def test_a_run_of_a_killed_process_is_adopted_also_if_that_was_killed_between_mark_and_start(
    temporal_server: Server, tmp_path: Path
) -> None:
    run_id, flow, effects = token_hex(8), shelving(), Effects()
    place = f"temporal://{temporal_server.address}/{NAMESPACE}"
    for where in ("", place):
        process = await asyncio.to_thread(child, tmp_path, run_id, where)
        process.kill()
        with process:
            pass
    async with (
        asyncio.timeout(PATIENCE_S),
        Engine(tmp_path) as local,
        opened(temporal_server, flow, deps=effects) as engine,
    ):
        assert await moved_to(local, run_id) == place
        with pytest.raises(RunNotFound):
            await engine.status(run_id)
        run = await engine.adopt(local, run_id)
        await run.signal("go", "two")
        assert await run.result() == await local_result(flow, "in", ("go", "one"), ("go", "two"))
        assert await (await engine.adopt(local, run_id)).status() == RunStatus.completed
    assert len(effects.keys) == 1, "only the last node is left for the server"


async def test_a_run_that_another_one_replaced_on_the_server_is_refused(temporal_server: Server) -> None:
    flow = shelving()
    async with asyncio.timeout(PATIENCE_S), Engine(deps=Effects()) as local:
        run_id = await parked(local, flow, 1)
        async with opened(temporal_server, flow, deps=Effects()) as engine:
            await local.hand_over(run_id, f"temporal://{temporal_server.address}/{NAMESPACE}")
            await engine.start(flow, 1, run_id=run_id)
            with pytest.raises(RunConflict, match="the server has another run with this id"):
                await engine.adopt(local, run_id)


async def test_a_session_of_the_run_is_free_in_the_local_store_and_does_not_get_its_messages(
    temporal_server: Server, tmp_path: Path
) -> None:
    gate, queue = Gate(), token_hex(4)
    desk = make_desk(gate)
    async with asyncio.timeout(PATIENCE_S), Engine(LMDBStore(tmp_path / "local")) as local:
        assert await local.execute(desk, "one", session="s") == "saw one"
        gate.fails = True
        with pytest.raises(RunFailed):
            await local.execute(desk, "two", session="s", run_id=(run_id := token_hex(8)))
        with pytest.raises(RunConflict, match="belongs to run"):
            await local.execute(desk, "three", session="s")
        gate.fails = False
        async with TemporalEngine(temporal_server.address, task_queue=queue) as engine, engine.worker([desk]):
            moved = await engine.adopt(local, run_id)
            assert await local.execute(desk, "three", session="s") == "saw one|(7)|three"
            assert await moved.result() == "saw one|(7)|two"
        assert await local.execute(desk, "four", session="s") == "saw one|(7)|three|(17)|four"
    assert verify_store(LMDBStore(tmp_path / "local")).damage == ()
