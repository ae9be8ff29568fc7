"""An attempt on its view gives the same result as on the whole run, for every graph, order and crash."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Annotated, Any

import pytest
from effort import examples
from graph_specs import Spec, racy_specs, settled_specs
from graphs import build
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel
from simulation import Disk, Simulation, Tape, crashes, tapes

from beluga_graph import END, START, Context, Graph, add, append, merge
from beluga_graph.codec import seal, unseal
from beluga_graph.kernel.snapshot import COMPLETED, FAILED, Snapshot
from beluga_graph.kernel.view import view_of
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.records import fits


def sent_view(run: Snapshot, token: str) -> Snapshot:
    """Return the view of a token as another process gets it: encoded and decoded."""
    payload = unseal(ord("N"), seal(ord("N"), view_of(run, token).to_plain()))
    assert fits(Prefix.SNAPSHOT, payload)
    return Snapshot.from_plain(payload)


def records(
    make: Callable[[Disk], Graph], tape: list[int], schedule: list[tuple[int, bool]], *, viewed: bool
) -> tuple[str, list[tuple[bytes, bytes]]]:
    """Return a simulated run's status and everything that it has stored."""
    disk = Disk(schedule=list(schedule))
    simulation = Simulation(make(disk).plan(), disk, Tape(tape))
    if viewed:
        simulation.seen_by_attempt = sent_view
    run = asyncio.run(simulation.whole(7))
    return run.status, list(disk.store.scan(b""))


@examples(120)
@given(st.one_of(settled_specs(), racy_specs()), tapes(), crashes())
def test_an_attempt_on_its_view_stores_the_same_as_one_on_the_run(
    spec: Spec, tape: list[int], schedule: list[tuple[int, bool]]
) -> None:
    def make(disk: Disk) -> Graph:
        return build(spec, disk.probe)

    assert records(make, tape, schedule, viewed=True) == records(make, tape, schedule, viewed=False)


class Shared(BaseModel):
    plain: int = 0
    total: Annotated[int, add] = 0
    trail: Annotated[list[Any], append] = []
    table: Annotated[dict[str, Any], merge] = {}
    required: Annotated[int, add]


def fanned_out(*, conflict: bool, collect: bool = False) -> Graph:
    """Return nested fan-outs in a sub-flow, whose branches update, read and fail."""
    inside = Graph("inside", state=Shared)

    @inside.node
    async def first(ctx: Context, value: int) -> int:
        ctx.update(total=1, trail=["first"], required=5)
        return value

    @inside.node
    async def one(ctx: Context, value: int) -> int:
        ctx.update(total=10, trail=["one", value], table={"one": value}, plain=1)
        return ctx.state.total + len(ctx.state.trail) + ctx.state.required

    @inside.node
    async def two(ctx: Context, value: int) -> int:
        ctx.update(total=20, trail=["two"], table={"two": [value]}, **({"plain": 2} if conflict else {}))
        if collect:
            raise ValueError(f"two of {value}")
        return ctx.state.total

    @inside.node
    async def three(ctx: Context, value: Any) -> str:
        return f"{value} {ctx.state.total} {list(ctx.state.trail)} {ctx.state.table} {ctx.state.plain}"

    inside.fan_out("out", to=[one, two], join="in")
    inside.join("in", lambda results: [repr(result) for result in results], on_error="collect" if collect else "fail")
    inside.edge(START, first)
    inside.edge(first, "out")
    inside.edge("in", three)
    inside.edge(three, END)
    outer = Graph("outer")
    sub = outer.add(inside)
    outer.edge(START, sub)
    outer.edge(sub, END)
    return outer


@pytest.mark.parametrize(
    ("options", "status"),
    [
        ({"conflict": False}, COMPLETED),
        ({"conflict": False, "collect": True}, COMPLETED),
        ({"conflict": True}, FAILED),  # its error names the nodes of both branches
    ],
)
def test_a_join_on_its_view_folds_collects_and_fails_as_on_the_run(options: dict[str, bool], status: str) -> None:
    whole = records(lambda _: fanned_out(**options), [], [], viewed=False)
    assert whole[0] == status
    assert records(lambda _: fanned_out(**options), [], [], viewed=True) == whole
