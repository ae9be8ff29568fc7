"""`TemporalEngine.why` reports what runs on a server wait for, the workers of their attempts, and missing workers."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from secrets import token_hex

import pytest
from faulty_workflows import Defective, worker
from servers import Server

from beluga_graph import (
    END,
    START,
    Graph,
    Retry,
    RunSnapshot,
    RunStatus,
    SignalWait,
    Why,
    Workflow,
    step,
    wait_signal,
)
from beluga_graph.inspection.explanation import Driving
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.client import explanation
from beluga_graph.temporal.client.explanation import find_driving
from beluga_graph.temporal.connection import waiting_tasks

PATIENCE_S = 60.0


async def eventually(look: Callable[[], Awaitable[Why]], holds: Callable[[Why], bool]) -> Why:
    async with asyncio.timeout(PATIENCE_S):
        while not holds(found := await look()):  # noqa: ASYNC110 - the server announces nothing
            await asyncio.sleep(0.05)
    return found


def kinds(why: Why) -> list[tuple[str, str]]:
    return [(reason.token, reason.kind) for reason in why.reasons]


async def test_each_token_has_its_reason_and_attempts_name_their_worker(temporal_server: Server) -> None:
    graph, gate, begun = Graph("waits"), asyncio.Event(), asyncio.Event()

    async def work(value: int) -> int:
        begun.set()
        await gate.wait()
        return value

    async def fail(value: int) -> int:
        raise ValueError(f"no {value}")

    branches = [
        graph.node(name="work")(work),
        graph.node(name="fail", retry=Retry(attempts=3, initial=600, maximum=600))(fail),
        graph.wait("ship", "shipped", type=int),
        graph.timer("nap", 3_600),
        graph.node(name="pay", requires_approval=True)(work),
    ]
    graph.fan_out("each", to=branches, join="all")
    graph.join("all")
    graph.edge(START, "each")
    for branch in branches:
        graph.edge(branch, "all")
    graph.edge("all", END)
    queue = token_hex(4)
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine, engine.worker([graph]):
        run = await engine.start(graph, 7)
        await begun.wait()

        def is_settled(why: Why) -> bool:
            text = why.reasons[0].text
            return ("each#1[1]/fail#1", "retry") in kinds(why) and "is under way on worker '" in text

        why = await eventually(lambda: engine.why(run.id), is_settled)
        assert why.status == "running"
        assert kinds(why) == [
            ("each#1[0]/work#1", "attempt"),
            ("each#1[1]/fail#1", "retry"),
            ("each#1[2]/ship#1", "signal"),
            ("each#1[3]/nap#1", "timer"),
            ("each#1[4]/pay.approval#1", "answer"),
        ]
        texts = {reason.kind: reason.text for reason in why.reasons}
        assert texts["retry"].endswith(", after the error: no 7")
        place = f"--temporal {temporal_server.address} --namespace default --task-queue {queue}"
        assert why.reasons[2].command == f"beluga-graph signal {run.id} shipped JSON {place}"
        assert [each.kind for each in why.triggers] == ["drive", "signal", "answer", "time", "time"]
        questions = [question.run_id for question in await engine.pending()]
        assert run.id not in questions  # the server shows the run as running
        await run.cancel()
        assert kinds(await engine.why(run.id)) == [("", "ended")]


async def list_signal_waits(engine: TemporalEngine, run_id: str) -> list[tuple[str, str]]:
    """Return the waits of one run, by id and signal. Runs of other tests wait on the same server."""
    waits = await engine.pending(waits=True)
    return [(wait.id, wait.signal) for wait in waits if isinstance(wait, SignalWait) and wait.run_id == run_id]


async def test_a_run_without_workers_names_its_queue_and_the_command(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = token_hex(4)
    flow = Workflow("waiting", wait_signal("w"), step("after", lambda value: value))
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        async with engine.worker([flow]):
            run = await engine.start(flow, 1)
            why = await eventually(lambda: engine.why(run.id), lambda why: why.status == "waiting")
            assert kinds(why) == [("w#1", "signal")]
            assert [each.signal for each in why.triggers] == ["w"]
            async with asyncio.timeout(PATIENCE_S):
                while not (waits := await list_signal_waits(engine, run.id)):  # noqa: ASYNC110 - its list is late
                    await asyncio.sleep(0.05)
            assert waits == [("w#1", "w")]
        monkeypatch.setattr(waiting_tasks, "_PATIENCE_WORKFLOW_S", 0.0)
        await run.signal("w", 5)
        why = await eventually(lambda: engine.why(run.id), lambda why: why.reasons[0].kind == "owner")
        assert kinds(why) == [("", "owner"), ("w#1", "signal")]
        assert f"the task queue '{queue}" in why.reasons[0].text
        place = f"--temporal {temporal_server.address} --namespace default --task-queue {queue}"
        assert why.reasons[0].command == f"beluga-graph worker MODULE:FLOW {place}"
        assert why.reasons[1].text.startswith("signal 'w' has arrived, and is not read yet")
        assert [each.kind for each in why.triggers] == ["drive"]
        async with engine.worker([flow]):
            assert await run.result() == 5


async def test_a_run_that_has_not_begun_says_so_while_an_ended_worker_is_listed(temporal_server: Server) -> None:
    queue, flow = token_hex(4), Workflow("late", step("node", lambda value: value))
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        async with engine.worker([flow]):
            assert await engine.execute(flow, 1) == 1
        run = await engine.start(flow, 2)
        why = await engine.why(run.id)
        assert kinds(why) == [("", "owner")]
        assert f"the task queue '{queue}" in why.reasons[0].text
        assert why.reasons[0].command.startswith("beluga-graph worker MODULE:FLOW ")
        async with engine.worker([flow]):
            assert await run.result() == 2


def test_a_worker_that_came_and_went_without_the_task_serves_it_no_more() -> None:
    now = time.time()
    task = waiting_tasks.WaitingTask("workflow", "queue", "1", now - 600, 3.0)
    assert explanation._is_served({"lives": now - 30}, task)
    assert not explanation._is_served({"gone": now - 200}, task)


async def test_a_failed_run_names_the_node_the_error_and_the_resume(temporal_server: Server) -> None:
    flow = Workflow("fails", step("bad", lambda _: 1 / 0))
    async with TemporalEngine(temporal_server.address, task_queue=token_hex(4)) as engine, engine.worker([flow]):
        run = await engine.start(flow, 1)
        await run.outcome()
        why = await engine.why(run.id)
        (reason,) = why.reasons
        assert (reason.kind, reason.node) == ("failed", "bad")
        assert reason.command.startswith(f"beluga-graph resume {run.id} --flow MODULE:FLOW --temporal ")
        assert "ZeroDivisionError: division by zero" in reason.text


async def test_a_workflow_that_fails_on_its_workers_is_reported(temporal_server: Server) -> None:
    client, queue, run_id = await temporal_server.connect(), token_hex(4), token_hex(4)
    snapshot = RunSnapshot(
        run_id=run_id,
        seq=1,
        status=RunStatus.running,
        input=None,
        state={},
        tokens=(),
        output=None,
        failure=None,
        timers={},
        steps=0,
        plan="",
    )
    async with worker(client, queue):
        run = await client.start_workflow(Defective.run, b"", id=run_id, task_queue=queue)
        async with asyncio.timeout(PATIENCE_S):
            while True:
                found = await find_driving(client, (await run.describe()).raw_description, snapshot)
                if "fails on worker" in found.problem:  # a new worker is not listed at once
                    break
                await asyncio.sleep(0.05)
        assert "defect in line 7" in found.problem
        await run.terminate()
    assert await find_driving(client, (await run.describe()).raw_description, snapshot) == Driving()
