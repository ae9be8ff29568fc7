"""Exceeding a limit raises `LimitReached` with the name that the limit has in `Limits`."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import fields
from typing import Any

import pytest

from beluga_graph import (
    END,
    START,
    Agent,
    Engine,
    Graph,
    Interrupted,
    LimitReached,
    Limits,
    RunFailed,
    Workflow,
    handoff_to,
    tool,
    wait_signal,
)
from beluga_graph.kernel.triggers import RunTakenOver
from beluga_graph.testing import ScriptedModel, ToolCall
from stores import MemoryStore

BIG = "x" * 2_000


def looping(limits: Limits | None) -> Graph:
    g = Graph("looping", limits=limits)
    g.node(name="n")(lambda value: value)
    g.edge(START, "n")
    g.branch("n", lambda value: 0, {0: "n", 1: END})
    return g


def wide(limits: Limits | None) -> Graph:
    g = Graph("wide", limits=limits)
    g.node(name="n")(lambda value: value)
    g.fan_out("out", to="n", over=lambda value: range(5), join="in")
    g.join("in")
    g.edge(START, "out")
    g.edge("in", END)
    return g


def big(limits: Limits | None, give: Callable[..., Any]) -> Graph:
    g = Graph("big", limits=limits)
    g.node(name="n")(give)
    g.edge(START, "n")
    g.edge("n", END)
    return g


@tool
def again() -> str:
    """Ask again."""
    return "again"


def asking(limits: Limits | None) -> Graph:
    g = Graph("asking", limits=limits)
    g.add(Agent("a", model=ScriptedModel(lambda _: ToolCall("again", {})), tools=[again]))
    g.edge(START, "a")
    g.edge("a", END)
    return g


def handing(limits: Limits | None) -> Graph:
    one = Agent(
        "one", model=ScriptedModel(lambda _: ToolCall("transfer_to_two", {})), handoffs=lambda: [handoff_to(two)]
    )
    two = Agent(
        "two", model=ScriptedModel(lambda _: ToolCall("transfer_to_one", {})), handoffs=lambda: [handoff_to(one)]
    )
    g = Graph("handing", limits=limits)
    g.add(one)
    g.edge(START, "one")
    g.edge("one", END)
    return g


async def execute(flow: Graph, limits: Limits | None) -> None:
    async with Engine() as engine:
        await engine.execute(flow, 1, limits=limits)


def publishing(ctx, value):
    ctx.publish("topic", BIG)


def passing(make: Callable[[Limits | None], Graph]) -> Callable[[Limits, bool], Awaitable[None]]:
    """Return a flow that exceeds a limit of the graph or of the run."""

    async def passed(limits: Limits, of_run: bool) -> None:
        await execute(make(None if of_run else limits), limits if of_run else None)

    return passed


async def started_with(limits: Limits, of_run: bool) -> None:
    async with Engine() as engine:
        flow = big(None if of_run else limits, lambda value: 1)
        await engine.execute(flow, BIG, limits=limits if of_run else None)


async def given_as_context(limits: Limits, of_run: bool) -> None:
    async with Engine() as engine:
        flow = big(None if of_run else limits, lambda value: 1)
        await engine.execute(flow, 1, context={"big": BIG}, limits=limits if of_run else None)


async def interrupted(limits: Limits, of_run: bool) -> None:
    """Simulate the death of a run's owner while its node runs, again and again."""
    store = MemoryStore()

    async def slow(value):
        await asyncio.sleep(3600)

    flow = big(None if of_run else limits, slow)
    while True:
        async with Engine(store) as engine:
            run = await engine.start(flow, 1, run_id="r", limits=limits if of_run else None)
            live = engine._host.runs.current("r")
            assert live is not None
            engine._host.scheduler.decide(live, RunTakenOver(0))
            live.walker.fail_interrupted()
            if live.snapshot.status == "failed":
                await run.result()


WAYS: dict[str, tuple[Limits, Callable[[Limits, bool], Awaitable[None]]]] = {
    "max_visits": (Limits(max_visits=3), passing(looping)),
    "max_steps": (Limits(max_steps=3), passing(looping)),
    "max_turns": (Limits(max_turns=2), passing(asking)),
    "max_width": (Limits(max_width=3), passing(wide)),
    "max_handoffs": (Limits(max_handoffs=2, max_turns=50), passing(handing)),
    "max_interruptions": (Limits(max_interruptions=2), interrupted),
    "max_value_bytes": (Limits(max_value_bytes=1_000), passing(lambda limits: big(limits, lambda value: BIG))),
    "max_value_bytes, published": (Limits(max_value_bytes=1_000), passing(lambda limits: big(limits, publishing))),
    "max_value_bytes, started with": (Limits(max_value_bytes=1_000), started_with),
    "max_value_bytes, as context": (Limits(max_value_bytes=1_000), given_as_context),
}


def test_every_limit_is_exceeded_by_a_test_here() -> None:
    assert {field.name for field in fields(Limits)} == {name.partition(",")[0] for name in WAYS}


async def assert_named(name: str, passed: Awaitable[None]) -> None:
    with pytest.raises((RunFailed, LimitReached)) as caught:
        await passed
    assert name in str(caught.value)
    if isinstance(caught.value, RunFailed):
        assert caught.value.cause.type in (LimitReached.__name__, Interrupted.__name__)


@pytest.mark.parametrize("of_run", [False, True], ids=["of the graph", "of the run"])
@pytest.mark.parametrize("name", WAYS)
async def test_an_error_names_a_limit_by_its_public_name(name: str, of_run: bool) -> None:
    limits, passed = WAYS[name]
    await assert_named(name.partition(",")[0], passed(limits, of_run))


async def test_a_signal_that_is_too_large_for_its_graph_is_refused_by_the_name_of_the_limit() -> None:
    flow = Workflow("w", wait_signal("go"), limits=Limits(max_value_bytes=1_000))
    async with Engine() as engine:
        await engine.start(flow, 1, run_id="r")
        with pytest.raises(LimitReached, match="max_value_bytes"):
            await engine.signal("r", "go", BIG)


def test_interrupted_is_raised_when_a_limit_is_reached() -> None:
    assert issubclass(Interrupted, LimitReached)
