"""The outbox: a message of a node exists if and only if its step does, and reaches the bus once, in order."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    BusEvent,
    Context,
    Engine,
    EventBus,
    Graph,
    Retry,
    RunFailed,
    RunStatus,
)
from beluga_graph.codec import Registry
from beluga_graph.execution.messages import Message
from beluga_graph.runtime import outbox_relay as outbox_module
from beluga_graph.storage.verify import verify_store
from stores import MemoryStore
from stores.base import Put


def chain(name: str, *nodes: Any, **options: Any) -> Graph:
    """Return a graph of nodes in a row."""
    g = Graph(name)
    before: Any = START
    for fn in nodes:
        node = g.node(fn, **options) if not options else g.node(**options)(fn)
        g.edge(before, node)
        before = node
    g.edge(before, END)
    return g


async def tell(ctx: Context, value: Any) -> Any:
    """Publish twice."""
    ctx.publish("told", value)
    ctx.publish("told.more")
    return value


def left(store: Any) -> int:
    """Return how many messages are in the outbox."""
    return sum(1 for _ in store.scan(b"Q"))


async def until(holds: Any) -> None:
    """Wait until a condition holds, for at most a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # no event announces the condition
            await asyncio.sleep(0.001)


async def topics(bus: EventBus, run_id: str) -> list[str]:
    """Return the topics of the events of a run."""
    return [event.topic for event in await bus.trace(run_id)]


async def test_an_event_of_a_node_is_correlated_with_the_run_and_caused_by_the_node() -> None:
    async with EventBus() as bus, Engine(bus=bus) as engine:
        run = await engine.start(chain("flow", tell), {"n": 1}, run_id="r")
        await run.result()
        await engine.close()
        started, told, more, completed = await bus.trace("r")
        assert (told.topic, told.data, told.agent_id) == ("told", {"n": 1}, "tell")
        assert (told.correlation_id, told.causation_id) == ("r", "r:tell#1")
        assert (more.topic, more.data) == ("told.more", None)
        for event, topic, status in ((started, "run.started", "running"), (completed, "run.completed", "completed")):
            assert event.topic == topic
            assert event.data == {"run_id": "r", "flow": "flow", "status": status}
            assert (event.agent_id, event.correlation_id, event.causation_id) == ("flow", "r", "")
        assert len({event.id for event in await bus.trace("r")}) == 4


async def test_a_failed_attempt_publishes_nothing() -> None:
    async def flaky(ctx: Context, value: int) -> int:
        ctx.publish("tried", ctx.attempt)
        if ctx.attempt < 3:
            raise ValueError
        return value

    async with EventBus() as bus, Engine(bus=bus) as engine:
        await engine.execute(chain("flow", flaky, retry=Retry(attempts=3, initial=0)), 0, run_id="r")
        await engine.close()
        assert [event.data for event in await bus.trace("r") if event.topic == "tried"] == [3]


async def test_a_node_whose_route_is_refused_publishes_nothing() -> None:
    g = Graph("routed")
    node = g.node(tell)
    g.branch(node, lambda value: "nowhere", {"here": END})
    g.edge(START, node)
    async with EventBus() as bus, Engine(bus=bus) as engine:
        with pytest.raises(RunFailed):
            await engine.execute(g, 0, run_id="r")
        await engine.close()
        assert await topics(bus, "r") == ["run.started", "run.failed"]


@pytest.mark.parametrize(
    ("topic", "data", "said"),
    [
        ("a.*", 1, "BadTopic: topic 'a.*': a * is for patterns"),
        ("", 1, "BadTopic: topic ''"),
        ("a", [object()], "node 'bad' published it to 'a'"),
    ],
)
async def test_an_invalid_message_fails_its_node_at_once(topic: str, data: Any, said: str) -> None:
    tried: list[int] = []

    async def bad(ctx: Context, value: int) -> None:
        tried.append(ctx.attempt)
        ctx.publish(topic, data)

    async with Engine() as engine:
        with pytest.raises(RunFailed) as failed:
            await engine.execute(chain("flow", bad, retry=Retry(attempts=3, initial=0)), 0)
        assert said in str(failed.value)
        assert tried == [1]


