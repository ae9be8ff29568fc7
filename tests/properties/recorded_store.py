"""A store with records of every kind that an engine and a bus write, and every call that reads them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Annotated, Any

from flows_for_tests import failing, talking
from pydantic import BaseModel

from beluga_graph import END, START, BusEvent, Context, Engine, EventBus, Graph, Workflow, append, step
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import encode_record
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Put

__all__ = ["CALLS", "Opened", "opened", "recorded"]

LARGE = "x" * 10_000
SESSION = "s"
STANDING = ("asks", "waits", "naps", "fork")  # the node or status at which each run is left
PATIENCE_S = 60.0


class Shelf(BaseModel):
    books: Annotated[list[str], append] = []
    n: int = 0


async def first(ctx: Context, value: int) -> str:
    ctx.update(books=["a", LARGE], n=value)
    ctx.publish("shelf.first", value)
    return LARGE


async def each(value: int) -> int:
    if value == 1:
        raise ValueError("one")
    return value


def shelving(name: str) -> Graph:
    """Return a flow with state, messages, a branch that fails, a question in a frame, a wait and a timer."""
    g = Graph(name, state=Shelf)
    g.node(name="first")(first)
    g.fan_out("out", to="each", over=lambda _: [0, 1, 2], join="gather")
    g.node(name="each")(each)
    g.join("gather", len, on_error="collect")
    g.add(Workflow("asking", step("pay", lambda value: value, requires_approval=True)), name="frame")
    g.wait("w", "go", timeout=3600.0)
    g.timer("nap", 3600.0)
    g.edge(START, "first")
    g.edge("first", "out")
    g.edge("gather", "frame")
    g.edge("frame", "w")
    g.edge("w", "nap")
    g.edge("nap", END)
    return g


def quick() -> Graph:
    g = Graph("quick")
    g.node(name="n")(lambda value: value)
    g.edge(START, "n")
    g.edge("n", END)
    return g


async def recorded() -> dict[bytes, bytes]:
    """Return the records of runs that are at each kind of node or have ended, and of a bus on the same store."""
    store = MemoryStore()
    async with asyncio.timeout(PATIENCE_S), EventBus(store) as bus, Engine(store) as engine:
        bus.subscribe("**", _refuse, name="refusing")
        await bus.publish("orders", {"n": 1}, agent_id="me", correlation_id="c")
        for run_id in STANDING[:-1]:
            run = await engine.start(shelving("shelving"), 7, run_id=run_id)
            while not (asked := [asked.id for asked in await engine.pending() if asked.run_id == run_id]):  # noqa: ASYNC110 - a question is not announced
                await asyncio.sleep(0)
            if run_id != "asks":
                await engine.answer(run_id, asked[0], "approve")
            if run_id == "naps":
                await run.signal("go", LARGE)
        await engine.signal("waits", "other", 1)
        engine.register(shelving("shelving"))
        await engine.fork("asks", 2, run_id_new="fork")
        await engine.execute(quick(), LARGE, run_id="done")
        await engine.execute(talking(), "hello", session=SESSION, run_id="talk")
        await (await engine.start(failing(LARGE), 1, run_id="failed")).outcome()
        while not await bus.dead_letters():  # noqa: ASYNC110 - nor is a dead letter
            await asyncio.sleep(0.01)
    await _schedule(store)
    grave, doom = b"E" + Keys("buried").run_key, b"J" + bytes(32)
    store.commit(Put(grave, encode_record(grave, ("buried", bytes(16)))), Put(doom, encode_record(doom, bytes(16))))
    parked = b"G" + Keys("naps").run_key
    store.commit(Put(parked, encode_record(parked, 1 << 62)))
    return dict(store.scan(b""))


async def _schedule(store: MemoryStore) -> None:
    """Store schedules that have become due long ago, one of them with a start that is queued behind its last run."""
    clock = VirtualClock()
    async with Engine(store, clock=clock) as engine:
        await engine.schedule("hourly", quick(), 7, every=3600, jitter=5)
        await engine.schedule("held up", shelving("shelving"), 7, every=3600, overlap="queue")
        await clock.advance(2.5 * 3600)
        await engine.schedule("yearly", quick(), 7, cron="0 9 1 1 *", timezone="Europe/Berlin")
        await engine.pause("yearly")


def _refuse(event: BusEvent) -> None:
    raise ValueError(event.topic)


class Opened:
    """An engine and a bus on a store of these records."""

    def __init__(self, engine: Engine, bus: EventBus) -> None:
        self.engine, self.bus = engine, bus
        self.shelving = shelving("shelving")


@asynccontextmanager
async def opened(records: dict[bytes, bytes]) -> AsyncIterator[Opened]:
    """Yield an engine that knows all flows, and a bus, on a fresh store of these records."""
    store = MemoryStore()
    store.commit(*(Put(key, blob) for key, blob in records.items()))
    async with EventBus(store) as bus, Engine(store) as engine:
        for flow in (shelving("shelving"), failing(LARGE), talking(), quick()):
            engine.register(flow)
        yield Opened(engine, bus)


async def _resumed(at: Opened, run_id: str) -> None:
    run = await at.engine.resume(run_id)
    async for event in run.events():
        if event.type in ("waiting", "done", "error"):
            break
    with suppress(TimeoutError):  # it waits, as before
        await run.outcome(timeout=0.001)


async def _of_a_schedule(at: Opened, name: str) -> None:
    await at.engine.pause(name)
    await at.engine.schedule(name, quick(), 8, every=3600)
    await at.engine.unpause(name)
    await asyncio.sleep(0.001)
    await at.engine.unschedule(name)


async def _heard(at: Opened) -> None:
    heard: list[BusEvent] = []
    at.bus.subscribe("**", heard.append, name="hears", from_start=True)
    at.bus.subscribe("**", heard.append, name="refusing")
    await at.bus.drain()


def _of_a_run(call: Callable[[Opened, str], Awaitable[Any]]) -> list[Callable[[Opened], Awaitable[Any]]]:
    def bound(run_id: str) -> Callable[[Opened], Awaitable[Any]]:
        return lambda at: call(at, run_id)

    return [bound(run_id) for run_id in (*STANDING, "done", "failed", "talk")]


CALLS: list[Callable[[Opened], Awaitable[Any]]] = [
    lambda at: at.engine.runs(),
    lambda at: at.engine.pending(),
    lambda at: at.engine.check(at.shelving),
    *_of_a_run(lambda at, run_id: at.engine.status(run_id)),
    *_of_a_run(lambda at, run_id: at.engine.history(run_id)),
    *_of_a_run(lambda at, run_id: at.engine.snapshot(run_id)),
    *_of_a_run(lambda at, run_id: at.engine.snapshot(run_id, 2)),
    *_of_a_run(lambda at, run_id: at.engine.draw(run_id)),
    *_of_a_run(lambda at, run_id: at.engine.html(run_id)),
    *_of_a_run(lambda at, run_id: at.engine.trail(run_id)),
    *_of_a_run(lambda at, run_id: at.engine.compare(run_id, "asks")),
    *_of_a_run(lambda at, run_id: at.engine.difference(run_id)),
    lambda at: at.engine.schedules(),
    *(partial(_of_a_schedule, name=name) for name in ("hourly", "held up", "yearly")),
    lambda at: at.bus.trace("c"),
    lambda at: at.bus.dead_letters(),
    lambda at: asyncio.to_thread(at.bus.observed),
    _heard,
    lambda at: at.bus.publish("orders", 2),
    lambda at: at.engine.signal("waits", "other", 1),
    lambda at: at.engine.fork("asks", 2),
    lambda at: at.engine.fork("waits", 3),
    lambda at: at.engine.execute(talking(), "again", session=SESSION),
    lambda at: at.engine.execute(quick(), LARGE, run_id="done"),
    lambda at: at.engine.execute(quick(), 1),
    *_of_a_run(_resumed),
    lambda at: at.engine.recover(),
    *_of_a_run(lambda at, run_id: at.engine.cancel(run_id)),
    lambda at: at.bus.prune(older_than=0),
    lambda at: at.engine.prune(status=("completed", "failed", "cancelled")),
]
