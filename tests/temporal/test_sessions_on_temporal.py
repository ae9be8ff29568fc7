"""A session on a server continues from run to run, as on the local engine, and belongs to one run at a time."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any, Self

import pytest
from servers import Server
from sessions_flows import Gate, make_desk

from beluga_graph import END, START, Agent, Engine, Graph, LimitReached, RunConflict, RunError, RunFailed, RunStatus
from beluga_graph.errors import RunCancelled
from beluga_graph.kernel.run_session import RunSession
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.client import sessions
from beluga_graph.temporal.workflow.server_names import session_workflow_id
from beluga_graph.temporal.workflow.wire import FORMAT, SESSION_WORKFLOW, pack, unpack
from stores import MemoryStore

HELD = "session 's' belongs to run 'first' until that ends: resume or cancel it"
CHILD = Path(__file__).with_name("sessions_child.py")
QUESTIONS = ("one", "two", "bill", "three", "four")


@asynccontextmanager
async def open_engine(
    server: Server, flows: Sequence[Any], queue: str, **options: Any
) -> AsyncIterator[TemporalEngine]:
    async with TemporalEngine(server.address, task_queue=queue, **options) as engine, engine.worker(flows):
        yield engine


async def answers_on_the_local_engine(questions: Sequence[str], **options: Any) -> list[str]:
    store, answers = MemoryStore(), []
    for question in questions:
        async with Engine(store) as engine:
            answers.append(await engine.execute(make_desk(Gate(), **options), question, session="s"))
    return answers


async def session_of(engine: TemporalEngine, server: Server, queue: str) -> RunSession:
    client = await server.connect()
    handle = client.get_workflow_handle(session_workflow_id(queue, "desk", "s"), result_type=bytes)
    return RunSession(*unpack(await handle.query("state", result_type=bytes))["session"])


@pytest.mark.parametrize("options", [{}, {"durability": "batch", "claims": True}])
async def test_a_session_continues_as_on_the_local_engine(
    temporal_server: Server, tmp_path: Path, options: dict[str, Any]
) -> None:
    padding = 9_000 if options else 0  # with claims, each answer is a large value
    options = {**options, "claims": tmp_path / "claims"} if options else {}
    expected = await answers_on_the_local_engine(QUESTIONS, padding=padding)
    queue, answers = token_hex(4), []
    for question in QUESTIONS:  # a new engine and worker each time, and nothing of the last one is left
        desk = make_desk(Gate(), padding=padding)
        async with open_engine(temporal_server, [desk], queue, **options) as engine:
            answers.append(await engine.execute(desk, question, session="s"))
            if question == QUESTIONS[-1]:
                session = await session_of(engine, temporal_server, queue)
    assert answers == expected
    assert (session.run, session.version, session.active) == ("", len(QUESTIONS), "billing")


@pytest.mark.parametrize("has_claims", [False, True])
async def test_a_fork_reads_the_session_of_its_source_and_leaves_it(
    temporal_server: Server, tmp_path: Path, has_claims: bool
) -> None:
    desk, queue = make_desk(Gate(), padding=10_000), token_hex(4)
    claims = tmp_path / "claims" if has_claims else None
    async with open_engine(temporal_server, [desk], queue, claims=claims) as engine:
        await engine.execute(desk, "one", session="s")
        run = await engine.start(desk, "two", session="s")
        expected = await run.result()
        await engine.execute(desk, "three", session="s")
    desk = make_desk(Gate(), padding=10_000)  # its worker does not remember the session
    async with open_engine(temporal_server, [desk], queue, claims=claims) as engine:
        before = await session_of(engine, temporal_server, queue)
        for step in (await engine.history(run.id))[:-1]:
            fork = await engine.fork(run.id, step.seq)
            assert await fork.result() == expected
            again = await engine.fork(fork.id, 1)
            assert await again.result() == expected
        assert await session_of(engine, temporal_server, queue) == before


async def test_a_second_run_is_refused_until_the_first_is_resumed_to_its_end(temporal_server: Server) -> None:
    gate, queue = Gate(), token_hex(4)
    desk = make_desk(gate)
    async with open_engine(temporal_server, [desk], queue) as engine:
        assert await engine.execute(desk, "zero", session="s") == "saw zero"
        gate.fails = True
        with pytest.raises(RunFailed):
            await engine.execute(desk, "one", session="s", run_id="first-" + queue)
        gate.fails = False
        with pytest.raises(RunConflict, match=HELD.replace("first", "first-" + queue)):
            await engine.execute(desk, "two", session="s", run_id="second-" + queue)
        with pytest.raises(RunError):  # it was not started
            await engine.status("second-" + queue)
        assert await (await engine.resume("first-" + queue)).result() == "saw zero|(8)|one"
        assert await engine.execute(desk, "two", session="s") == "saw zero|(8)|one|(16)|two"
        session = await session_of(engine, temporal_server, queue)
        assert (session.run, session.version, session.length) == ("", 3, 6)


async def test_a_cancelled_run_leaves_the_session_as_it_was(temporal_server: Server) -> None:
    gate, queue = Gate(), token_hex(4)
    desk = make_desk(gate)
    async with open_engine(temporal_server, [desk], queue) as engine:
        assert await engine.execute(desk, "one", session="s") == "saw one"
        gate.fails = True
        with pytest.raises(RunFailed):
            await engine.execute(desk, "lost", session="s", run_id="failed-" + queue)
        assert await engine.cancel("failed-" + queue) == RunStatus.cancelled
        gate.fails = False
        session = await session_of(engine, temporal_server, queue)
        assert (session.run, session.version, session.length) == ("", 1, 2)
        assert await engine.execute(desk, "two", session="s") == "saw one|(7)|two"


async def test_a_run_that_was_terminated_on_the_server_does_not_keep_its_session(temporal_server: Server) -> None:
    gate, queue = Gate(), token_hex(4)
    gate.opened = asyncio.Event()
    desk = make_desk(gate)
    async with open_engine(temporal_server, [desk], queue) as engine:
        run = await engine.start(desk, "one", session="s")
        with pytest.raises(RunConflict, match="until that ends"):
            await engine.start(desk, "two", session="s")
        client = await temporal_server.connect()
        await client.get_workflow_handle(run.id).terminate()
        gate.opened.set()
        with pytest.raises(RunCancelled):
            await run.result()
        assert await engine.execute(desk, "two", session="s") == "saw two"


async def test_a_run_that_is_cancelled_while_it_goes_on_gives_its_session_back(temporal_server: Server) -> None:
    gate, queue = Gate(), token_hex(4)
    gate.opened = asyncio.Event()
    desk = make_desk(gate)
    async with open_engine(temporal_server, [desk], queue) as engine:
        run = await engine.start(desk, "one", session="s")
        assert await run.cancel() == RunStatus.cancelled
        gate.opened.set()
        assert (await session_of(engine, temporal_server, queue)).run == ""
        assert await engine.execute(desk, "two", session="s") == "saw two"


async def test_a_run_that_comes_to_the_server_too_late_does_not_begin(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sessions, "_BEGIN_WITHIN_MS", -60_000)
    gate, queue = Gate(), token_hex(4)
    desk = make_desk(gate)
    async with open_engine(temporal_server, [desk], queue) as engine:
        run = await engine.start(desk, "one", session="s")
        with pytest.raises(RunFailed, match="came to the server too late"):
            await run.result()
    assert gate.calls == 0


@pytest.mark.parametrize(("seconds", "is_gone"), [(30, False), (90, True)])
async def test_a_run_that_never_came_to_the_server_keeps_its_session_for_a_minute(
    temporal_server: Server, seconds: int, is_gone: bool
) -> None:
    queue, desk = token_hex(4), make_desk(Gate())
    held = RunSession("desk", "s", run="first")
    taken_ms = time.time_ns() // 1_000_000 - seconds * 1000
    given = {"format": FORMAT, "session": held, "pieces": (), "taken_ms": taken_ms, "continue_events": 1000}
    async with open_engine(temporal_server, [desk], queue) as engine:
        client = await temporal_server.connect()
        keeper = session_workflow_id(queue, "desk", "s")
        await client.start_workflow(SESSION_WORKFLOW, pack(given), id=keeper, task_queue=queue)
        if is_gone:
            assert await engine.execute(desk, "two", session="s") == "saw two"
        else:
            with pytest.raises(RunConflict, match=HELD):
                await engine.execute(desk, "two", session="s")


async def test_a_long_session_continues_as_new_between_its_runs(temporal_server: Server) -> None:
    queue, desk = token_hex(4), make_desk(Gate())
    new = RunSession("desk", "s")
    given = {"format": FORMAT, "session": new, "pieces": (), "taken_ms": 0, "continue_events": 1}
    expected = await answers_on_the_local_engine(QUESTIONS)
    async with open_engine(temporal_server, [desk], queue) as engine:
        client = await temporal_server.connect()
        keeper = session_workflow_id(queue, "desk", "s")
        first = await client.start_workflow(SESSION_WORKFLOW, pack(given), id=keeper, task_queue=queue)
        assert [await engine.execute(desk, question, session="s") for question in QUESTIONS] == expected
        assert (await client.get_workflow_handle(keeper).describe()).run_id != first.first_execution_run_id


async def test_of_two_runs_at_once_one_gets_the_session(temporal_server: Server) -> None:
    queue, desk = token_hex(4), make_desk(Gate())
    async with open_engine(temporal_server, [desk], queue) as engine:
        runs = (engine.execute(desk, text, session="s") for text in ("a", "b", "c"))
        ends = await asyncio.gather(*runs, return_exceptions=True)
        answers = [end for end in ends if isinstance(end, str)]
        assert answers
        assert all(isinstance(end, str | RunConflict) for end in ends)
        assert (await session_of(engine, temporal_server, queue)).version == len(answers)


async def test_a_run_with_a_known_id_is_followed_and_takes_nothing(temporal_server: Server) -> None:
    queue, desk = token_hex(4), make_desk(Gate())
    async with open_engine(temporal_server, [desk], queue) as engine:
        for _ in range(2):
            assert await engine.execute(desk, "one", session="s", run_id="r-" + queue) == "saw one"
        session = await session_of(engine, temporal_server, queue)
        assert (session.run, session.version) == ("", 1)


async def test_a_flow_that_is_no_conversation_and_a_blank_name_are_refused(temporal_server: Server) -> None:
    plain: Graph = Graph("plain")

    @plain.node
    def echo(value: str) -> str:
        return value

    plain.edge(START, echo)
    plain.edge(echo, END)
    queue, desk = token_hex(4), make_desk(Gate())
    async with open_engine(temporal_server, [desk, plain], queue) as engine:
        with pytest.raises(RunError, match="is not a session name"):
            await engine.start(desk, "a", session=" ")
        with pytest.raises(RunConflict, match="is not an agent"):
            await engine.start(plain, "a", session="s")


async def test_without_claims_a_conversation_that_fills_a_payload_takes_no_more_runs(temporal_server: Server) -> None:
    queue, desk, answers = token_hex(4), make_desk(Gate(), padding=500_000), []
    async with open_engine(temporal_server, [desk], queue) as engine:
        with pytest.raises(LimitReached, match=r"session 's' has .* give the engine claims="):
            await ask_again_and_again(engine, desk, answers)
        assert (await session_of(engine, temporal_server, queue)).run == ""
    assert len(answers) >= 3


async def ask_again_and_again(engine: TemporalEngine, desk: Agent, answers: list[str]) -> None:
    while len(answers) < 6:
        answers.append(await engine.execute(desk, "a", session="s"))


@pytest.mark.parametrize("where", ["model", "end"])
async def test_a_worker_that_is_killed_leaves_the_session_to_the_next_worker(
    temporal_server: Server, tmp_path: Path, where: str
) -> None:
    queue, desk = token_hex(4), make_desk(Gate())
    questions = ("one", "two", "three")
    expected = await answers_on_the_local_engine(questions)
    answers = []
    with TemporaryWorkers(temporal_server, queue, tmp_path) as workers:
        async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
            workers.start()
            for question in questions:
                if question == "two":
                    (tmp_path / where).touch()
                run = await engine.start(desk, question, session="s")
                if question == "two":
                    await asyncio.to_thread(workers.wait_killed)
                    workers.start()
                answers.append(await run.result(100))
            session = await session_of(engine, temporal_server, queue)
    assert answers == expected
    assert (session.run, session.version, session.length) == ("", 3, 6)


class TemporaryWorkers:
    """Workers in processes of their own, one after another."""

    def __init__(self, server: Server, queue: str, folder: Path) -> None:
        self._command = [sys.executable, str(CHILD), server.address, queue, str(folder)]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self._process = subprocess.Popen(self._command)

    def wait_killed(self) -> None:
        assert self._process is not None
        assert self._process.wait(60) == -signal.SIGKILL

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()
