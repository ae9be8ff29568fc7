"""A flow with two sets of node names, and a program that runs it until it is killed.

As a program it takes one JSON object: `folder`, `stop` (the original name of the node that never ends), `names`
(current node names by original name) and `rename` (the argument of `resume`, if the run is to be resumed).
"""

import asyncio
import json
import sys
from pathlib import Path

from beluga_graph import END, START, Context, Engine, Graph

__all__ = ["NEW", "RUN", "WAITING", "shop"]

RUN = "r"
WAITING = "confirm"
NEW = {
    "order": "take",
    "split": "parts",
    "pack": "wrap",
    "packed": "wrapped",
    "ship": "deliver",
    "label": "print",
    "send": "hand_over",
    "confirm": "confirmed",
}


def shop(folder: Path, stop: str = "", names: dict[str, str] | None = None) -> Graph:
    """Return the flow. Each node records its idempotency key; the node `stop` never ends."""
    called = names or {name: name for name in NEW}

    async def happen(ctx: Context, node: str) -> None:
        with (folder / "log").open("a") as log:
            log.write(f"{node} {ctx.idempotency_key}\n")
        if node == stop:
            print("stopped", flush=True)
            await asyncio.Event().wait()

    g = Graph("shop")
    inside = Graph("inside")

    async def order(ctx: Context, value: int) -> int:
        await happen(ctx, "order")
        return value

    async def split(ctx: Context, value: int) -> list[int]:
        await happen(ctx, "split")
        return [value + 1, value]

    async def pack(ctx: Context, value: int) -> int:
        if value % 2 == 0:  # the other branch is finished
            await happen(ctx, "pack")
        return value

    async def label(ctx: Context, value: int) -> int:
        await happen(ctx, "label")
        return value

    async def send(ctx: Context, value: int) -> int:
        await happen(ctx, "send")
        return value

    first = g.node(name=called["order"])(order)
    each = g.node(name=called["pack"])(pack)
    joined = g.join(called["packed"], sum)
    # One branch at a time: the first is committed before the second begins, so it is always finished at the kill.
    opened = g.fan_out(called["split"], to=each, over=split, join=joined, max_concurrency=1)
    one, two = inside.node(name=called["label"])(label), inside.node(name=called["send"])(send)
    inside.edge(START, one)
    inside.edge(one, two)
    inside.edge(two, END)
    sub = g.add(inside, name=called["ship"])
    confirmed = g.wait(called["confirm"], "ok")
    g.edge(START, first)
    g.edge(first, opened)
    g.edge(joined, sub)
    g.edge(sub, confirmed)
    g.edge(confirmed, END)
    return g


async def main(job: dict) -> None:
    folder = Path(job["folder"])
    flow = shop(folder, job["stop"], job["names"])
    async with Engine(folder / "store") as engine:
        if job["rename"] is None:
            run = await engine.start(flow, 10, run_id=RUN)
        else:
            engine.register(flow)
            run = await engine.resume(RUN, rename=job["rename"])
        async for event in run.events():
            if event.type == "waiting" and job["stop"] == WAITING:
                print("stopped", flush=True)
        await run.result()


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
