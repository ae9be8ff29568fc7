"""A process that recovers the runs in a store, and a flow whose nodes record the process that ran them."""

import asyncio
import os
import sys
from pathlib import Path

from beluga_graph import END, START, Context, Engine, Graph

__all__ = ["flow"]


def flow(folder: Path) -> Graph:
    """Return a flow of two nodes; `last` ends when the file `open` exists."""
    g = Graph("recovered")

    def note(ctx: Context, node: str) -> None:
        with (folder / "log").open("a") as log:
            log.write(f"{ctx.run_id} {node} {os.getpid()}\n")

    @g.node
    async def first(ctx: Context, value: int) -> int:
        if ctx.deps == "park":
            await asyncio.Event().wait()
        note(ctx, "first")
        return value

    @g.node
    async def last(ctx: Context, value: int) -> int:
        note(ctx, "last")
        while not (folder / "open").exists():  # noqa: ASYNC110  # a file is not announced
            await asyncio.sleep(0.01)
        return value

    g.edge(START, first)
    g.edge(first, last)
    g.edge(last, END)
    return g


async def main(folder: Path) -> None:
    async with Engine(folder / "store") as engine:
        engine.register(flow(folder))
        print("ready", flush=True)
        sys.stdin.readline()
        recovery = await engine.recover()
        skipped = [f"{name}:{type(error).__name__}" for name, error in recovery.skipped.items()]
        print(" ".join(run.id for run in recovery), flush=True)
        print(" ".join(skipped), flush=True)
        for run in recovery:
            await run.result(timeout=60)
        print("done", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
