"""A node that changes its values changes only its own copies."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Annotated, Any

from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel

from beluga_graph import END, START, Context, Engine, Graph, Retry, append, merge

_KEYS = st.text("abc", min_size=1, max_size=2)
_LEAVES = st.none() | st.booleans() | st.integers(0, 99) | st.text("xyz", max_size=3)
_VALUES = st.recursive(
    _LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=12,
)


class Shared(BaseModel):
    table: Annotated[dict[str, Any], merge] = {"first": [1, 2]}
    log: Annotated[list[Any], append] = []
    plain: list[Any] = []


def ruin(value: Any) -> None:
    """Change every mutable part of a value."""
    if isinstance(value, list):
        for item in value:
            ruin(item)
        value.append("ruined")
    elif isinstance(value, dict):
        for item in value.values():
            ruin(item)
        value["ruined"] = True


def ruinous(value: Any, seen: list[Any]) -> Graph:
    """Return a graph in which each body records every value it can see, and then changes it."""
    g = Graph("ruinous", state=Shared)

    def note(ctx: Context, given: Any) -> None:
        state = ctx.state
        everything = [given, ctx.input, ctx.context, state.table, list(state.log), state.plain]
        seen.append(deepcopy(everything))
        for one in everything:
            ruin(one)

    @g.node
    async def first(ctx: Context, given: Any) -> Any:
        ctx.update(table={"value": value}, log=[value], plain=[value])
        return given

    @g.node(retry=Retry(attempts=2, initial=0))
    async def left(ctx: Context, given: Any) -> Any:
        note(ctx, given)
        await asyncio.sleep(0)
        if ctx.attempt == 1:
            raise RuntimeError("once more, with the same value")
        return given

    @g.node
    async def right(ctx: Context, given: Any) -> Any:
        note(ctx, given)
        await asyncio.sleep(0)
        return given

    async def gathered(ctx: Context, results: list[Any]) -> Any:
        assert results == [_ruined(value)] * 3
        ruin(results)
        return value

    @g.node
    async def last(ctx: Context, given: Any) -> Any:
        note(ctx, given)
        return given

    join = g.join("join", gathered)
    g.fan_out("spread", to=[left, right, right], join=join)
    g.edge(START, first)
    g.edge(first, "spread")
    g.edge(join, last)
    g.edge(last, END)
    return g


def _ruined(value: Any) -> Any:
    value = deepcopy(value)
    ruin(value)
    return value


@examples(60)
@given(_VALUES, st.dictionaries(_KEYS, _VALUES, max_size=2))
def test_a_node_that_changes_its_values_changes_only_its_own_copies(value: Any, context: dict[str, Any]) -> None:
    seen: list[Any] = []

    async def run() -> Any:
        async with Engine() as engine:
            return await engine.execute(ruinous(value, seen), value, context=context)

    # What `last` returns is its own copy, which it has ruined; the caller's value is whole.
    before = deepcopy(value)
    assert asyncio.run(run()) == _ruined(value)
    assert value == before
    table = {"first": [1, 2], "value": value}
    assert seen == [[value, value, context, table, [value], [value]]] * 5
    assert Shared().table == {"first": [1, 2]}
