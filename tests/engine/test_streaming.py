"""Events for watchers: stored events are replayed, live events are not, and the last event is the end."""

import asyncio
import dataclasses
import pickle
import sys
from types import FrameType
from typing import Any

import pytest
from flows_for_tests import chain, follow, waiting

from beluga_graph import Engine, Event, Graph, Retry, RunFailed, RunStatus
from beluga_graph.events import make_event
from stores import MemoryStore


def stored(events: list[Event]) -> list[Event]:
    return [event for event in events if event.seq is not None]


async def collect(events: Any) -> list[Event]:
    return [event async for event in events]


async def speak(ctx, value):
    ctx.emit_text("hel")
    await asyncio.sleep(0)
    ctx.emit_text("lo")
    return value + 1


def speak_in_a_thread(ctx, value):
    ctx.emit_text("from a thread")
    return value + 1


async def test_a_stream_shows_what_happens_and_ends_with_done() -> None:
    async with Engine() as engine:
        events = await collect(engine.stream(chain(speak, speak_in_a_thread), 1, run_id="r"))
        assert [(event.type, event.node, event.text) for event in events] == [
            ("run_started", "", ""),
            ("node_started", "n0", ""),
            ("text", "n0", "hel"),
            ("text", "n0", "lo"),
            ("node_finished", "n0", "hello"),
            ("node_started", "n1", ""),
            ("text", "n1", "from a thread"),
            ("node_finished", "n1", "from a thread"),
            ("done", "", ""),
        ]
        assert events[-1].output == 3
        live = [event for event in events if event.seq is None]
        assert {event.type for event in live} == {"node_started", "text"}
        assert {event.attempt for event in live} == {1}
        assert {event.run_id for event in events} == {"r"}


async def test_a_replay_equals_the_stream() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        events = stored(await collect(engine.stream(chain(speak, speak), 1, run_id="r")))
        on_disk = [event for step in await engine.history("r") for event in step.events]
        assert events == on_disk
        run = await engine.start(chain(speak, speak), 1, run_id="r")
        assert await collect(run.events()) == events
        assert await collect(run.events(after=2)) == [event for event in events if event.seq > 2]
        assert await collect(run.events(after=99)) == []
    async with Engine(store) as engine:
        assert await collect(engine.stream(chain(speak, speak), 1, run_id="r")) == events


async def test_a_stream_of_a_run_under_way_replays_and_then_goes_live() -> None:
    async with Engine() as engine:
        run = await engine.start(waiting(), 1, run_id="r")
        while await run.status() is not RunStatus.waiting:  # noqa: ASYNC110  # there is no event to wait for
            await asyncio.sleep(0)
        seen: list[Event] = []

        watcher = asyncio.ensure_future(follow(engine.stream(waiting(), 1, run_id="r"), seen))
        while "waiting" not in [event.type for event in seen]:  # noqa: ASYNC110  # as above
            await asyncio.sleep(0)
        await run.signal("go", "now")
        await watcher
        assert [event.type for event in seen] == ["run_started", "node_finished", "waiting", "signal", "done"]
        assert seen == await collect(run.events())


async def test_a_stream_of_a_failure_ends_with_the_error_and_then_raises() -> None:
    def fail(value):
        raise ValueError("broken")

    events: list[Event] = []
    async with Engine() as engine:
        with pytest.raises(RunFailed, match="ValueError: broken"):
            await follow(engine.stream(chain(fail), 1), events)
    assert (events[-1].type, events[-1].node, events[-1].error) == ("error", "n0", "ValueError: broken")


async def test_the_text_of_a_failed_attempt_is_retracted_and_not_stored() -> None:
    async def stammer(ctx, value):
        ctx.emit_text(f"try {ctx.attempt}")
        if ctx.attempt == 1:
            raise ConnectionError("lost")
        return value

    async with Engine() as engine:
        events = await collect(engine.stream(chain(stammer, retry=Retry(initial=0)), 1))
    assert [(event.type, event.attempt, event.text) for event in events] == [
        ("run_started", None, ""),
        ("node_started", 1, ""),
        ("text", 1, "try 1"),
        ("retracted", 1, ""),
        ("retry", 1, ""),
        ("node_started", 2, ""),
        ("text", 2, "try 2"),
        ("node_finished", None, "try 2"),
        ("done", None, ""),
    ]


