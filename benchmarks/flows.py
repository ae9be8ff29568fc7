"""The workloads as graphs, and the node bodies, which raw asyncio runs too."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from itertools import pairwise
from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph import END, START, Context, Graph, Limits, append

__all__ = [
    "MESSAGE",
    "blob_chain",
    "chain",
    "counter",
    "doubled",
    "fan_out",
    "first_value",
    "loop",
    "next_value",
    "piece",
    "speaker",
    "visits",
]

MESSAGE = "m" * 200
_PAD = "x" * 88


class Visits:
    """Counts node executions of this process; calls `reached` when execution number `at` begins."""

    def __init__(self) -> None:
        self.count = 0
        self.at: int | None = None
        self.reached: Callable[[], None] | None = None

    def __call__(self, number: int) -> None:
        self.count += 1
        if number == self.at and self.reached is not None:
            self.reached()


visits = Visits()


def first_value() -> dict[str, Any]:
    """Return the input of the first node: an int and a string of 100 bytes."""
    return {"n": 0, "s": f"{0:012d}{_PAD}"}


def next_value(value: dict[str, Any]) -> dict[str, Any]:
    """Return the output of a node: both fields of its input change."""
    number = value["n"] + 1
    return {"n": number, "s": f"{number:012d}{_PAD}"}


def doubled(number: int) -> int:
    """Return the output of a branch."""
    return number * 2


def piece(number: int) -> str:
    """Return one piece of text."""
    return f"token {number:06d} "


@cache
def chain(steps: int) -> Graph:
    """W1, W5: as many distinct nodes as steps."""
    g = Graph("chain")

    async def node(value: dict[str, Any]) -> dict[str, Any]:
        return next_value(value)

    nodes = [g.node(name=f"n{index}")(node) for index in range(steps)]
    g.edge(START, nodes[0])
    for source, target in pairwise(nodes):
        g.edge(source, target)
    g.edge(nodes[-1], END)
    return g


class Conversation(BaseModel):
    """W2's state."""

    messages: Annotated[list[str], append] = []


@cache
def loop(turns: int) -> Graph:
    """W2, W4: two nodes, the first of which appends a message."""
    g = Graph("loop", state=Conversation, limits=Limits(max_visits=turns + 1, max_steps=2 * turns + 2))

    @g.node
    async def ask(ctx: Context, value: dict[str, Any]) -> dict[str, Any]:
        visits(value["n"])
        ctx.update(messages=MESSAGE)
        return next_value(value)

    @g.node
    async def answer(value: dict[str, Any]) -> dict[str, Any]:
        visits(value["n"])
        return next_value(value)

    def choose(value: dict[str, Any]) -> str:
        return "on" if value["n"] < 2 * turns else "out"

    g.edge(START, ask)
    g.edge(ask, answer)
    g.branch(answer, choose, {"on": ask, "out": END})
    return g


@cache
def fan_out() -> Graph:
    """W3: one branch per item of `range(width)`; the join returns the number of branches."""
    g = Graph("fan")

    @g.node
    async def branch(number: int) -> int:
        return doubled(number)

    def items(width: int) -> range:
        return range(width)

    def arrived(results: list[int]) -> int:
        return len(results)

    opened = g.fan_out("open", branch, join="close", over=items)
    closed = g.join("close", arrived)
    g.edge(START, opened)
    g.edge(closed, END)
    return g


class Keeping(BaseModel):
    """W6's state."""

    blob: str = ""


def blob_chain(steps: int, blob: str) -> Graph:
    """W6: the first node puts a large value into the state, where it stays."""
    g = Graph("blob", state=Keeping)

    async def first(ctx: Context, value: dict[str, Any]) -> dict[str, Any]:
        ctx.update(blob=blob)
        return next_value(value)

    async def node(value: dict[str, Any]) -> dict[str, Any]:
        return next_value(value)

    nodes = [g.node(name="n0")(first), *(g.node(name=f"n{index}")(node) for index in range(1, steps))]
    g.edge(START, nodes[0])
    for source, target in pairwise(nodes):
        g.edge(source, target)
    g.edge(nodes[-1], END)
    return g


@cache
def speaker() -> Graph:
    """W8: one node that emits text."""
    g = Graph("speaker")

    @g.node
    async def speak(ctx: Context, count: int) -> int:
        for number in range(count):
            ctx.emit_text(piece(number))
        return count

    g.edge(START, speak)
    g.edge(speak, END)
    return g


@cache
def counter(steps: int) -> Graph:
    """W9: one node in a loop."""
    g = Graph("counter", limits=Limits(max_visits=steps + 1, max_steps=steps + 1))

    @g.node
    async def count(value: dict[str, Any]) -> dict[str, Any]:
        visits(value["n"])
        return next_value(value)

    def choose(value: dict[str, Any]) -> str:
        return "on" if value["n"] < steps else "out"

    g.edge(START, count)
    g.branch(count, choose, {"on": count, "out": END})
    return g
