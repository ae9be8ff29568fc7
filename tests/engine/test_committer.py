"""The committer brings the steps of a run to the store in the order of their `seq`, and refuses any other."""

import asyncio
import itertools
from collections.abc import Sequence
from typing import Any

import pytest

from beluga_graph import END, START, Engine, Graph, RunError
from beluga_graph.storage.committer import Committer, Line
from beluga_graph.storage.run_log import read_steps
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Put
from stores.base import Durability, Op

DURABILITIES: tuple[Durability, ...] = ("commit", "batch", "none")


class Numbered:
    """A step of a run, as the committer sees it."""

    is_valid = True

    def __init__(self, line: Line, seq: int) -> None:
        self.line, self.seq = line, seq
        self.ops: Sequence[Op] = (Put(b"%s %d" % (line.run_id.encode(), seq), b""),)
        self.error: Exception | None = None

    def on_committed(self) -> None:
        """Nothing waits for it."""

    def on_rejected(self, error: Exception) -> None:
        """Keep the error."""
        self.error = error


def stored(store: MemoryStore) -> list[bytes]:
    return [key for key, _ in store.scan(b"")]


@pytest.mark.parametrize("urgent", [True, False])
@pytest.mark.parametrize("last", [True, False])
@pytest.mark.parametrize("order", [order for order in itertools.permutations([3, 4, 5]) if order != (3, 4, 5)])
async def test_steps_that_are_out_of_order_are_refused(order: tuple[int, ...], last: bool, urgent: bool) -> None:
    store, line, other = MemoryStore(), Line("r", 2), Line("other", 0)
    committer = Committer(store, "batch")
    accepted = []
    for place, seq in enumerate(order, 1):
        committer.put(Numbered(other, place), urgent=urgent, last=last)  # other runs have orders of their own
        if seq == 3 + len(accepted):
            accepted.append(seq)
            committer.put(Numbered(line, seq), urgent=urgent, last=last)
        else:
            with pytest.raises(RunError, match=f"run 'r': step {seq} was to be committed after step {line.seq}"):
                committer.put(Numbered(line, seq), urgent=urgent, last=last)
    await committer.drain()
    assert len(accepted) < 3
    assert stored(store) == [b"other %d" % place for place in (1, 2, 3)] + [b"r %d" % seq for seq in accepted]


async def test_a_step_is_not_accepted_twice() -> None:
    committer, line = Committer(MemoryStore(), "commit"), Line("r", 0)
    committer.put(Numbered(line, 1))
    with pytest.raises(RunError, match="step 1 was to be committed after step 1"):
        committer.put(Numbered(line, 1))
    await committer.drain()


def then_waits(kind: str, *, beside: bool) -> Graph:
    """Return a flow that waits, after a node that runs; `beside` other branches that end in the same pass."""
    g = Graph("flow")

    async def work(ctx: Any, value: int) -> int:
        ctx.deps["runs"].set()
        await ctx.deps["go on"].wait()
        return value

    g.node(work)
    if kind == "typed":
        g.wait("wait", "s", type=str)
    elif kind == "default":
        g.wait("wait", "s", timeout=60, default="none")
    else:
        g.wait("wait", "s")
    if beside:
        g.fan_out("out", to=["work", "work2"], join="join")
        g.node(name="work2")(work)
        g.join("join", lambda values: values[0])
        g.edge(START, "out")
        g.edge("work", "join")
        g.edge("work2", "join")
        g.edge("join", "wait")
    else:
        g.edge(START, "work")
        g.edge("work", "wait")
    g.wait("wait2", "s")
    g.edge("wait", "wait2")
    g.edge("wait2", END)
    return g


@pytest.mark.parametrize("beside", [False, True], ids=["alone", "beside others"])
@pytest.mark.parametrize("kind", ["plain", "typed", "default"])
@pytest.mark.parametrize("durability", DURABILITIES)
async def test_signals_that_are_sent_before_the_wait_are_delivered(
    durability: Durability, kind: str, beside: bool
) -> None:
    store, deps = MemoryStore(), {"runs": asyncio.Event(), "go on": asyncio.Event()}
    async with Engine(store, durability=durability, deps=deps, clock=VirtualClock()) as engine:
        run = await engine.start(then_waits(kind, beside=beside), 1, run_id="r")
        await deps["runs"].wait()
        await run.signal("s", "one")
        await run.signal("s", "two")
        deps["go on"].set()
        assert await run.result(10) == "two"
    assert [step.seq for step in read_steps(store, "r")] == list(range(1, len(list(read_steps(store, "r"))) + 1))


@pytest.mark.parametrize("durability", DURABILITIES)
async def test_a_step_out_of_order_stops_the_run_and_damages_nothing_on_disk(durability: Durability) -> None:
    store, go_on = MemoryStore(), asyncio.Event()
    deps = {"runs": asyncio.Event(), "go on": go_on}
    async with Engine(store, durability=durability, deps=deps) as engine:
        run = await engine.start(then_waits("plain", beside=False), 1, run_id="r")
        await deps["runs"].wait()
        live = engine._host.runs.current("r")
        assert live is not None
        live.line.seq -= 1  # as if a step had been lost on the way
        go_on.set()
        with pytest.raises(RunError, match="a defect of the engine: resume the run"):
            await run.result(10)
    async with Engine(store, durability=durability, deps=deps) as engine:
        run = await engine.start(then_waits("plain", beside=False), 1, run_id="r")
        await run.signal("s", "one")
        await run.signal("s", "two")
        assert await run.result(10) == "two"
