"""Flows with a node that kills its process each time among harmless nodes, and a program that runs them.

As a program it takes one JSON object: `store`, `flows` (names, one run each) and `deaths` (the number of begun nodes
after which the process is killed as if from outside; 0 for never). If it survives, it prints the outputs as a JSON
list.
"""

import asyncio
import json
import os
import signal
import sys
from collections.abc import Callable
from typing import Any

from beluga_graph import END, START, Context, Engine, Failure, Graph, RunStatus

VISITS = 200  # of the node that never stops


class Deps:
    """State that the nodes of one process share."""

    def __init__(self, deaths: int) -> None:
        self.deaths = deaths
        self.begun = self.visits = 0
        self.counted = asyncio.Event()

    async def begin(self) -> None:
        self.begun += 1
        if self.deaths:
            if self.begun == self.deaths:
                die()
            await asyncio.Event().wait()


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def poison(ctx: Context, value: Any) -> Any:
    if ctx.run_id == "counting":
        await ctx.deps.counted.wait()
    die()


async def slow(ctx: Context, value: Any) -> str:
    await ctx.deps.begin()
    await asyncio.sleep(0.05)  # longer than the other node needs to kill the process
    return "slow"


def collected(*branches: str) -> Graph:
    g = Graph("collected")
    g.join("join", shown, on_error="collect")
    for branch in branches:
        g.node(name=branch)(poison if branch == "poison" else slow)
        g.edge(branch, "join")
    g.fan_out("out", to=list(branches), join="join")
    g.edge(START, "out")
    g.edge("join", END)
    return g


def shown(results: list[Any]) -> list[str]:
    return [f"{result.type}: {result.message}" if isinstance(result, Failure) else result for result in results]


def beside() -> Graph:
    """Return a poisonous node among nodes that never end before it kills the process."""
    return collected("slow0", "poison", "slow1", "slow2")


def harmless() -> Graph:
    """Return harmless branches."""
    return collected("slow0", "slow1", "slow2", "slow3")


def counting() -> Graph:
    """Return a poisonous node beside a node that finishes in every process."""
    g = Graph("counting")

    async def count(ctx: Context, value: int) -> int:
        ctx.deps.visits += 1
        if ctx.deps.visits == 3:
            ctx.deps.counted.set()
        await asyncio.sleep(0)
        return value + 1

    g.node(poison)
    g.node(count)
    g.join("join", shown, on_error="collect")
    g.fan_out("out", to=["poison", "count"], join="join")
    g.edge(START, "out")
    g.edge("poison", "join")
    g.branch("count", lambda value: value >= VISITS, {True: "join", False: "count"})
    g.edge("join", END)
    return g


def alone(name: str, body: Any) -> Graph:
    g = Graph(name)
    g.node(name="node")(body)
    g.edge(START, "node")
    g.edge("node", END)
    return g


FLOWS: dict[str, Callable[[], Graph]] = {
    "beside": beside,
    "harmless": harmless,
    "counting": counting,
    "poison": lambda: alone("poison", poison),
    "slow0": lambda: alone("slow0", slow),
    "slow1": lambda: alone("slow1", slow),
}


async def main() -> None:
    job = json.loads(sys.argv[1])
    async with Engine(job["store"], deps=Deps(job["deaths"])) as engine:
        for name in job["flows"]:
            engine.register(FLOWS[name]())
        await engine.recover()
        failed = {
            info.run_id for info in await engine.runs() if info.status is RunStatus.failed
        }  # it must not be resumed
        runs = [await engine.start(FLOWS[name](), 0, run_id=name) for name in job["flows"] if name not in failed]
        outputs = {run.id: await run.result() for run in runs}
    print(json.dumps([outputs.get(name, "failed") for name in job["flows"]]), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