async def test_without_a_bus_messages_are_kept_for_an_engine_with_one() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        for name in ("r", "s"):
            await engine.execute(chain("flow", tell), 1, run_id=name)
    assert left(store) == 4
    assert verify_store(store).damage == ()
    assert verify_store(store).records["messages to publish"] == 4
    async with Engine(store) as engine:
        await engine.execute(chain("flow", tell), 1, run_id="t")
    async with EventBus() as bus:
        async with Engine(store, bus=bus) as engine:
            await engine.recover()
            await until(lambda: left(store) == 0)
        for name in ("r", "s", "t"):
            assert await topics(bus, name) == ["told", "told.more"]


class Report(BaseModel):
    """A class whose instances are published."""

    pages: int


async def test_the_bus_knows_the_classes_that_a_flow_names() -> None:
    heard: list[Any] = []

    async def report(ctx: Context, value: Report) -> Report:
        ctx.publish("reported", value)
        return value

    async with EventBus() as bus:
        bus.subscribe("reported", lambda event: heard.append(event.data))
        async with Engine(bus=bus) as engine:
            await engine.execute(chain("flow", report), Report(pages=3))
        await bus.drain()
    assert heard == [Report(pages=3)]


async def test_a_sync_node_publishes_from_its_thread() -> None:
    def told(ctx: Context, value: int) -> int:
        ctx.publish("told", value)
        return value

    async with EventBus() as bus:
        async with Engine(bus=bus) as engine:
            await engine.execute(chain("flow", told), 1, run_id="r")
        assert await topics(bus, "r") == ["run.started", "told", "run.completed"]


async def test_a_fork_publishes_only_its_own_messages() -> None:
    async with EventBus() as bus:
        async with Engine(bus=bus) as engine:
            flow = chain("flow", tell, lambda ctx, value: ctx.publish("last", value))
            await engine.execute(flow, 1, run_id="r")
            fork = await engine.fork("r", 2, run_id_new="f")
            await fork.result()
        assert await topics(bus, "r") == ["run.started", "told", "told.more", "last", "run.completed"]
        assert await topics(bus, "f") == ["run.started", "last", "run.completed"]


async def test_a_fork_that_reuses_the_id_of_a_pruned_one_publishes_its_status(tmp_path: Path) -> None:
    async def first(value: int) -> int:
        return value

    flow = Graph("waits")
    nodes = [flow.node(first), flow.node(tell)]
    flow.wait("wait", "go")
    flow.edge(START, nodes[0])
    flow.edge(nodes[0], nodes[1])
    flow.edge(nodes[1], "wait")
    flow.edge("wait", END)
    async with EventBus(tmp_path) as bus, Engine(tmp_path, bus=bus) as engine:
        await engine.start(flow, 1, run_id="r")
        for count in (1, 2):
            await until(lambda: left(engine.store) == 0)
            fork = await engine.fork("r", 2, run_id_new="f")
            await fork.signal("go")
            await fork.result()
            await until(lambda: left(engine.store) == 0)
            assert (await topics(bus, "f")).count("told") == count
            assert [run.run_id for run in await engine.prune(older_than=0)] == ["f"]


async def test_a_fork_that_begins_waiting_publishes_run_waiting() -> None:
    g = Graph("waits")
    g.wait("wait", "go")
    g.edge(START, "wait")
    g.edge("wait", END)
    async with EventBus() as bus:
        async with Engine(bus=bus) as engine:
            await engine.start(g, 1, run_id="r")
            fork = await engine.fork("r", 1, run_id_new="f")
            await fork.signal("go", 2)
            await fork.result()
        assert await topics(bus, "f") == ["run.started", "run.waiting", "run.completed"]


