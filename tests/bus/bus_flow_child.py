"""A process in which a flow handles events, and that may kill itself between an event and the end of its run.

It takes a folder and where to die: `before` or `after` the commit that starts the run, in the `first` or the `second`
node, or nowhere (`-`).
"""

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

from beluga_graph import END, START, Context, Engine, EventBus, Graph

FOLDER, DIES_AT = Path(sys.argv[1]), sys.argv[2]


def die(at: str) -> None:
    """Kill this process if this is where it should die."""
    if at == DIES_AT:
        os.kill(os.getpid(), signal.SIGKILL)


def log(line: str) -> None:
    with (FOLDER / "log").open("a") as file:
        file.write(f"{line}\n")


class DyingEngine(Engine):
    """An engine that dies as it starts a run."""

    async def start(self, *args: Any, **options: Any) -> Any:
        """Start a run, or die."""
        die("before")
        run = await super().start(*args, **options)
        die("after")
        return run


def shipping() -> Graph:
    g = Graph("shipping")

    @g.node
    async def first(ctx: Context, order: dict[str, int]) -> int:
        die("first")
        log(f"first {ctx.context['event']['topic']}")
        return order["amount"]

    @g.node
    async def second(amount: int) -> int:
        die("second")
        return amount * 2

    g.edge(START, first)
    g.edge(first, second)
    g.edge(second, END)
    return g


async def main() -> None:
    async with EventBus(FOLDER / "store") as bus, DyingEngine(FOLDER / "store", bus=bus) as engine:
        bus.subscribe("orders.*", shipping(), engine=engine)
        await engine.recover()
        for number in range(2):  # published events are not published again
            await bus.publish("orders.new", {"amount": number}, event_id=f"order-{number}")
        await bus.drain()
        outputs = {info.run_id: await (await engine.resume(info.run_id)).result(60) for info in await engine.runs()}
        letters = len(await bus.dead_letters())
    print(json.dumps({"outputs": outputs, "letters": letters}))


asyncio.run(main())
