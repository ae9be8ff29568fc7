"""Streams of runs on Temporal: the events of each token are those of the local engine, by either channel."""

import asyncio
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from flows_for_tests import chain, follow, waiting, waits
from servers import Server
from streaming_flows import PIECES, gated, speaking_agent, stammering, talking
from temporalio.client import Client

from beluga_graph import Engine, Event, RunFailed, TemporalUnavailable
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.client import run_poller
from beluga_graph.temporal.connection import workflow_client as workflows
from beluga_graph.temporal.connection.new_execution import options_for
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.workflow.run_options import RunOptions

CHILD = Path(__file__).with_name("streaming_child.py")


@asynccontextmanager
async def open_engine(server: Server, *flows: Any, **options: Any) -> AsyncIterator[TemporalEngine]:
    """Open an engine with a worker for some flows."""
    options = {"task_queue": token_hex(4), **options}
    async with TemporalEngine(server.address, **options) as engine, engine.worker(flows):
        yield engine


@asynccontextmanager
async def child(*args: str) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a child process, and kill it at the end."""
    process = await asyncio.create_subprocess_exec(sys.executable, str(CHILD), *args, stdout=asyncio.subprocess.PIPE)
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def by_token(events: list[Event], *, whole_texts: bool = False) -> dict[str, list[tuple[Any, ...]]]:
    """Return type, attempt, text and output of each token's events, in order. Optionally, texts in a row are one."""
    found: defaultdict[str, list[tuple[Any, ...]]] = defaultdict(list)
    for event in events:
        shown = (event.type, event.node, event.agent, event.attempt, event.text, event.output)
        of_token = found[event.token]
        if whole_texts and event.type == "text" and of_token and of_token[-1][0] == "text":
            text = of_token.pop()[4] + event.text
            shown = (event.type, event.node, event.agent, event.attempt, text, event.output)
        of_token.append(shown)
    return dict(found)


async def collect(events: Any, *, until: Any = None) -> list[Event]:
    seen = []
    async for event in events:
        seen.append(event)
        if until is not None and until(event):
            break
    return seen


def stored(events: list[Event]) -> list[tuple[Any, ...]]:
    return [(event.seq, event.index, event.type) for event in events if event.seq is not None]


def texts(events: list[Event]) -> list[str]:
    return [event.text for event in events if event.type == "text"]


@pytest.mark.parametrize("durability", ["commit", "batch"])
@pytest.mark.parametrize("make", [speaking_agent, talking, stammering])
async def test_each_token_has_the_events_of_the_local_engine(
    temporal_server: Server, make: Any, durability: str
) -> None:
    value = "rain" if make is speaking_agent else 1
    async with Engine() as engine:
        expected = await collect(engine.stream(make(), value))
    async with open_engine(temporal_server, make(), durability=durability) as engine:
        found = await collect(engine.stream(make(), value))
    # The connection is made meanwhile. Where it comes too late, a text is one piece.
    assert by_token(found, whole_texts=True) == by_token(expected, whole_texts=True)


@pytest.mark.parametrize("make", [speaking_agent, talking, stammering])
async def test_each_token_has_the_same_whole_text_with_heartbeats(temporal_server: Server, make: Any) -> None:
    value = "rain" if make is speaking_agent else 1
    async with Engine() as engine:
        expected = await collect(engine.stream(make(), value))
    async with open_engine(temporal_server, make(), live="heartbeats") as engine:
        found = await collect(engine.stream(make(), value))
    assert by_token(found, whole_texts=True) == by_token(expected, whole_texts=True)


@pytest.mark.parametrize("live", [None, "heartbeats"])
async def test_pieces_arrive_in_order_and_complete_while_the_node_runs(
    temporal_server: Server, live: str | None
) -> None:
    flow = talking(0.1)
    async with open_engine(temporal_server, flow, live=live) as engine:
        found = await collect(engine.stream(flow, 1))
    types = [event.type for event in found if event.node == "n0"]
    assert types[0] == "node_started"
    assert types[-1] == "node_finished"
    assert set(types[1:-1]) == {"text"}
    assert "".join(texts(found)) == "".join(PIECES)
    if live is None:
        assert texts(found) == PIECES
    else:
        assert len(types) > 4  # one piece would be the rest at the end; the last may be several pieces