async def test_each_status_of_a_run_is_published_once() -> None:
    broken = [True]

    async def maybe(value: Any) -> Any:
        if broken[0]:
            raise ValueError
        return value

    g = Graph("waits")
    node = g.node(maybe)
    g.wait("wait", "go")
    g.edge(START, "wait")
    g.edge("wait", node)
    g.edge(node, END)
    async with EventBus() as bus:
        async with Engine(bus=bus) as engine:
            run = await engine.start(g, 0, run_id="r")
            await run.signal("go", 1)
            with pytest.raises(RunFailed):
                await run.result()
            broken[0] = False
            await (await engine.resume("r")).result()
            other = await engine.start(g, 0, run_id="c")
            assert await other.cancel() is RunStatus.cancelled
        assert await topics(bus, "r") == ["run.started", "run.waiting", "run.failed", "run.completed"]
        assert await topics(bus, "c") == ["run.started", "run.waiting", "run.cancelled"]
        waiting = (await bus.trace("r"))[1]
        assert waiting.data == {"run_id": "r", "flow": "waits", "status": "waiting"}


async def test_without_a_bus_no_status_is_stored() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.execute(chain("flow", lambda value: value), 0)
    assert left(store) == 0


class OddBus:
    """A bus that hangs or refuses messages."""

    def __init__(self) -> None:
        self.taken: list[str] = []
        self.open = asyncio.Event()
        self.refuses = 0

    def learn(self, registry: Registry) -> None:
        """Ignore classes."""

    async def relay(self, message: Message) -> None:
        """Take a message."""
        await self.open.wait()
        if self.refuses:
            self.refuses -= 1
            raise ConnectionError("not now")
        self.taken.append(f"{message.correlation_id}:{message.topic}")


async def test_a_bus_that_hangs_blocks_no_run_and_holds_nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_CLOSE_S", 0.01)
    store, bus = MemoryStore(), OddBus()
    async with Engine(store, bus=bus) as engine:
        for number in range(50):
            assert await engine.execute(chain("flow", tell), number, run_id=f"r{number}") == number
        assert (left(store), bus.taken) == (200, [])
        tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        assert len(tasks) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    assert left(store) == 200
    bus.open.set()
    async with Engine(store, bus=bus) as engine:
        await engine.recover()
        await until(lambda: left(store) == 0)
    wanted = ["run.started", "told", "told.more", "run.completed"]
    for number in range(50):
        mine = [name.split(":")[1] for name in bus.taken if name.startswith(f"r{number}:")]
        assert mine == wanted


async def test_a_refused_message_is_sent_again_in_order(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_module, "_TRY_AGAIN_S", 0.001)
    store, bus = MemoryStore(), OddBus()
    bus.open.set()
    bus.refuses = 5
    async with Engine(store, bus=bus) as engine:
        await engine.execute(chain("flow", tell), 1, run_id="r")
        await until(lambda: left(store) == 0)
    assert bus.taken == ["r:run.started", "r:told", "r:told.more", "r:run.completed"]
    assert "messages stay in the outbox for now: ConnectionError: not now" in caplog.text


class PickyBus(OddBus):
    """A bus that refuses one topic of some runs."""

    def __init__(self, topic: str, *runs: str) -> None:
        super().__init__()
        self.open.set()
        self.topic, self.runs = topic, set(runs)
        self.asked = 0

    async def relay(self, message: Message) -> None:
        """Take a message, unless it is one to refuse."""
        if message.topic == self.topic and message.correlation_id in self.runs:
            self.asked += 1
            raise ValueError("never")
        await super().relay(message)


async def test_a_message_that_is_always_refused_blocks_only_its_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(outbox_module, "_PAGE", 2)
    monkeypatch.setattr(outbox_module, "_TRY_AGAIN_S", 0.01)
    store, names = MemoryStore(), [f"r{number}" for number in range(10)]
    bus = PickyBus("told", "r3", "r7")
    wanted = ["run.started", "told", "told.more", "run.completed"]
    async with Engine(store, bus=bus) as engine:
        for name in names:
            await engine.execute(chain("flow", tell), 1, run_id=name)
        await until(lambda: left(store) == 6)
        for name in names:
            mine = [told.split(":")[1] for told in bus.taken if told.startswith(f"{name}:")]
            assert mine == (wanted[:1] if name in bus.runs else wanted)
        assert "ValueError: never (on 'told', of run" in caplog.text
        assert caplog.text.count("messages stay in the outbox") <= bus.asked
        bus.runs.clear()
        await until(lambda: left(store) == 0)
    for name in ("r3", "r7"):
        assert [told.split(":")[1] for told in bus.taken if told.startswith(f"{name}:")] == wanted


