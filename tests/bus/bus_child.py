"""A process that runs a flow whose nodes publish, and that may kill itself around the relay of a message.

It takes a folder, the topic at which to die (or `-`), whether that is `before` or `after` the bus took it, and
whether the bus uses the `same` store as the runs or its `own`.
"""

import asyncio
import json
import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1] / "shared"))

from dying_bus import DyingBus

from beluga_graph import END, START, Context, Engine, EventBus, Graph
from stores import LMDBStore


def flow(folder: Path) -> Graph:
    """Return a flow of two nodes that publish two messages and one."""
    g = Graph("told")

    @g.node
    async def first(ctx: Context, value: int) -> int:
        with (folder / "log").open("a") as log:
            log.write("first\n")
        ctx.publish("first.a", value)
        ctx.publish("first.b", "x" * 20_000)  # a large value travels by reference
        return value + 1

    @g.node
    async def second(ctx: Context, value: int) -> int:
        ctx.publish("second", value)
        return value + 1

    g.edge(START, first)
    g.edge(first, second)
    g.edge(second, END)
    return g


async def main(folder: Path, on: str) -> None:
    heard: list[str] = []
    async with DyingBus(folder / ("store" if on == "same" else "bus"), *sys.argv[2:4]) as bus:
        bus.subscribe("**", lambda event: heard.append(event.topic), name="listener", from_start=True)
        async with Engine(folder / "store", bus=bus) as engine:
            run = await engine.start(flow(folder), 0, run_id="r")
            assert await run.result(60) == 2
        await bus.drain()
        trace = await bus.trace("r")
        left = sum(1 for _ in engine_store(folder, bus, on))
    print(json.dumps({"trace": [event.topic for event in trace], "heard": heard, "left": left}))


def engine_store(folder: Path, bus: EventBus, on: str) -> list[bytes]:
    """Return the keys that are left in the outbox."""
    store = bus.store if on == "same" else LMDBStore(folder / "store")
    keys = [key for key, _ in store.scan(b"Q")]
    if on != "same":
        store.close()
    return keys


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[4]))
