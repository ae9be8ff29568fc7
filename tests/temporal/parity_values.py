"""Flows of the parity tests about state, values, names and what a node sees of its run."""

import datetime as dt
import enum
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Any

from parity_graphs import link
from pydantic import BaseModel

from beluga_graph import END, START, Context, Graph, Retry, add, append, last, maximum, merge, union

__all__ = [
    "Counts",
    "Notes",
    "Order",
    "Parcel",
    "Priority",
    "append_large_items",
    "context_of_a_run",
    "kinds_of_values",
    "large_failure",
    "large_values",
    "live_resources",
    "names_of_visits",
    "not_data",
    "state_conflict",
    "state_of_frames",
    "state_through_reducers",
    "texts",
    "unicode_names",
]


class Order(BaseModel):
    """A value that only this flow's annotations name."""

    amount: int
    to: str = "ada"


class Notes(BaseModel):
    notes: Annotated[list[str], append] = []
    total: Annotated[int, add] = 0


# State.


class Counts(BaseModel):
    total: Annotated[int, add] = 0
    most: Annotated[int, maximum] = 0
    seen: Annotated[list[int], append] = []
    tags: Annotated[set[str], union] = set()
    by_name: Annotated[dict[str, int], merge] = {}
    latest: Annotated[str, last] = "none"
    mood: str = "calm"


def state_through_reducers() -> Graph:
    g = Graph("state_through_reducers", state=Counts)

    @g.node
    async def before(ctx, width):
        ctx.update(total=1, seen=[-1], mood="busy")
        ctx.update(total=1)
        return width

    @g.node
    async def count(ctx: Context, item):
        before = [ctx.state.total, list(ctx.state.seen), ctx.state.mood]
        ctx.update(total=item, most=item, seen=[item, item * 10], tags={f"t{item % 2}"}, latest=f"branch {item}")
        ctx.update(by_name={f"n{item}": item})
        return [before, ctx.state.total]

    @g.node
    async def read(ctx, results):
        state = ctx.state
        ctx.update(mood="done", seen=99)
        return [results, state.total, state.most, list(state.seen), sorted(state.tags), state.by_name, state.latest]

    @g.node
    async def after(ctx, value):
        return [value, list(ctx.state.seen), ctx.state.mood]

    g.fan_out("each", to=count, over=range, join="all")
    g.join("all")
    link(g, before, "each", "all", read, after)
    return g


def state_of_frames() -> Graph:
    """Return a flow with a state, around a flow with a state of its own, which is added twice."""
    inner = Graph("inner", state=Notes)

    @inner.node
    async def write(ctx, value):
        ctx.update(notes=[f"inner {value}"], total=value)
        return value

    @inner.node
    async def read(ctx, value):
        return [value, list(ctx.state.notes), ctx.state.total]

    link(inner, write, read)
    g = Graph("state_of_frames", state=Notes)

    @g.node
    async def outer(ctx, value):
        ctx.update(notes=["outer"], total=100)
        return value

    @g.node
    async def report(ctx, results):
        return [results, list(ctx.state.notes), ctx.state.total]

    g.add(inner, name="one")
    g.add(inner, name="two")
    g.fan_out("both", to=["one", "two"], join="in")
    g.join("in")
    link(g, outer, "both", "in", report)
    return g


def append_large_items() -> Graph:
    """Return a loop with items of 3 KB to 20 KB in an append field, which each iteration reads and extends."""
    g = Graph("append_large_items", state=Notes)

    @g.node
    async def extend(ctx, size):
        ctx.update(notes=["x" * size, "small"], total=sum(map(len, ctx.state.notes)))
        return size + 1_000

    @g.node
    async def measure(ctx, size):
        return [size, ctx.state.total, [len(note) for note in ctx.state.notes]]

    g.edge(START, extend)
    g.branch(extend, lambda size: size > 20_000, {False: extend, True: measure})
    g.edge(measure, END)
    return g


def state_conflict() -> Graph:
    g = Graph("state_conflict", state=Counts)
    for name in ("left", "right"):

        @g.node(name=name)
        async def set_mood(ctx, value):
            ctx.update(mood=ctx.node)
            return value

    g.fan_out("both", to=["left", "right"], join="in")
    g.join("in")
    link(g, "both", "in")
    return g


