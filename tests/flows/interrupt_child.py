"""A process that walks a graph which signals interrupt, and may kill itself in one of its nodes.

It takes a folder, the node to die in (or `-`), and the signals to send: name and payload, joined by `=`.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from beluga_graph import END, START, Context, Engine, Graph


def order(folder: Path, dies_in: str) -> Graph:
    """Return a graph whose nodes each write a line to a file. `ship` never ends by itself."""
    g = Graph("order")

    async def note(ctx: Context, value: str) -> str:
        with (folder / "log").open("a") as log:
            log.write(f"{ctx.node}:{value}\n")
        if ctx.node == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
        if ctx.node == "ship":
            await asyncio.Event().wait()
        return value

    for name in ("pay", "ship", "refund", "tell"):
        g.node(name=name)(note)
    for source, target in ((START, "pay"), ("pay", "ship"), ("ship", "tell"), ("refund", "tell"), ("tell", END)):
        g.edge(source, target)
    g.on_signal("ship", "cancel", "refund")
    return g


async def main(folder: Path, dies_in: str, signals: list[str]) -> None:
    async with Engine(folder / "store") as engine:
        run = await engine.start(order(folder, dies_in), "7", run_id="r")
        for sent in signals:
            await run.signal(*sent.split("="))
        print(await run.result(60))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
