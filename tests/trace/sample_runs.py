"""Sample flows with frames, fan-outs, loops and waits, and helpers for traces of their runs."""

from typing import Annotated, Any

from pydantic import BaseModel

from beluga_graph import END, START, Context, Engine, Graph, Limits, Retry, append
from beluga_graph.inspection import reading
from beluga_graph.storage.loading import read_run_record
from beluga_graph.trace.trace import Trace

__all__ = ["HOSTILE", "Seen", "choosing", "looping", "names", "read_trace", "spreading", "waiting"]

HOSTILE = "\x1b]0;title\x07\x1b[31m[bold]red[/bold] \u202etxet\x9b"


class Seen(BaseModel):
    """The state of `choosing`."""

    way: str = ""
    seen: Annotated[list[int], append] = []


choosing = Graph("choosing", state=Seen)


@choosing.node
async def look(ctx: Context, value: int) -> int:
    ctx.update(seen=[value])
    return value


@choosing.node
async def weigh(value: int) -> int:
    return value


@choosing.node
async def left(ctx: Context, value: int) -> str:
    ctx.update(way="left")
    return f"left {value}"


@choosing.node
async def right(ctx: Context, value: int) -> str:
    ctx.update(way="right")
    return f"right {value}"


choosing.edge(START, look)
choosing.edge(look, weigh)
choosing.branch(
    weigh, lambda ctx, value: "left" if ctx.state.way == "l" or value < 10 else "right", {"left": left, "right": right}
)
choosing.edge(left, END)
choosing.edge(right, END)

inner = Graph("inner")


@inner.node(retry=Retry(attempts=2, initial=0.001))
async def check(ctx: Context, value: int) -> int:
    if value % 10 == 7 and ctx.attempt == 1:
        raise ValueError("not at first")
    if value % 10 == 3:
        raise ValueError(HOSTILE)
    return value


inner.edge(START, check)
inner.edge(check, END)

spreading = Graph("spreading")
spreading.add(inner, name="inside")


@spreading.node
async def width(value: int) -> list[int]:
    return list(range(value))


spreading.fan_out("each", to="inside", over=lambda items: items, join="all", max_concurrency=4)
spreading.join("all", len, on_error="collect")
spreading.edge(START, width)
spreading.edge(width, "each")
spreading.edge("all", END)

looping = Graph("looping", limits=Limits(max_visits=10_000))


@looping.node
async def turn(value: int) -> int:
    return value - 1


looping.edge(START, turn)
looping.branch(turn, lambda value: value > 0, {True: turn, False: END})

waiting = Graph("waiting")
waiting.wait("answer", "the [red]word")
waiting.timer("nap", 3600)
waiting.fan_out("both", to=["answer", "nap"], join="either")
waiting.join("either", lambda results: results)
waiting.edge(START, "both")
waiting.edge("either", END)


async def read_trace(engine: Engine, run_id: str, seq: int | None = None) -> Trace:
    """Return the trace of a run up to a step, the last by default."""
    head = read_run_record(engine.store, run_id)
    return reading.read_trace(engine.store, head, reading.read_plan(engine.store, head).shape, seq)


def names(items: Any) -> list[Any]:
    """Return a tree as nested names, with counts in place of folds."""
    found: list[Any] = []
    for item in items:
        name = item.local if hasattr(item, "local") else item.count if hasattr(item, "count") else item.branch
        found.append([name, names(item.inside)] if getattr(item, "inside", ()) else name)
    return found
