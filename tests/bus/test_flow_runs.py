"""Flows as handlers: each event starts one run, however often it is delivered and whichever process is killed."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from killed_processes import run_child
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    Agent,
    BusError,
    Context,
    Engine,
    EventBus,
    Graph,
    GraphError,
    RunFailed,
    RunStatus,
    Workflow,
    wait_signal,
)
from beluga_graph.bus.flow_runs import run_id_of
from beluga_graph.execution.run_ids import check_run_id
from beluga_graph.testing import ScriptedModel
from stores import MemoryStore
from stores.base import Delete

HERE = Path(__file__).parent


def graph(name: str, body: Any) -> Graph:
    g = Graph(name)
    node = g.node(name="body")(body)
    g.edge(START, node)
    g.edge(node, END)
    return g


async def result_of(engine: Engine, run_id: str) -> Any:
    return await (await engine.resume(run_id)).result(60)


async def test_an_agent_joins_by_subscribing() -> None:
    model = ScriptedModel(["a draft", "another"])
    async with EventBus() as bus, Engine(bus=bus) as engine:
        subscription = bus.subscribe("task.*", Agent("writer", model=model), engine=engine)
        first = await bus.publish("task.done", "what was found", agent_id="researcher")
        await bus.publish("elsewhere", "not for it")
        second = await bus.publish("task.failed", {"why": "no time"})
        await bus.drain()
        assert await result_of(engine, f"writer:{first.id}") == "a draft"
        assert await result_of(engine, f"writer:{second.id}") == "another"
        assert len(await engine.runs()) == 2
        assert (subscription.name, subscription.errors, await bus.dead_letters()) == ("writer", 0, [])
    assert [request.messages[0].text for request in model.requests] == ["what was found", "## why\nno time"]


async def test_a_run_sees_its_event_and_causes_the_events_of_its_nodes() -> None:
    async with EventBus() as bus, Engine() as engine:

        async def body(ctx: Context, value: int) -> dict[str, Any]:
            await bus.publish("answer", value + 1)
            return dict(ctx.context["event"])

        bus.subscribe("ask", graph("asked", body), engine=engine, name="a name of its own")
        event = await bus.publish("ask", 1, agent_id="me")
        await bus.drain()
        about = await result_of(engine, f"a name of its own:{event.id}")
        assert about == {"topic": "ask", "id": event.id, "agent_id": "me"}
        assert [(e.topic, e.causation_id) for e in await bus.trace(event.id)] == [("ask", ""), ("answer", event.id)]


async def test_a_flow_subscribed_to_everything_is_not_started_by_its_own_runs() -> None:
    async with EventBus() as bus, Engine(bus=bus) as engine:
        bus.subscribe("**", graph("all", lambda value: None), engine=engine)
        await bus.publish("ask", 1)
        await engine.execute(graph("other", lambda value: value), 1, run_id="theirs")
        for _ in range(20):  # each drain would start the next run
            await bus.drain()
            await asyncio.sleep(0)
        started = {run.run_id for run in await engine.runs() if run.flow == "all"}
        assert len(started) == 3  # for the event, and for the start and the end of the other flow's run


async def test_the_classes_that_a_flow_names_are_known_to_its_bus() -> None:
    class Order(BaseModel):
        amount: int

    async def body(order: Order) -> int:
        return order.amount

    async with EventBus() as bus, Engine() as engine:
        bus.subscribe("orders", graph("typed", body), engine=engine)
        event = await bus.publish("orders", Order(amount=3))
        await bus.drain()
        assert await result_of(engine, f"typed:{event.id}") == 3


async def test_a_waiting_run_delays_no_later_event() -> None:
    flow = Workflow("asks", wait_signal("go"))
    async with EventBus() as bus, Engine() as engine:
        bus.subscribe("x", flow, engine=engine)
        events = [await bus.publish("x", number) for number in range(3)]
        await bus.drain()
        ids = [f"asks:{event.id}" for event in events]
        for run_id in reversed(ids):
            await engine.signal(run_id, "go", run_id)
        assert [await result_of(engine, run_id) for run_id in ids] == ids


async def test_an_event_that_is_delivered_again_starts_and_resumes_no_run() -> None:
    calls = []

    async def body(value: str) -> str:
        calls.append(value)
        if value == "bad":
            raise ValueError(value)
        return value

    flow, runs, events = graph("once", body), MemoryStore(), MemoryStore()
    for _ in range(3):  # each time from the start of the log, as the name has no position yet
        async with EventBus(events) as bus, Engine(runs) as engine:
            await bus.publish("x", "good", event_id="1")
            await bus.publish("x", "bad", event_id="2")
            found = bus.subscribe("x", flow, name="again", from_start=True, engine=engine)
            await bus.drain()
            for run_id, ended in (("again:1", RunStatus.completed), ("again:2", RunStatus.failed)):
                async with asyncio.timeout(60):
                    while await engine.status(run_id) is not ended:  # noqa: ASYNC110 - the test has no handle on it
                        await asyncio.sleep(0)
            assert found.errors == 0
        forget_places(events)
    assert sorted(calls) == ["bad", "good"]


def forget_places(store: MemoryStore) -> None:
    """Delete the positions of named subscriptions, as a crash before their commit would."""
    places = [Delete(key) for key, _ in store.scan(b"c")]
    assert places
    store.commit(*places)


async def test_a_failed_run_leaves_no_dead_letter() -> None:
    async def body(value: int) -> int:
        raise ValueError(value)

    async with EventBus() as bus, Engine() as engine:
        bus.subscribe("x", graph("fails", body), engine=engine)
        event = await bus.publish("x", 1)
        await bus.drain()
        with pytest.raises(RunFailed, match="ValueError: 1"):
            await engine.execute(graph("fails", body), 1, run_id=f"fails:{event.id}")
        assert await bus.dead_letters() == []


async def test_events_missed_by_a_closed_engine_reach_the_next_one() -> None:
    events = MemoryStore()

    async def body(value: int) -> int:
        return value + 1

    async with EventBus(events) as bus:
        async with Engine() as engine:
            subscription = bus.subscribe("x", graph("next", body), engine=engine)
        event = await bus.publish("x", 1)
        await bus.drain()
        assert subscription.cancelled
        assert await bus.dead_letters() == []
        async with Engine() as engine:
            bus.subscribe("x", graph("next", body), engine=engine)
            await bus.drain()
            assert await result_of(engine, f"next:{event.id}") == 2


async def test_an_invalid_handler_is_refused_by_subscribe() -> None:
    flow = Agent("deaf", model=ScriptedModel([]))
    async with EventBus() as bus, Engine() as engine:
        with pytest.raises(TypeError, match=r"flow 'deaf' needs an engine to run on: bus\.subscribe\("):
            bus.subscribe("x", flow)
        with pytest.raises(TypeError, match=r"engine= is for a flow, and .* is not one"):
            bus.subscribe("x", print, engine=engine)
        with pytest.raises(TypeError, match="'deaf' cannot be handed an event: give a function"):
            bus.subscribe("x", "deaf")  # type: ignore[arg-type]
        with pytest.raises(GraphError):
            bus.subscribe("x", Graph("empty"), engine=engine)
        bus.subscribe("x", flow, engine=engine)
        with pytest.raises(BusError, match="'deaf' is subscribed here"):
            bus.subscribe("y", flow, engine=engine)


def test_two_events_never_share_a_run() -> None:
    pairs = [
        ("a", "b"),
        ("a:b", "c"),
        ("a", "b:c"),
        ("a", ""),
        ("a/b", "c"),
        ("a", "b/c"),
        ("x" * 200, "y"),
        ("a", "\ud800"),
    ]
    ids = [check_run_id(run_id_of(*pair)) for pair in pairs]
    assert len(set(ids)) == len(pairs)
    assert ids[0] == "a:b"


def walk(folder: Path, dies_at: str) -> dict[str, Any] | None:
    """Return the output of the process; `None` if it was killed."""
    output = run_child(HERE / "bus_flow_child.py", folder, dies_at)
    said: dict[str, Any] | None = None if output is None else json.loads(output)
    return said


@pytest.mark.parametrize("dies_at", ["before", "after", "first", "second"])
def test_a_killed_process_loses_no_event_and_starts_no_run_twice(tmp_path: Path, dies_at: str) -> None:
    for _ in range(2):
        assert walk(tmp_path, dies_at) is None
    said = walk(tmp_path, "-")
    assert said == {"outputs": {"shipping:order-0": 0, "shipping:order-1": 2}, "letters": 0}
    log = (tmp_path / "log").read_text().splitlines()
    # A node that was under way may run again; one that is committed does not.
    assert log == ["first orders.new"] * 2 if dies_at == "second" else set(log) == {"first orders.new"}
    assert walk(tmp_path, "-") == said
    assert (tmp_path / "log").read_text().splitlines() == log