@pytest.mark.parametrize("live", [None, "heartbeats"])
async def test_the_text_of_a_lost_worker_is_retracted(
    temporal_server: Server, tmp_path: Path, live: str | None
) -> None:
    queue, run_id, flow = token_hex(4), token_hex(8), gated(tmp_path)
    seen: list[Event] = []
    async with TemporalEngine(temporal_server.address, task_queue=queue, live=live) as engine:
        async with child("serve", temporal_server.address, queue, str(tmp_path)) as first:
            await line_of(first)
            following = asyncio.create_task(follow(engine.stream(flow, "a", run_id=run_id), seen))
            (tmp_path / "1").touch()
            await until(lambda: "<1>" in texts(seen))
            first.kill()
        async with child("serve", temporal_server.address, queue, str(tmp_path)):
            await until(lambda: texts(seen).count("<1>") == 2)
            (tmp_path / "2").touch()
            await until(lambda: "<2>" in texts(seen))
            (tmp_path / "end").touch()
            await following
    assert [(event.type, event.text) for event in seen if event.node == "n1"] == [
        ("node_started", ""),
        ("text", "<1>"),
        ("retracted", ""),
        ("node_started", ""),
        ("text", "<1>"),
        ("text", "<2>"),
        ("node_finished", "<1><2>"),
    ]
    assert [event.type for event in seen if event.node == "n0"] == ["node_started", "node_finished"]


async def test_a_cursor_and_two_followers_get_each_stored_event_once(temporal_server: Server) -> None:
    flow = waiting()
    async with open_engine(temporal_server, flow) as engine:
        run = await engine.start(flow, 1)
        first = await collect(run.events(), until=lambda event: event.type == "waiting")
        cursor = first[-1].seq
        assert cursor is not None
        followers = [asyncio.create_task(collect(run.events(after=after))) for after in (0, cursor)]
        await run.signal("go", "now")
        everything, rest = await asyncio.gather(*followers)
        assert stored(everything) == stored(first) + stored(rest)
        assert [event.type for event in everything if event.seq is not None][-2:] == ["signal", "done"]
        assert stored(await collect(run.events())) == stored(everything)
        assert await collect(run.events(after=99)) == []


async def test_a_process_without_the_code_follows_by_heartbeats(temporal_server: Server, tmp_path: Path) -> None:
    queue, flow = token_hex(4), gated(tmp_path)
    async with open_engine(temporal_server, flow, task_queue=queue, live="heartbeats") as engine:
        run = await engine.start(flow, "a")
        (tmp_path / "1").touch()
        async with child("follow", temporal_server.address, queue, run.id) as other:
            while await line_of(other) != "text|n1|<1>":
                pass
            (tmp_path / "2").touch()
            while await line_of(other) != "text|n1|<2>":
                pass
            (tmp_path / "end").touch()
            assert await line_of(other) == "node_finished|n1|<1><2>"
            assert await line_of(other) == "done||"
            assert await other.wait() == 0


