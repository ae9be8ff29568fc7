"""Flows for the tests of the command line. Their input is a folder, in which each node logs its work."""

import asyncio
from pathlib import Path

from pydantic import BaseModel

from beluga_graph import END, START, Context, Graph, Workflow, sleep, step, wait_signal

__all__ = ["asking", "asking_again", "counting", "failing", "gated", "napping"]


def note(ctx: Context, folder: str, what: str = "") -> None:
    with (Path(folder) / "log").open("a") as log:
        log.write(f"{ctx.run_id} {ctx.node}{what}\n")


@step("pay", requires_approval=True)
async def pay(ctx: Context, folder: str) -> str:
    note(ctx, folder)
    return folder


@step("tell")
async def tell(ctx: Context, payload: object) -> object:
    return payload


asking = Workflow("asking", pay, wait_signal("shipped"), tell)
asking_again = Workflow("asking", tell)
napping = Workflow("napping", sleep("nap", 3600), tell)

gated = Graph("gated")


@gated.node
async def first(ctx: Context, folder: str) -> str:
    """Wait for a file that a test writes."""
    note(ctx, folder, " begins")
    while not (Path(folder) / "open").exists():  # noqa: ASYNC110  # a file is not announced
        await asyncio.sleep(0.01)
    note(ctx, folder, " ends")
    return folder


@gated.node
async def second(ctx: Context, folder: str) -> str:
    note(ctx, folder)
    return "gone through"


gated.edge(START, first)
gated.edge(first, second)
gated.edge(second, END)

failing = Graph("failing")


@failing.node
async def charge(ctx: Context, folder: str) -> str:
    """Fail until a test fixes the cause."""
    note(ctx, folder)
    if not (Path(folder) / "mended").exists():
        raise ValueError("the till is \x1b[31mempty")
    return "charged"


failing.edge(START, charge)
failing.edge(charge, END)


class Count(BaseModel):
    """The state of `counting`."""

    n: int = 0
    names: list[str] = []


counting = Graph("counting", state=Count)


@counting.node
async def one(ctx: Context, value: int) -> int:
    ctx.update(n=value)
    return value


@counting.node
async def two(ctx: Context, value: int) -> list[object]:
    return [value, ctx.state.n, list(ctx.state.names)]


counting.edge(START, one)
counting.edge(one, two)
counting.edge(two, END)
