"""A caller that waits for a run hears of a run that cannot go on by itself, and of a missing worker."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import timedelta
from pathlib import Path
from secrets import token_hex

import pytest
from faulty_workflows import Attempting, Crashing, Defective, Large, Open, worker
from flows_for_tests import follow, waiting
from servers import Server
from temporalio import activity
from temporalio.api.enums.v1 import PendingActivityState
from temporalio.client import Client, WorkflowFailureError
from temporalio.worker import Worker
from wrapped_store import until

from beluga_graph import BelugaError, Event, LimitReached, RunError, TemporalUnavailable
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.connection import waiting_tasks, watchdog
from beluga_graph.temporal.connection.new_execution import queue_of
from beluga_graph.temporal.connection.pollers import get_last_polls, require_worker
from beluga_graph.temporal.connection.watchdog import Watchdog


@asynccontextmanager
async def raised(kind: type[BelugaError], *parts: str) -> AsyncIterator[None]:
    async with asyncio.timeout(30):
        with pytest.raises(BelugaError) as caught:
            yield
    assert type(caught.value) is kind
    for part in parts:
        assert part in str(caught.value)


@pytest.fixture
async def client(temporal_server: Server) -> Client:
    return await temporal_server.connect()


async def start(client: Client, workflow: type, queue: str, argument: bytes | str = b""):
    return await client.start_workflow(workflow.run, argument, id=token_hex(4), task_queue=queue)


async def test_a_result_and_its_error_pass_through(client: Client) -> None:
    queue = token_hex(4)
    async with asyncio.timeout(30), worker(client, queue):
        run = await start(client, Open, queue, b"seven")
        await run.signal(Open.close, b"")
        assert await Watchdog(client, run.id).wait(run.result()) == b"seven"
        run = await start(client, Open, queue)
        await run.terminate()
        with pytest.raises(WorkflowFailureError):
            await Watchdog(client, run.id).wait(run.result())


async def test_a_defect_of_the_workflow_is_raised_with_its_message(client: Client) -> None:
    queue = token_hex(4)
    async with worker(client, queue):
        run = await start(client, Defective, queue)
        async with raised(RunError, run.id, "fails on worker", "defect in line 7", "start workers with code that fits"):
            await Watchdog(client, run.id).wait(run.result())
        await run.terminate()


async def test_a_workflow_with_which_each_worker_crashes_is_an_error(
    temporal_server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, client)
    monkeypatch.setattr(watchdog, "_UNTAKEN_CHECKS", 10_000)  # the next worker may take long to start
    queue, program = token_hex(4), Path(__file__).with_name("faulty_workflows.py")
    limit = timedelta(seconds=1)  # 10 s by default, after which the server offers the task again
    run = await client.start_workflow(Crashing.run, b"", id=token_hex(4), task_queue=queue, task_timeout=limit)
    waiting = asyncio.create_task(Watchdog(client, run.id).wait(run.result()))
    async with asyncio.timeout(60):
        while not waiting.done():
            process = await asyncio.create_subprocess_exec(sys.executable, str(program), temporal_server.address, queue)
            await asyncio.wait((waiting, asyncio.create_task(process.wait())), return_when=asyncio.FIRST_COMPLETED)
            if process.returncode is None:
                process.kill()
                await process.wait()
    async with raised(RunError, run.id, "crashed or hung with it", "logs"):
        await waiting
    await run.terminate()


async def test_a_workflow_whose_result_is_too_large_is_a_limit(client: Client) -> None:
    queue = token_hex(4)
    async with worker(client, queue):
        run = await start(client, Large, queue)
        async with raised(LimitReached, run.id, "2 MiB", "claims="):
            await Watchdog(client, run.id).wait(run.result())
        await run.terminate()


async def test_a_run_that_waits_is_left_in_peace_without_a_worker(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = hurry(monkeypatch, client)
    queue = token_hex(4)
    async with worker(client, queue):
        run = await start(client, Open, queue)
        await run_once(run)
    task = asyncio.create_task(Watchdog(client, run.id).wait(run.result()))
    await until(lambda: len(looks) >= 20)
    assert not task.done()
    assert set(looks) == {"describe"}  # one call a look
    await run.terminate()
    with pytest.raises(WorkflowFailureError):
        await task


async def test_work_that_no_worker_takes_is_unavailable(client: Client) -> None:
    queue = token_hex(4)
    run = await start(client, Open, queue)
    async with raised(TemporalUnavailable, run.id, queue, "beluga-graph worker"):
        await Watchdog(client, run.id).wait(run.result())
    async with asyncio.timeout(30), worker(client, queue):  # the run was not harmed
        await run.signal(Open.close, b"")
        assert await Watchdog(client, run.id).wait(run.result()) == b""


async def test_an_attempt_that_no_worker_takes_is_unavailable(client: Client) -> None:
    queue, other = token_hex(4), token_hex(4)
    async with worker(client, queue):
        run = await start(client, Attempting, queue, other)
        async with raised(TemporalUnavailable, run.id, other, "beluga-graph worker"):
            await Watchdog(client, run.id).wait(run.result())
        await run.terminate()


async def test_a_worker_that_was_killed_is_missed_although_the_server_lists_it(
    temporal_server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    hurry(monkeypatch, client, patience_s=3.0)
    queue = token_hex(4)
    process = worker_process(temporal_server, queue)
    run = await start(client, Open, queue)
    await run_once(run)
    process.kill()
    process.wait()
    await run.signal(Open.close, b"")
    async with raised(TemporalUnavailable, run.id, queue, "beluga-graph worker"):
        await Watchdog(client, run.id).wait(run.result())
    assert await get_last_polls(client, queue, "workflow") != {}
    await run.terminate()


async def test_a_worker_that_was_stopped_is_missed_at_the_next_start(client: Client) -> None:
    queue = token_hex(4)
    async with worker(client, queue):
        await until_listed(client, queue)
    run = await start(client, Open, queue)
    async with raised(TemporalUnavailable, run.id, queue, "beluga-graph worker"):
        await Watchdog(client, run.id).wait(run.result())
    assert await get_last_polls(client, queue, "workflow") != {}
    await run.terminate()


@pytest.mark.parametrize("others", [{}, {"another": 9e9}], ids=["alone", "beside a worker of another flow"])
async def test_an_attempt_that_a_killed_worker_would_take_is_unavailable(
    client: Client, monkeypatch: pytest.MonkeyPatch, others: dict[str, float]
) -> None:
    hurry(monkeypatch, client, patience_s=3.0)
    queue = token_hex(4)
    async with worker(client, queue):
        run = await start(client, Attempting, queue, queue + "/a")
        await run_once(run)

    async def get_polls(_: Client, polled: str, kind: str) -> dict[str, float]:
        """Both queues list a worker whose last poll began before the attempt."""
        return {"killed": 1.0} if polled == queue + "/a" else {"killed": 1.0, **others}

    monkeypatch.setattr(watchdog, "get_last_polls", get_polls)
    async with raised(TemporalUnavailable, run.id, queue + "/a"):
        await Watchdog(client, run.id).wait(run.result())
    await run.terminate()


@pytest.mark.parametrize("polls", [{}, {"full": 1.0}], ids=["forgotten", "long ago"])
async def test_attempts_that_wait_for_a_full_worker_are_waited_for(
    client: Client, monkeypatch: pytest.MonkeyPatch, polls: dict[str, float]
) -> None:
    looks = hurry(monkeypatch, client)
    queue, other = token_hex(4), token_hex(4)
    free = asyncio.Event()

    @activity.defn
    async def attempt() -> None:
        await free.wait()

    async def get_polls(*args: str) -> dict[str, float]:  # a worker whose slots are in use does not ask for more
        return polls

    monkeypatch.setattr(watchdog, "get_last_polls", get_polls)
    full = Worker(client, task_queue=other, activities=[attempt], max_concurrent_activities=1)
    async with asyncio.timeout(60), worker(client, queue), full:
        first = await start(client, Attempting, queue, other)
        await until_attempted(first)
        watched = [first]
        if polls:  # all attempts of the second run wait for those of the first one
            watched.append(await start(client, Attempting, queue, other))
        results = [asyncio.create_task(Watchdog(client, run.id).wait(run.result())) for run in watched]
        await until(lambda: len(looks) >= 25 or any(result.done() for result in results))
        free.set()
        assert await asyncio.gather(*results, return_exceptions=True) == [None for _ in watched]


async def test_a_follower_of_a_run_without_a_worker_is_warned_once_and_goes_on_with_the_next_worker(
    temporal_server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    looks = hurry(monkeypatch, client, patience_s=1.0)
    queue, flow, seen = token_hex(4), waiting(), list[Event]()
    async with asyncio.timeout(60), TemporalEngine(client, task_queue=queue) as engine:
        async with engine.worker([flow]):
            run = await engine.start(flow, 1)
            while await run.status() != "waiting":  # noqa: ASYNC110 - a status is not announced
                await asyncio.sleep(0.05)
        await run.signal("go", "now")
        following = asyncio.create_task(follow(run.events(), seen))
        await until(lambda: "no worker takes its work" in caplog.text)
        looked = looks.count("pollers")
        await until(lambda: looks.count("pollers") >= looked + 3)
        async with engine.worker([flow]):
            await following
    assert seen[-1].type == "done"
    (warning,) = [record for record in caplog.records if record.name == "beluga_graph.temporal.client.follower"]
    for part in (run.id, repr(queue_of(flow.plan(), queue)), "beluga-graph worker module:flow"):
        assert part in warning.getMessage()


async def test_a_follower_of_a_run_whose_workflow_has_a_defect_gets_the_error(
    temporal_server: Server, client: Client
) -> None:
    queue, flow = token_hex(4), waiting()
    async with asyncio.timeout(60), TemporalEngine(client, task_queue=queue) as engine:
        async with engine.worker([flow]):
            run = await engine.start(flow, 1)
            while await run.status() != "waiting":  # noqa: ASYNC110 - a status is not announced
                await asyncio.sleep(0.05)
        async with worker(client, queue_of(flow.plan(), queue)):
            await run.signal("go", "now")
            async with raised(RunError, run.id, "fails on worker", "defect in line 7"):
                await follow(run.events(), [])
        await client.get_workflow_handle(run.id).terminate()


async def test_a_start_without_any_worker_of_the_engine_names_its_queue(client: Client) -> None:
    queue = token_hex(4)
    async with raised(TemporalUnavailable, f"task queue '{queue}'", "beluga-graph worker module:flow"):
        await require_worker(client, queue, flow=None)


async def test_a_start_without_a_worker_of_this_version_says_so(client: Client) -> None:
    queue = f"{token_hex(4)}/order:12"
    parts = (queue, "flow 'order' in this version", "beluga-graph worker module:flow", "same code")
    async with raised(TemporalUnavailable, *parts):
        await require_worker(client, queue, flow="order")
    async with worker(client, queue):  # it walks, and makes no attempts
        await until_listed(client, queue)
        async with raised(TemporalUnavailable, *parts):
            await require_worker(client, queue, flow="order")


async def test_a_worker_that_comes_up_late_is_waited_for(client: Client) -> None:
    queue = token_hex(4)

    @activity.defn
    async def attempt() -> None:
        pass

    async with asyncio.timeout(30), asyncio.TaskGroup() as group:
        required = group.create_task(require_worker(client, queue, flow="order"))
        await asyncio.sleep(0.5)
        assert not required.done()
        late = Worker(client, task_queue=queue, workflows=[Open], activities=[attempt])
        async with late:
            await required


async def test_a_server_that_skips_time_lists_no_workers_and_requires_none(skipping_server: Server) -> None:
    client = await skipping_server.connect()
    await require_worker(client, "q", flow="order")


def hurry(monkeypatch: pytest.MonkeyPatch, client: Client, patience_s: float | None = None) -> list[str]:
    """Make the watchdog look often, and return the list that its calls to the server will be noted in."""
    for name in ("_FIRST_S", "_EVERY_S"):
        monkeypatch.setattr(watchdog, name, 0.1)
    if patience_s is not None:
        monkeypatch.setattr(waiting_tasks, "_PATIENCE_WORKFLOW_S", patience_s)
        monkeypatch.setattr(waiting_tasks, "_PATIENCE_ACTIVITY_S", patience_s)
    calls: list[str] = []

    def noted(name: str, owner: object, attribute: str) -> None:
        original = getattr(owner, attribute)

        async def call(*args, **options):
            calls.append(name)
            return await original(*args, **options)

        monkeypatch.setattr(owner, attribute, call)

    noted("describe", client.workflow_service, "describe_workflow_execution")
    noted("pollers", client.workflow_service, "describe_task_queue")
    noted("history", client.workflow_service, "get_workflow_execution_history_reverse")
    return calls


async def run_once(run) -> None:
    """Wait until a worker has run the workflow's first task."""
    async with asyncio.timeout(30):
        while (await run.describe()).raw_description.HasField("pending_workflow_task"):  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.05)


async def until_attempted(run) -> None:
    """Wait until a worker has begun an activity of the run."""
    states: set[int] = set()
    async with asyncio.timeout(30):
        while PendingActivityState.PENDING_ACTIVITY_STATE_STARTED not in states:
            await asyncio.sleep(0.05)
            states = {each.state for each in (await run.describe()).raw_description.pending_activities}


async def until_listed(client: Client, queue: str) -> None:
    async with asyncio.timeout(30):
        while not await get_last_polls(client, queue, "workflow"):  # noqa: ASYNC110 - the server has no event
            await asyncio.sleep(0.05)


def worker_process(server: Server, queue: str) -> subprocess.Popen[bytes]:
    program = Path(__file__).with_name("faulty_workflows.py")
    process = subprocess.Popen([sys.executable, str(program), server.address, queue], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        assert process.stdout.readline() == b"ready\n"
    return process
