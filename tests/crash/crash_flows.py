"""The flows that the crash tests kill. Each node writes a line to a file, so that its effects can be counted."""

import asyncio
import os
import signal
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel

from beluga_graph import END, START, Context, Graph, Limits, Retry, add, append

__all__ = ["FLOWS", "INPUT", "RUN_ID", "Effects"]

RUN_ID = "the-run"
INPUT = 3


class Effects:
    """The effects of nodes: a line for each attempt.

    Kills the process when a point is passed for the `count`-th time.
    """

    def __init__(self, path: Path, *, pause: float = 0.0, point: str = "", count: int = 0) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        self.pause = pause
        self._point, self._count = point, count
        self._passed: Counter[str] = Counter()

    def passes(self, point: str) -> None:
        self._passed[point] += 1
        if point == self._point and self._passed[point] == self._count:
            os.kill(os.getpid(), signal.SIGKILL)

    def happen(self, ctx: Context) -> None:
        self.passes("before")
        os.write(self._file, f"{ctx.idempotency_key} {ctx.attempt}\n".encode())
        self.passes("inside")


async def work(ctx: Context) -> None:
    ctx.deps.happen(ctx)
    await asyncio.sleep(ctx.deps.pause)


def chain() -> Graph:
    g = Graph("chain")

    @g.node
    async def first(ctx, value):
        await work(ctx)
        return value + 1

    @g.node
    def second(ctx, value):  # in a thread
        ctx.deps.happen(ctx)
        return value * 10

    @g.node
    async def third(ctx, value):
        await work(ctx)
        return {"value": value, "large": "x" * 20_000}

    @g.node
    async def fourth(ctx, value):
        await work(ctx)
        return [value["value"], len(value["large"])]

    g.edge(START, first)
    g.edge(first, second)
    g.edge(second, third)
    g.edge(third, fourth)
    g.edge(fourth, END)
    return g


def loop() -> Graph:
    g = Graph("loop")

    @g.node
    async def double(ctx, value):
        await work(ctx)
        return value * 2

    @g.node
    async def enough(ctx, value):
        await work(ctx)
        return value

    g.edge(START, double)
    g.edge(double, enough)
    g.branch(enough, lambda value: "stop" if value > 20 else "again", {"stop": END, "again": double})
    return g


def branch() -> Graph:
    g = Graph("branch")

    @g.node
    async def look(ctx, value):
        await work(ctx)
        return value

    @g.node
    async def odd(ctx, value):
        await work(ctx)
        return f"{value} is odd"

    @g.node
    async def even(ctx, value):
        await work(ctx)
        return f"{value} is even"

    g.edge(START, look)
    g.branch(look, lambda value: value % 2, {1: odd, 0: even})
    g.edge(odd, END)
    g.edge(even, END)
    return g


def nested() -> Graph:
    g = Graph("nested")

    @g.node
    async def left(ctx, value):
        await work(ctx)
        return f"{value}l"

    @g.node
    async def right(ctx, value):
        await work(ctx)
        return f"{value}r"

    @g.node
    async def inner_join(ctx, value):
        await work(ctx)
        return "+".join(value)

    g.join("inner", lambda results: results)
    g.join("outer", " ".join)
    g.fan_out("items", to="sides", over=lambda width: [f"i{i}" for i in range(width - 1)], join="outer")
    g.fan_out("sides", to=[left, right], join="inner")
    g.edge(START, "items")
    g.edge(left, "inner")
    g.edge(right, "inner")
    g.edge("inner", inner_join)
    g.edge(inner_join, "outer")
    g.edge("outer", END)
    return g


def race() -> Graph:
    g = Graph("race")

    @g.node
    async def quick(ctx, value):
        await work(ctx)
        return value + 1

    @g.node
    async def never(ctx, value):
        await work(ctx)
        await asyncio.Event().wait()

    @g.node
    async def also_quick(ctx, value):
        await work(ctx)
        return value + 2

    @g.node
    async def after(ctx, value):
        await work(ctx)
        return value

    g.fan_out("start", to=[quick, never, also_quick], join="first_two")
    g.join("first_two", wait=2)
    g.edge(START, "start")
    g.edge("first_two", after)
    g.edge(after, END)
    return g