# Values, names and the context.


class Priority(enum.Enum):
    low = "low"
    high = "high"


@dataclass(frozen=True)
class Parcel:
    order: Order
    priority: Priority
    sent: dt.datetime


def kinds_of_values() -> Graph:
    g = Graph("kinds_of_values", types=(Parcel,))

    @g.node
    async def pack(order: Order) -> Parcel:
        return Parcel(order, Priority.high, dt.datetime(2024, 2, 29, 12, 30, tzinfo=dt.UTC))

    @g.node
    async def spread(parcel: Parcel) -> list[Any]:
        day = parcel.sent.date()
        values = [parcel, day, dt.timedelta(days=-1, microseconds=1), Decimal("1.10"), b"\x00\xff", 2**80, 1e300]
        return [*values, {"a", "b"}, (1, (2,)), {1: None, "k": [True, 0.1]}, [], {}, "", None]

    link(g, pack, spread)
    return g


def large_values() -> Graph:
    """Return a flow that passes 20 KB and 200 KB through nodes and branches."""
    g = Graph("large_values")

    @g.node
    async def grow(text):
        return {"text": text * 2_000, "bytes": b"\x01" * 200_000}

    @g.node
    async def part(value):
        return value["text"] + str(len(value["bytes"]))

    @g.node
    async def whole(results):
        return [len(result) for result in results] + [results[-1]]

    g.fan_out("each", to=part, over=lambda value: [{**value, "n": n} for n in range(4)], join="all")
    g.join("all")
    link(g, grow, "each", "all", whole)
    return g


def large_failure() -> Graph:
    """Return a flow that fails with a large message on a large input."""
    g = Graph("large_failure")
    g.node(name="grow")(lambda text: text * 10_000)

    @g.node
    async def fails(text):
        raise ValueError(text)

    link(g, "grow", fails)
    return g


def unicode_names() -> Graph:
    g = Graph("Überprüfung 検査")

    @g.node(name="prüfen é 🐋")
    async def check(value):
        return {"größe": value, "🐋": "\U0001d54a \u2028\x00 \u0627"}

    g.wait("待つ", "signäl 🐋")
    g.branch("prüfen é 🐋", lambda value: "größer", {"größer": "待つ", "ende": END})
    g.edge(START, check)
    g.edge("待つ", END)
    return g


def not_data() -> Graph:
    g = Graph("not_data")
    g.node(name="returns_a_type")(lambda value: [value, int])
    link(g, "returns_a_type")
    return g


def context_of_a_run() -> Graph:
    g = Graph("context_of_a_run", types=(Order,))

    @g.node
    async def first(ctx, value):
        return [value, ctx.context["tenant"], ctx.context["order"].amount, ctx.input]

    @g.node
    async def second(ctx, value):
        return [*value, ctx.input, sorted(ctx.context), ctx.attempt, ctx.node]

    link(g, first, second)
    return g


def live_resources() -> Graph:
    g = Graph("live_resources")

    @g.node
    async def greet(ctx, value):
        return ctx.deps.greet(value)

    link(g, greet)
    return g


def names_of_visits() -> Graph:
    """Return a loop with a fan-out, whose nodes return their idempotency keys."""
    g = Graph("names_of_visits")

    @g.node
    async def name(ctx, item):
        return ctx.idempotency_key.removeprefix(ctx.run_id)

    @g.node
    async def gather(ctx, names):
        return [ctx.idempotency_key.removeprefix(ctx.run_id), *names]

    g.fan_out("each", to=name, over=lambda value: range(2) if isinstance(value, int) else value, join="all")
    g.join("all")
    g.edge(START, "each")
    g.edge("all", gather)
    g.branch(gather, lambda names: len(names) > 3, {False: "each", True: END})
    return g


def texts() -> Graph:
    g = Graph("texts")

    @g.node
    async def talk(ctx, words):
        for word in words:
            ctx.emit_text(word)
        return len(words)

    @g.node(retry=Retry(attempts=2, initial=0.001))
    async def talk_again(ctx, count):
        ctx.emit_text(f"attempt {ctx.attempt}")
        if ctx.attempt == 1:
            raise OSError("lost")
        return count

    link(g, talk, talk_again)
    return g
