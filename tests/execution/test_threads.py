"""Sync nodes run in the engine's threads, async nodes on the loop, and each has its own context."""

import asyncio
import contextvars
import threading
from typing import Any

import pytest
from flows_for_tests import chain

from beluga_graph import END, START, Engine, Graph

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE", default="unset")


async def test_sync_nodes_run_in_daemon_threads_and_async_ones_on_the_loop() -> None:
    threads: dict[str, threading.Thread] = {}

    def sync(value):
        threads["sync"] = threading.current_thread()

    async def on_the_loop(value):
        threads["async"] = threading.current_thread()

    await chain(sync, on_the_loop).invoke(1)
    assert threads["async"] is threading.current_thread()
    assert threads["sync"] is not threading.current_thread()
    assert threads["sync"].daemon
    assert threads["sync"].name.startswith("beluga-graph")


async def test_sync_nodes_run_at_the_same_time() -> None:
    together = threading.Barrier(8)

    def meet(value):
        together.wait(60)
        return value

    g = Graph("g")
    g.node(meet)
    g.fan_out("out", to="meet", over=lambda value: range(8), join="j")
    g.join("j", sum)
    g.edge(START, "out")
    g.edge("j", END)
    assert await g.invoke(None) == 28


async def test_a_sync_node_does_not_block_the_loop() -> None:
    let_go = threading.Event()

    async def turn() -> None:
        await asyncio.sleep(0)
        let_go.set()

    def blocks(value):
        assert let_go.wait(60)
        return value

    result, _ = await asyncio.gather(chain(blocks).invoke(1), turn())
    assert result == 1


@pytest.mark.parametrize("first", ["async", "sync", "awaitable", "chooser"])
async def test_context_variables_do_not_leak_from_node_to_node(first: str) -> None:
    seen = []

    async def in_the_loop(value):
        VARIABLE.set("leaked")
        await asyncio.sleep(0)
        seen.append(VARIABLE.get())
        return value

    def in_a_thread(value):
        VARIABLE.set("leaked")
        seen.append(VARIABLE.get())
        return value

    def choose(value):
        in_a_thread(value)
        return True

    async def look(value):
        seen.append(VARIABLE.get())
        return value

    def awaitable(value):
        return in_the_loop(value)

    bodies: dict[str, Any] = {"async": in_the_loop, "sync": in_a_thread, "awaitable": awaitable, "chooser": look}
    g = Graph("g")
    g.node(name="first")(bodies[first])
    g.node(name="then")(look)
    g.edge(START, "first")
    if first == "chooser":
        g.branch("first", choose, {True: "then"})
    else:
        g.edge("first", "then")
    g.edge("then", END)
    VARIABLE.set("outside")
    await g.invoke(1)
    assert seen[-2:] == ["leaked", "outside"]
    assert VARIABLE.get() == "outside"


async def test_nodes_see_the_context_variables_of_the_caller_that_started_the_run() -> None:
    def look(value):
        return VARIABLE.get()

    async def look_too(value):
        return [value, VARIABLE.get()]

    VARIABLE.set("of the starter")
    assert await chain(look, look_too).invoke(1) == ["of the starter", "of the starter"]


async def test_a_task_that_a_node_starts_may_use_timeouts_of_its_own() -> None:
    async def careful(value):
        try:
            async with asyncio.timeout(0.005):
                await asyncio.Event().wait()
        except TimeoutError:
            return "gave up itself"

    async with Engine() as engine:
        assert await engine.execute(chain(careful, timeout=10), 1) == "gave up itself"


async def test_runs_whose_commits_are_shared_do_not_share_variables() -> None:
    seen: dict[str, set[str]] = {"a": set(), "b": set()}

    async def look(value: str) -> str:
        seen[value].add(VARIABLE.get())
        return value

    def wide(name: str) -> Graph:  # each branch's work begins when the step before it is committed
        g = Graph(name)
        g.node(look)
        g.fan_out("out", to="look", over=lambda value: [value] * 3, join="j")
        g.join("j", lambda values: values[0])
        g.edge(START, "out")
        g.edge("j", END)
        return g

    async with Engine() as engine:

        async def runs(name: str) -> None:
            VARIABLE.set(name)
            await engine.execute(wide(name), name)

        await asyncio.gather(*(runs(name) for name in "ab" * 4))
    assert seen == {"a": {"a"}, "b": {"b"}}