@pytest.mark.parametrize("face", ["engine", "flow"])
async def test_a_stream_that_is_closed_early_leaves_no_task(face: str) -> None:
    before = asyncio.all_tasks()
    ended = asyncio.Event()

    async def slow(ctx, value):
        ctx.emit_text("begun")
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async with Engine() as engine:
        flow = chain(slow)
        stream: Any = flow.stream(1) if face == "flow" else engine.stream(flow, 1)
        async for event in stream:
            if event.type == "text":
                break
        await stream.aclose()
        assert ended.is_set()
        assert asyncio.all_tasks() == before


async def test_a_run_whose_stream_was_closed_continues_when_it_is_resumed() -> None:
    gate = asyncio.Event()
    calls = []

    async def first(value):
        calls.append("first")
        return value + 1

    async def second(value):
        calls.append("second")
        await gate.wait()
        return value * 10

    async with Engine() as engine:
        stream = engine.stream(chain(first, second), 1, run_id="r")
        async for event in stream:
            if (event.type, event.node) == ("node_started", "n1"):
                break
        await stream.aclose()
        assert await engine.status("r") is RunStatus.running
        gate.set()
        assert await (await engine.resume("r")).result(timeout=60) == 20
    assert calls in (["first", "second"], ["first", "second", "second"])


async def test_a_stream_of_a_failed_run_with_a_changed_graph_continues_to_its_end() -> None:
    def fail(value):
        raise ValueError("broken")

    def one_more(value):
        return value + 1

    disk = MemoryStore()
    async with Engine(disk) as engine:
        with pytest.raises(RunFailed):
            await engine.execute(chain(fail, one_more), 1, run_id="r")
    seen: list[Event] = []
    async with Engine(disk) as engine:
        await follow(engine.stream(chain(one_more, one_more, one_more), 1, run_id="r"), seen)
        assert [event.type for event in stored(seen)] == ["run_started", "error", *["node_finished"] * 3, "done"]
        assert stored(seen) == await collect((await engine.resume("r")).events())
        assert seen[-1].output == 4


async def test_a_watcher_that_leaves_does_not_disturb_the_others() -> None:
    async with Engine() as engine:
        run = await engine.start(waiting(), 1, run_id="r")
        leaving, staying = run.events(), run.events()
        assert (await anext(leaving)).type == (await anext(staying)).type == "run_started"
        await leaving.aclose()
        await run.signal("go", 1)
        assert (await collect(staying))[-1].type == "done"


async def test_invoke_is_the_stream_drained() -> None:
    def nested() -> Graph:
        return chain(speak, speak)

    events = await collect(nested().stream(1))
    assert events[-1].output == await nested().invoke(1)


async def test_an_event_is_not_assigned_field_by_field_through_its_guard_and_yet_is_frozen() -> None:
    guarded = 0

    def count(frame: FrameType, event: str, arg: Any) -> None:
        nonlocal guarded
        guarded += event == "c_call" and getattr(arg, "__name__", "") == "__setattr__"

    async with Engine() as engine:
        stream = engine.stream(chain(speak, speak), 1)
        events = [await anext(stream)]
        sys.setprofile(count)
        try:
            events += [event async for event in stream]
        finally:
            sys.setprofile(None)
    assert guarded < len(events)
    for event in events:
        assert type(event) is Event
        for field in dataclasses.fields(Event):
            with pytest.raises(dataclasses.FrozenInstanceError):
                setattr(event, field.name, None)
            with pytest.raises(dataclasses.FrozenInstanceError):
                delattr(event, field.name)


def test_an_event_does_not_depend_on_how_it_was_made() -> None:
    given = {"type": "text", "run_id": "r", "node": "n", "attempt": 2, "text": "hello"}
    made = make_event(**given)
    assert made == Event(**given)
    assert hash(made) == hash(Event(**given))
    assert repr(made) == repr(Event(**given))
    assert pickle.loads(pickle.dumps(made)) == made
    assert dataclasses.replace(made, text="more").text == "more"
    with pytest.raises(TypeError):
        make_event(type="text", run_id="r", colour="red")
    with pytest.raises(TypeError):
        make_event(type="text")
