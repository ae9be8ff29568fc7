"""Flows for the tests of pruning, and a program that works while another process prunes.

As a program it takes a job, `beside` or `prune`, and the store's folder. It prints a line when it is ready and one
when it is done.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from beluga_graph import END, START, Context, Engine, Graph, append
from stores import LMDBStore

__all__ = ["LARGE", "failing", "go_through", "rich", "waits"]

LARGE = "x" * 20_000


class Shelf(BaseModel):
    books: Annotated[list[str], append] = []


def rich() -> Graph:
    """Return a flow that leaves records of every kind: items, large values, a timer, a signal, a failed branch."""
    g = Graph("rich", state=Shelf)

    @g.node
    async def first(ctx: Context, value: str) -> str:
        ctx.update(books=[value, LARGE])
        return value + LARGE

    @g.node
    async def last(ctx: Context, value: object) -> str:
        return f"{ctx.input} {len(ctx.state.books)}"

    g.wait("w", "go", timeout=3600)
    g.edge(START, first)
    g.edge(first, "w")
    g.edge("w", last)
    g.edge(last, END)
    return g


def failing() -> Graph:
    """Return a flow that fails."""
    g = Graph("failing")

    @g.node
    def fail(value: str) -> str:
        raise ValueError(value)

    g.edge(START, fail)
    g.edge(fail, END)
    return g


def waits() -> Graph:
    """Return a flow that waits for the signal `go`."""
    g = Graph("waits")
    g.wait("w", "go")
    g.edge(START, "w")
    g.edge("w", END)
    return g


class Dying:
    """A store whose process dies after its n-th commit."""

    def __init__(self, inner: LMDBStore, commits: int) -> None:
        self._inner, self._left = inner, commits

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def commit(self, *ops) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1
        self._inner.commit(*ops)


async def go_through(engine: Engine, run_id: str, value: str) -> None:
    """Run `rich` once to its end."""
    run = await engine.start(rich(), value, run_id=run_id)
    await run.signal("go", LARGE + "payload")
    await run.result(timeout=60)


async def beside(folder: Path) -> None:
    """Run flows under a few ids again and again, while another process deletes some of the runs."""
    async with Engine(folder) as engine:
        print("ready", flush=True)
        number = 0
        while not (folder.parent / "enough").exists():
            await go_through(engine, f"again-{number % 7}-{number // 7}", "v")
            number += 1
        waiting = await engine.start(rich(), "left", run_id="left")
        await waiting.signal("go", LARGE)
        print(await waiting.result(timeout=60), number, flush=True)


async def prune(folder: Path, commits: int) -> None:
    store = LMDBStore(folder)
    async with Engine(Dying(store, commits)) as engine:
        print(len(await engine.prune()), flush=True)
    store.close()


if __name__ == "__main__":
    if sys.argv[1] == "beside":
        asyncio.run(beside(Path(sys.argv[2])))
    else:
        asyncio.run(prune(Path(sys.argv[2]), int(sys.argv[3])))
