"""An invisible name is refused by every function that takes a name."""

from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from beluga_graph import (
    START,
    Agent,
    BelugaError,
    Engine,
    EventBus,
    Graph,
    LoopAgent,
    ParallelAgent,
    SequentialAgent,
    Workflow,
    sleep,
    step,
    tool,
    wait_signal,
)
from beluga_graph.testing import ScriptedModel

BLANKS = [
    "",
    " ",
    "   ",
    "\xa0",
    "\t",
    "\n",
    "\u200b",
    "\u2003",
    "\u3000",
    "\ufeff",
    "\u2800",
    "\u3164",
    "\ufe0f",
    "\u00ad",
]
SEEN = ["a", "é", "名", "🙂", "a b", " a", "_", "1", "-"]


def same(value: Any) -> Any:
    return value


def agent(name: str = "a") -> Agent:
    return Agent(name, model=ScriptedModel(lambda _: "done"))


async def started(run_id: str) -> None:
    async with Engine() as engine:
        await engine.execute(Workflow("w", step("s", same)), 1, run_id=run_id)


async def forked(run_id: str) -> None:
    async with Engine() as engine:
        await engine.execute(Workflow("w", step("s", same), step("t", same)), 1, run_id="r")
        await engine.fork("r", 1, run_id_new=run_id)


async def signalled(name: str) -> None:
    async with Engine() as engine:
        await engine.start(Workflow("w", wait_signal("go")), 1, run_id="r")
        await engine.signal("r", name)


async def in_session(name: str) -> None:
    async with Engine() as engine:
        await engine.execute(agent(), "hello", session=name)


async def published(topic: str) -> None:
    async with EventBus() as bus:
        await bus.publish(topic)


async def subscribed(pattern: str) -> None:
    async with EventBus() as bus:
        bus.subscribe(pattern, same)


async def subscriber(name: str) -> None:
    async with EventBus() as bus:
        bus.subscribe("topic", same, name=name)


async def published_by_node(topic: str) -> None:
    def publish(ctx, value):
        ctx.publish(topic)

    async with Engine() as engine:
        await engine.execute(Workflow("w", step("s", publish)), 1)


def waiting(name: str) -> Any:
    return Graph("g").wait("w", name)


DOORS: dict[str, Callable[[str], Any]] = {
    "graph": Graph,
    "node": lambda name: Graph("g").node(name=name)(same),
    "sub-flow": lambda name: Graph("g").add(agent(), name=name),
    "fan-out": lambda name: Graph("g").fan_out(name, to="n", join="j"),
    "join": lambda name: Graph("g").join(name),
    "timer": lambda name: Graph("g").timer(name, 1),
    "wait": lambda name: Graph("g").wait(name, "go"),
    "waited for": waiting,
    "workflow": lambda name: Workflow(name, step("s", same)),
    "step": lambda name: Workflow("w", step(name, same)),
    "wait_signal": lambda name: Workflow("w", wait_signal(name)),
    "sleep": lambda name: Workflow("w", sleep(name, 1)),
    "agent": agent,
    "sequential": lambda name: SequentialAgent(name, [agent()]),
    "parallel": lambda name: ParallelAgent(name, [agent()]),
    "loop": lambda name: LoopAgent(name, agent()),
    "run": started,
    "fork": forked,
    "signal": signalled,
    "session": in_session,
    "topic": published,
    "pattern": subscribed,
    "part of a topic": lambda name: published(f"a.{name}"),
    "topic of a node": published_by_node,
    "subscriber": subscriber,
}


async def at(door: str, name: str) -> None:
    found = DOORS[door](name)
    if isinstance(found, Awaitable):
        await found


@pytest.mark.parametrize("door", DOORS)
async def test_an_invisible_name_is_refused(door: str) -> None:
    for name in BLANKS:
        with pytest.raises(BelugaError):
            await at(door, name)


@pytest.mark.parametrize("door", DOORS)
async def test_a_visible_name_is_accepted(door: str) -> None:
    for name in SEEN:
        await at(door, name)


def test_a_tool_has_a_name_that_every_provider_can_carry() -> None:
    for name in BLANKS:
        with pytest.raises(BelugaError):
            tool(name=name)(same)


def test_start_is_reserved_as_a_name() -> None:
    with pytest.raises(BelugaError):
        Graph(START.name)
