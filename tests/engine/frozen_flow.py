"""Flows in which a process freezes itself before other work begins, and a program that runs one.

As a program it takes one JSON object: `store`, `effects` (a file), `kind`, `durability`, `lease_s`. It reports each
event on a line of its standard output.
"""

import asyncio
import json
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from owned_flow import OneAtATime, count_wakings, freeze_process

import beluga_graph.storage.leases
from beluga_graph import END, START, Agent, BelugaError, Context, Engine, Graph, tool
from beluga_graph.testing import ScriptedModel, ToolCall
from stores import LMDBStore

RUN_ID = "frozen"
THREADS = 32  # of an engine


class Outside:
    """The resources of the nodes: a file of effects, and a way to freeze once."""

    def __init__(self, effects: Path, store: OneAtATime | None = None) -> None:
        self._effects, self._store = effects, store
        self._count, self._lock = 0, threading.Lock()
        self.woken = threading.Event()
        if store is None:
            self.woken.set()

    def happen(self, what: str) -> int:
        with self._lock, self._effects.open("a") as file:
            file.write(f"{os.getpid()} {what}\n")
            self._count += 1
            return self._count

    def freeze(self) -> None:
        if self._store is not None and not self.woken.is_set():
            with self._store.turn:  # no other thread may be inside a commit here
                freeze_process()
            self.woken.set()


def chain() -> Graph:
    """Return a chain of nodes; the second one freezes."""
    g = Graph("chain")
    names = ["first", "second", "third", "fourth"]

    def node(name: str) -> None:
        @g.node(name=name)
        async def body(ctx: Context, value: int) -> int:
            ctx.deps.happen(name)
            if name == "second":
                ctx.deps.freeze()
            return value + 1

    for name in names:
        node(name)
    for source, target in zip([START, *names], [*names, END], strict=True):
        g.edge(source, target)
    return g


def threads() -> Graph:
    """Return more sync branches than threads; the branch in the last thread freezes."""

    def work(ctx: Context, value: int) -> int:
        if ctx.deps.happen(f"branch {value}") == THREADS:
            ctx.deps.freeze()
        assert ctx.deps.woken.wait(60)
        return value

    return fan_out(work, THREADS + 8)


def slots() -> Graph:
    """Return more async branches than the engine runs at a time; the second one freezes."""

    async def work(ctx: Context, value: int) -> int:
        if ctx.deps.happen(f"branch {value}") == 2:
            ctx.deps.freeze()
        await asyncio.sleep(0)
        return value

    return fan_out(work, 8)


def fan_out(work: Any, width: int) -> Graph:
    g = Graph("wide")
    g.node(name="work")(work)
    g.fan_out("out", to="work", over=lambda _: range(width), join="join")
    g.join("join", sum)
    g.edge(START, "out")
    g.edge("join", END)
    return g


def tools() -> Agent:
    """Return an agent that calls a tool that freezes, and then another tool."""

    @tool
    async def freeze(ctx: Context) -> str:
        """Freeze."""
        ctx.deps.happen("freeze")
        ctx.deps.freeze()
        return "woken"

    @tool
    def pay(ctx: Context) -> str:
        """Pay."""
        ctx.deps.happen("pay")
        return "paid"

    turns: dict[int, Any] = {1: ToolCall("freeze"), 3: ToolCall("pay"), 5: "done"}
    model = ScriptedModel(lambda request: turns[len(request.messages)])
    return Agent("payer", model=model, tools=[freeze, pay])


FLOWS: dict[str, Callable[[], Any]] = {"chain": chain, "threads": threads, "slots": slots, "tools": tools}
OUTPUTS: dict[str, Any] = {"chain": 4, "threads": sum(range(THREADS + 8)), "slots": sum(range(8)), "tools": "done"}


def given(kind: str) -> Any:
    return "pay" if kind == "tools" else 0


def at_once(kind: str) -> int | None:
    return 2 if kind == "slots" else None


def say(word: str) -> None:
    print(word, flush=True)


async def main() -> None:
    job = json.loads(sys.argv[1])
    kind = job["kind"]
    count_wakings()
    beluga_graph.storage.leases.LEASE_S, beluga_graph.storage.leases.RENEW_S = job["lease_s"], job["lease_s"] / 4
    store = OneAtATime(LMDBStore(job["store"]))
    outside = Outside(Path(job["effects"]), store)
    async with Engine(store, durability=job["durability"], deps=outside, max_concurrency=at_once(kind)) as engine:
        try:
            say(f"output {await engine.execute(FLOWS[kind](), given(kind), run_id=RUN_ID)}")
        except BelugaError as error:
            say(type(error).__name__)
    store.close()


if __name__ == "__main__":
    asyncio.run(main())
