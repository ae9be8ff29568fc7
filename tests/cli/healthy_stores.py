"""Stores as the engine and the bus leave them after a random program that uses every feature."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    Agent,
    BelugaError,
    BusEvent,
    Context,
    Engine,
    EventBus,
    Graph,
    Run,
    Workflow,
    append,
    sleep,
    step,
    wait_signal,
)
from beluga_graph.testing import ScriptedModel

__all__ = ["fill"]

LARGE = 9_000


class Log(BaseModel):
    log: Annotated[list[str], append] = []


def rich() -> Graph:
    """Return a graph with a fan-out, an append field, large values, an error edge and published events."""
    graph = Graph("rich", state=Log)

    @graph.node
    async def begin(ctx: Context, size: int) -> list[int]:
        ctx.update(log=["begun", "x" * size])
        ctx.publish("begun", {"size": size})
        return [size, size + 1]

    @graph.node
    async def work(ctx: Context, size: int) -> str:
        ctx.update(log=[f"worked on {size}"])
        if size % 5 == 0:
            raise ValueError(size)
        return "y" * size

    @graph.node
    async def mend(failure: object) -> str:
        return "mended"

    @graph.node
    async def end(ctx: Context, parts: list[str]) -> int:
        ctx.update(log=["ended"])
        return sum(map(len, parts))

    graph.fan_out("each", work, join="all", over=lambda sizes: sizes)
    graph.join("all")
    graph.edge(START, begin)
    graph.edge(begin, "each")
    graph.edge(work, "all")
    graph.on_error(work, mend)
    graph.edge(mend, "all")
    graph.edge("all", end)
    graph.edge(end, END)
    return graph


def chain() -> Graph:
    """Return a chain of nodes with a list of three and a large value in the state, long enough for a full snapshot."""
    graph = Graph("chain", state=Log)

    @graph.node
    async def first(ctx: Context, value: int) -> str:
        ctx.update(log=["one", "two", "three"])
        return "z" * LARGE

    @graph.node
    async def count(value: str | int) -> int:
        return (value if isinstance(value, int) else 0) + 1

    graph.edge(START, first)
    graph.edge(first, count)
    graph.branch(count, lambda value: value < 70, {True: count, False: END})
    return graph


def parking() -> Workflow:
    @step("tell")
    async def tell(payload: object) -> object:
        return payload

    return Workflow("parking", wait_signal("go"), tell)


def asking() -> Workflow:
    @step("pay", requires_approval=True)
    async def pay(amount: int) -> int:
        return amount

    return Workflow("asking", pay)


def failing() -> Graph:
    graph = Graph("failing")

    @graph.node
    async def fail(value: int) -> int:
        raise ValueError(value)

    graph.wait("patience", "never", timeout=3600)
    graph.fan_out("both", fail, join="all", over=lambda values: values)
    graph.join("all")
    graph.edge(START, "both")
    graph.edge(fail, "all")
    graph.edge("all", "patience")
    graph.edge("patience", END)
    return graph


def refuse_some(event: BusEvent) -> None:
    """Turn some events into dead letters."""
    if not event.data["size"] % 2:
        raise ValueError(event.data["size"])


async def fill(
    path: Path, *, seed: int, prefix: str = "", look: Callable[[Engine], None] = lambda _: None, actions: int = 25
) -> None:
    """Make some fixed runs, then perform random actions on runs and a bus."""
    rng = random.Random(seed)
    async with EventBus(path) as bus, contextlib.AsyncExitStack() as stack:
        bus.subscribe("begun", refuse_some, name="reader")
        engine = await stack.enter_async_context(Engine(path, bus=bus))
        await _known_runs(engine, prefix)
        look(engine)
        for flow in (rich(), chain(), parking(), asking(), failing()):
            engine.register(flow)
        for number in range(actions):
            with contextlib.suppress(BelugaError):
                await _act(engine, bus, rng, f"{prefix}{seed}-{number}")
            look(engine)


async def _known_runs(engine: Engine, prefix: str) -> None:
    await engine.execute(chain(), 1, run_id=f"{prefix}done")
    parked = await engine.start(parking(), 1, run_id=f"{prefix}parked")
    await engine.signal(parked.id, "other", {"large": "s" * LARGE})
    await engine.signal(parked.id, "other", 2)
    await engine.start(asking(), 7, run_id=f"{prefix}asks")
    await engine.start(Workflow("napping", sleep("nap", 3600)), 7, run_id=f"{prefix}naps")
    for text in ("hello", "again"):
        talker = Agent("talker", model=ScriptedModel(lambda request: "m" * LARGE))
        await engine.execute(talker, text, session=f"{prefix}chat")
    await (await engine.fork(f"{prefix}done", 40, run_id_new=f"{prefix}fork")).result()
    while engine._host.runs.current(parked.id) is not None:  # noqa: ASYNC110  # that it is parked is not announced
        await asyncio.sleep(0.01)


async def _act(engine: Engine, bus: EventBus, rng: random.Random, name: str) -> None:
    known = [run.run_id for run in await engine.runs()]
    one = rng.choice(known) if known else ""
    match rng.randrange(12):
        case 0 | 1:
            await engine.execute(rich(), rng.choice([3, 5, 20, LARGE]), run_id=name)
        case 2:
            await engine.start(rng.choice([parking, asking])(), rng.randrange(9), run_id=name)
        case 3:
            await engine.execute(failing(), [1, 2], run_id=name)
        case 4:
            await engine.signal(one, "go", "g" * rng.choice([1, LARGE]))
        case 5:
            await engine.cancel(one)
        case 6:
            await _settled(await engine.fork(one, rng.randrange(1, 6), run_id_new=name))
        case 7:
            for question in await engine.pending():
                await engine.answer(question.run_id, question.id, rng.choice(["approve", "reject"]))
        case 8:
            await engine.prune(status=rng.choice([("completed",), ("failed", "cancelled")]))
        case 9:
            await bus.publish("begun", {"size": rng.randrange(4)})
        case 10:
            await bus.drain()
            await bus.prune(older_than=0)
        case _:
            model = ScriptedModel(lambda request: rng.choice(["ok", "m" * LARGE]))
            await _settled(await engine.start(Agent("talker", model=model), "hi", session=rng.choice("ab")))


async def _settled(run: Run) -> Any:
    """Wait until a run ends or waits."""
    while await run.status() == "running":  # noqa: ASYNC110  # that it waits is not announced to a handle
        await asyncio.sleep(0)