async def test_a_run_is_followed_while_no_worker_lives(
    temporal_server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue, flow = token_hex(4), waiting()
    monkeypatch.setattr(run_poller, "_QUERY_TIMEOUT", timedelta(seconds=1))
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        async with engine.worker([flow]):
            run = await engine.start(flow, 1)
            before = await collect(run.events(), until=lambda event: event.type == "waiting")
        seen: list[Event] = []
        following = asyncio.create_task(follow(run.events(), seen))
        await until(lambda: stored(seen) == stored(before))
        await run.signal("go", "now")
        async with engine.worker([flow]):
            await following
    assert [event.type for event in seen if event.seq is not None][-2:] == ["signal", "done"]
    assert len(set(stored(seen))) == len(stored(seen))


async def test_the_events_of_all_executions_come_in_order(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow = chain(*(_numbered(number) for number in range(8)), name="numbered")
    async with Engine() as engine:
        expected = await collect(engine.stream(flow, 1))

    def often(*args: Any, **given: Any) -> RunOptions:
        return replace(options_for(*args, **given), continue_events=1)

    monkeypatch.setattr(workflows, "options_for", often)
    async with open_engine(temporal_server, flow) as engine:
        run_id = token_hex(8)
        found = await collect(engine.stream(flow, 1, run_id=run_id))
        client = await Client.connect(temporal_server.address)
        executions = [each async for each in client.list_workflows(f"WorkflowId = '{run_id}'")]
        run = await engine.follow(run_id)
        assert stored(await collect(run.events(after=3))) == [each for each in stored(found) if each[0] > 3]
    assert len(executions) > 1
    assert stored(found) == stored(expected)
    assert by_token(found, whole_texts=True) == by_token(expected, whole_texts=True)


async def test_a_worker_may_be_lost_between_two_pages(temporal_server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    original, calls = WorkflowClient.query, 0

    async def query(self: WorkflowClient, *args: Any, **more: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 3:
            raise TemporalUnavailable("", "the worker was lost")
        page = await original(self, *args, **more)
        return {**page, "steps": page["steps"][:1]}

    monkeypatch.setattr(WorkflowClient, "query", query)
    flow = waits(5)
    async with open_engine(temporal_server, flow) as engine:
        run = await engine.start(flow, 1)
        for number in range(4):
            await run.signal("s", number)
        while (await engine.snapshot(run.id)).seq < 5:  # noqa: ASYNC110 - there is no event to wait for
            await asyncio.sleep(0.1)
        found = await collect(run.events(), until=lambda event: event.seq is not None and event.seq >= 5)
        assert calls == 3
        expected = [event for step in await engine.history(run.id) for event in step.events]
    assert stored(found) == stored(expected)[: len(stored(found))]
    assert found[-1].seq == 5


async def test_a_failed_run_raises_and_its_later_events_follow(temporal_server: Server, tmp_path: Path) -> None:
    def strict(ctx: Any, value: int) -> int:
        ctx.emit_text("trying")
        if not (tmp_path / "mended").exists():
            msg = "broken"
            raise ValueError(msg)
        return value

    flow, run_id, seen = chain(strict, name="strict"), token_hex(8), list[Event]()
    async with open_engine(temporal_server, flow) as engine:
        with pytest.raises(RunFailed, match="ValueError: broken"):
            await follow(engine.stream(flow, 1, run_id=run_id), seen)
        assert (seen[-1].type, seen[-1].error) == ("error", "ValueError: broken")
        assert [event.type for event in seen if event.node][:3] == ["node_started", "text", "retracted"]
        (tmp_path / "mended").touch()
        run = await engine.resume(run_id)
        everything = await collect(run.events())
    assert stored(everything)[: len(stored(seen))] == stored(seen)
    assert everything[-1].type == "done"
    assert [event.seq for event in everything if event.seq] == sorted(event.seq for event in everything if event.seq)


async def test_a_stream_that_is_closed_early_leaves_the_run_going_and_no_task(temporal_server: Server) -> None:
    flow, run_id = waiting(), token_hex(8)
    async with open_engine(temporal_server, flow) as engine:
        stream = engine.stream(flow, 1, run_id=run_id)
        async for event in stream:
            if event.type == "waiting":
                break
        await stream.aclose()
        assert not engine._host.subscriptions._subscriptions
        await engine.signal(run_id, "go", 5)
        assert await (await engine.follow(run_id)).result() == 5


async def test_a_follower_may_come_before_the_first_worker(temporal_server: Server, tmp_path: Path) -> None:
    queue, flow, seen = token_hex(4), talking(), list[Event]()
    async with TemporalEngine(temporal_server.address, task_queue=queue) as engine:
        async with engine.worker([flow]):
            await engine.execute(flow, 1)  # from now on, the server lists the worker for some minutes
        following = asyncio.create_task(follow(engine.stream(flow, 1), seen))
        await asyncio.sleep(0.5)
        async with engine.worker([flow]):
            await following
    assert texts(seen) in (PIECES, ["".join(PIECES)])
    assert [event.type for event in seen][-1] == "done"


async def test_a_quiet_run_is_polled_seldom_and_queried_only_for_new_steps(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, counts, pauses = waiting(), {"poll": 0, "query": 0}, list[float]()
    original_poll, original_query = WorkflowClient.poll, WorkflowClient.query

    async def poll(self: WorkflowClient, *args: Any) -> Any:
        counts["poll"] += 1
        pauses.append(asyncio.get_running_loop().time())
        return await original_poll(self, *args)

    async def query(self: WorkflowClient, *args: Any, **more: Any) -> Any:
        counts["query"] += 1
        return await original_query(self, *args, **more)

    monkeypatch.setattr(WorkflowClient, "poll", poll)
    monkeypatch.setattr(WorkflowClient, "query", query)
    async with open_engine(temporal_server, flow) as engine:
        run, seen = await engine.start(flow, 1), list[Event]()
        following = asyncio.create_task(follow(run.events(), seen))
        await until(lambda: bool(seen) and seen[-1].type == "waiting")
        await until(lambda: counts["poll"] > 16)
        quiet = dict(counts)
        await until(lambda: counts["poll"] == quiet["poll"] + 3)
        assert counts["query"] == quiet["query"]
        assert pauses[-1] - pauses[-2] >= 1.0
        await run.signal("go", 1)
        await following


def _numbered(number: int) -> Any:
    def body(ctx: Any, value: int) -> int:
        ctx.emit_text(f"{number} of ")
        ctx.emit_text("eight")
        return value + 1

    return body


async def line_of(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    line = await process.stdout.readline()
    assert line, "the child has ended"
    return line.decode().rstrip("\n")


async def until(is_so: Any) -> None:
    while not is_so():  # noqa: ASYNC110 - there is no event to wait for
        await asyncio.sleep(0.02)