async def test_a_blocked_run_does_not_delay_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox_module, "_TRY_AGAIN_S", 1000.0)
    store, bus = MemoryStore(), PickyBus("run.started", "bad")
    async with Engine(store, bus=bus) as engine:
        for name in ("bad", "r", "s"):
            await engine.execute(chain("flow", tell), 1, run_id=name)
            await until(lambda: left(store) == 4 and engine._host.scheduler.outbox._task is None)
    assert (bus.asked, len(bus.taken)) == (1, 8)


async def test_a_damaged_message_is_reported_and_blocks_no_other(caplog: pytest.LogCaptureFixture) -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.execute(chain("flow", tell), 1, run_id="r")
    (key, blob), _ = store.scan(b"Q")
    store.commit(Put(key, blob[:-1]))
    bus = OddBus()
    bus.open.set()
    async with Engine(store, bus=bus) as engine:
        await engine.recover()
    assert (bus.taken, left(store)) == (["r:told.more"], 1)
    assert caplog.text.count("a message in the outbox cannot be published") == 1


async def test_messages_of_a_run_are_left_to_the_engine_that_drives_it(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def hold(ctx: Context, value: int) -> int:
        await go_on.wait()
        return value

    flow = chain("flow", tell, hold)
    mine, others = OddBus(), OddBus()
    others.open.set()
    async with Engine(tmp_path, bus=mine) as engine:
        run = await engine.start(flow, 1, run_id="r")
        await until(lambda: left(engine.store) == 3)
        async with Engine(tmp_path, bus=others) as other:
            other.register(flow)
            await other.recover()
        assert (others.taken, left(engine.store)) == ([], 3)
        mine.open.set()
        go_on.set()
        await run.result()
    assert mine.taken == ["r:run.started", "r:told", "r:told.more", "r:run.completed"]


async def test_an_idle_engine_relays_messages_that_another_one_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outbox_module, "_LOOK_S", 0.02)
    async with EventBus(tmp_path) as bus, Engine(tmp_path, bus=bus) as idle:
        await idle.recover()
        await until(lambda: idle._host.scheduler.outbox._task is None)  # it has looked and found no message
        async with Engine(tmp_path) as other:
            await other.execute(chain("flow", tell), 1, run_id="r")
        assert left(idle.store) == 2
        await until(lambda: left(idle.store) == 0)
        assert await topics(bus, "r") == ["told", "told.more"]


async def test_a_run_started_within_a_handler_is_not_caused_by_the_event() -> None:
    async with EventBus() as bus:
        async with Engine(bus=bus) as engine:

            async def start(event: BusEvent) -> None:
                await engine.execute(chain("flow", tell), 1, run_id="r")

            subscription = bus.subscribe("begin", start)
            await bus.publish("begin")
            await bus.drain()
            assert subscription.errors == 0
        assert [event.causation_id for event in await bus.trace("r")] == ["", "r:tell#1", "r:tell#1", ""]


async def test_the_agent_of_a_node_is_named_as_the_publisher() -> None:
    async with EventBus() as bus:
        bus.subscribe("told.**", print, name="reader")
        async with Engine(bus=bus) as engine:
            await engine.execute(chain("flow", tell), 1)
        await bus.drain()
        assert ("tell", "told", "reader") in bus.observed()


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
async def test_messages_are_relayed_after_their_commit_in_every_durability(tmp_path: Path, durability: Any) -> None:
    bus = EventBus()
    async with bus:
        async with Engine(tmp_path, durability=durability, bus=bus) as engine:
            await engine.execute(chain("flow", tell, tell_again), 1, run_id="r")
        assert await topics(bus, "r") == ["run.started", "told", "told.more", "again", "run.completed"]


async def tell_again(ctx: Context, value: Any) -> Any:
    """Publish once more."""
    ctx.publish("again", value)
    return value