def retry() -> Graph:
    g = Graph("retry")

    @g.node(retry=Retry(attempts=4, initial=0.001, maximum=0.002))
    async def flaky(ctx, value):
        await work(ctx)
        if ctx.attempt < 3:
            raise ConnectionError(ctx.attempt)
        return value + ctx.attempt

    @g.node
    async def after(ctx, value):
        await work(ctx)
        return value

    g.edge(START, flaky)
    g.edge(flaky, after)
    g.edge(after, END)
    return g


class Tally(BaseModel):
    total: Annotated[int, add] = 0
    seen: Annotated[list[str], append] = []
    mood: str = "calm"


def state() -> Graph:
    g = Graph("state", state=Tally)

    @g.node
    async def count(ctx, value):
        await work(ctx)
        ctx.update(total=value, seen=f"item {value}")
        return value

    @g.node
    async def report(ctx, value):
        await work(ctx)
        ctx.update(total=100, mood="done", seen=["end"])
        return [sum(value), ctx.state.total, list(ctx.state.seen), ctx.state.mood]

    @g.node
    async def check(ctx, value):
        await work(ctx)
        return [value, ctx.state.total, list(ctx.state.seen), ctx.state.mood]

    g.fan_out("items", to=count, over=lambda width: list(range(width)), join="joined")
    g.join("joined")
    g.edge(START, "items")
    g.edge("joined", report)
    g.edge(report, check)
    g.edge(check, END)
    return g


def waits() -> Graph:
    g = Graph("waits")

    @g.node
    async def before(ctx, value):
        await work(ctx)
        return value

    @g.node
    async def after(ctx, value):
        await work(ctx)
        return value + 2

    g.timer("pause", 0.003)
    g.wait("approval", "go", type=int)
    g.edge(START, before)
    g.edge(before, "pause")
    g.edge("pause", "approval")
    g.edge("approval", after)
    g.edge(after, END)
    return g


def parks() -> Graph:
    """Return a flow that is parked three times: for a timer, for a signal, and between two attempts."""
    g = Graph("parks")

    @g.node(retry=Retry(attempts=2, initial=0.03, maximum=0.03))
    async def flaky(ctx, value):
        await work(ctx)
        if ctx.attempt < 2:
            msg = "not yet"
            raise OSError(msg)
        return value

    @g.node
    async def after(ctx, value):
        await work(ctx)
        return value + 1

    g.timer("pause", 0.03)
    g.wait("approval", "go", type=int)
    g.edge(START, "pause")
    g.edge("pause", "approval")
    g.edge("approval", flaky)
    g.edge(flaky, after)
    g.edge(after, END)
    return g


def times() -> Graph:
    """Return a flow whose pause, wait, frame and join take times that functions decide."""
    inner = Graph("inner")

    @inner.node
    async def within(ctx, value):
        await work(ctx)
        return value

    inner.edge(START, within)
    inner.edge(within, END)
    g = Graph("times")

    async def decide(ctx, value):
        await work(ctx)
        return value / 1000

    async def decide_much(ctx, value):
        await work(ctx)
        return value * 1000

    @g.node
    async def after(ctx, value):
        await work(ctx)
        return value + 1

    g.timer("pause", decide)
    g.add(inner, timeout=decide_much)
    g.wait("vain", "never", timeout=decide, default=2)
    g.fan_out("each", to=after, over=range, join="joined")
    g.join("joined", sum, timeout=decide_much)
    g.edge(START, "pause")
    g.edge("pause", "inner")
    g.edge("inner", "vain")
    g.edge("vain", "each")
    g.edge("joined", END)
    return g


FLOWS: dict[str, Callable[[], Graph]] = {
    made.__name__: made for made in (chain, loop, branch, nested, race, retry, state, waits, parks, times)
}
PATIENT = Limits(max_interruptions=1000)
