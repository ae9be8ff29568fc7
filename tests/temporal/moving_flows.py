"""Flows whose runs move to the server, are forked there, or go on with a changed graph, and effects to count."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import pairwise
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any

from pydantic import BaseModel
from servers import Server

from beluga_graph import END, START, Context, Graph, add, append
from beluga_graph.temporal import TemporalEngine

__all__ = [
    "FLOWS",
    "LARGE",
    "PATIENCE_S",
    "RENAMES",
    "Effects",
    "asking",
    "failing",
    "opened",
    "renamed",
    "shelving",
    "until_status",
]

PATIENCE_S = 90
LARGE = "x" * 10_000


class Effects:
    """Counts the attempts of nodes by their idempotency keys; a node fails while its name is in `broken`."""

    def __init__(self, *broken: str) -> None:
        self.broken = set(broken)
        self.keys: Counter[str] = Counter()

    def happen(self, ctx: Context) -> None:
        self.keys[ctx.idempotency_key] += 1
        if ctx.node in self.broken:
            msg = f"{ctx.node} is broken"
            raise ValueError(msg)


class Shelf(BaseModel):
    books: Annotated[list[str], append] = []
    total: Annotated[int, add] = 0
    label: str = "plain"


def shelving(*, is_longer: bool = False) -> Graph:
    """Return a flow that appends items, waits for two signals and returns its state. A longer one has another end."""
    g = Graph("shelving", state=Shelf)

    @g.node
    async def first(ctx: Context, value: Any) -> Any:
        ctx.deps.happen(ctx)
        ctx.update(books=["a", LARGE], total=1)
        return value

    @g.node
    async def between(ctx: Context, value: Any) -> Any:
        ctx.deps.happen(ctx)
        ctx.update(books=["b"], total=2)
        return value

    @g.node
    async def last(ctx: Context, value: Any) -> Any:
        ctx.deps.happen(ctx)
        return [value, ctx.input, {"books": [*ctx.state.books], "total": ctx.state.total, "label": ctx.state.label}]

    g.wait("w1", "go")
    g.wait("w2", "go")
    path = (START, "first", "w1", "between", "w2", "last", *(["more"] if is_longer else []), END)
    if is_longer:
        g.node(name="more")(lambda value: {"of": value})
    for source, target in pairwise(path):
        g.edge(source, target)
    return g


def failing(*, more: bool = False) -> Graph:
    """Return a flow whose second node may be broken. The changed one has another node at its end."""
    g = Graph("failing")

    @g.node
    async def good(ctx: Context, value: int) -> int:
        ctx.deps.happen(ctx)
        return value + 1

    @g.node
    async def bad(ctx: Context, value: int) -> int:
        ctx.deps.happen(ctx)
        return value * 2

    @g.node
    async def tail(ctx: Context, value: int) -> int:
        return value

    if more:
        g.node(name="more")(lambda value: [value])
    for source, target in pairwise((START, good, bad, tail, *(["more"] if more else []), END)):
        g.edge(source, target)
    return g


def asking(*, more: bool = False) -> Graph:
    """Return a flow whose node needs approval. The changed one has another node at its end."""
    g = Graph("asking")

    @g.node(requires_approval=True)
    async def pay(ctx: Context, value: int) -> str:
        ctx.deps.happen(ctx)
        return f"paid {value}"

    if more:
        g.node(name="more")(lambda value: [value])
    for source, target in pairwise((START, pay, *(["more"] if more else []), END)):
        g.edge(source, target)
    return g


@asynccontextmanager
async def opened(
    server: Server, *flows: Graph, queue: str = "", claims: Path | None = None, deps: Any = None
) -> AsyncIterator[TemporalEngine]:
    """Open an engine that has a task queue of its own, with a worker for some flows."""
    queue = queue or token_hex(4)
    async with TemporalEngine(server.address, task_queue=queue, claims=claims, deps=deps) as engine:
        if not flows:
            yield engine
            return
        async with engine.worker(flows, grace=0.5):
            yield engine


async def until_status(engine: Any, run_id: str, status: str) -> None:
    """Wait until a run has a status."""
    while await engine.status(run_id) != status:  # noqa: ASYNC110 - the status is not announced
        await asyncio.sleep(0.05)


def renamed(*, is_new: bool, halts: bool = True) -> Graph:
    """Return a chain of a node that halts, if so wanted, and a wait; the new one calls them differently."""
    names = ("now", "heard", "end") if is_new else ("work", "hear", "end")
    g = Graph("renamed")

    async def work(ctx: Context, value: int) -> int:
        ctx.deps.happen(ctx)
        if halts and not is_new:
            await asyncio.sleep(PATIENCE_S)
        return value + 1

    async def end(ctx: Context, value: int) -> list[int]:
        ctx.deps.happen(ctx)
        return [value, ctx.input]

    g.node(name=names[0])(work)
    g.wait(names[1], "go")
    g.node(name=names[2])(end)
    for source, target in pairwise((START, *names, END)):
        g.edge(source, target)
    return g


FLOWS = {
    "asking": asking,
    "halting": lambda: renamed(is_new=False),
    "waiting": lambda: renamed(is_new=False, halts=False),
    "new": lambda: renamed(is_new=True),
}
RENAMES = {"work": "now", "hear": "heard"}
