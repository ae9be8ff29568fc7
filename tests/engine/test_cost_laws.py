"""What a step costs, in counts: bytes stored, operations, commits. None of it may grow with the past."""

import asyncio

import pytest
from counting_store import PART, PLENTY, CountingStore, Talk, talking, wide

from beluga_graph import END, START, Engine, Graph
from stores import MemoryStore


@pytest.mark.parametrize("turns", [100, 5_000])
async def test_a_turn_stores_its_messages_and_little_more(turns: int) -> None:
    store = CountingStore()
    async with Engine(store) as engine:
        assert await engine.execute(talking(turns), 0, run_id="r") == turns
    assert store.size() / (2 * turns) < 1_500


async def test_a_large_value_that_no_node_changes_is_stored_once() -> None:
    store = CountingStore()
    g = Graph("passing")
    names = [f"n{i}" for i in range(50)]
    for name in names:
        g.node(name=name)(lambda value: value)
    for source, target in zip([START, *names], [*names, END], strict=True):
        g.edge(source, target)
    large = "x" * (1 << 20)
    async with Engine(store) as engine:
        assert await engine.execute(g, large) == large
    assert len(store.records(b"V")) == 1
    assert store.size() < (1 << 20) + 50 * 1_000


async def test_an_arrival_costs_the_same_at_every_width() -> None:
    most = {}
    for width in (10, 1_000):
        async with Engine(MemoryStore()) as engine:
            assert await engine.execute(wide(width), 0, run_id="r") == width
            steps = [step for step in await engine.history("r") if "instant" in step.token]
            assert len(steps) == width
            most[width] = max(len(step.ops) for step in steps)
    assert most[10] == most[1_000] <= 8


async def test_a_wide_fan_out_of_instant_nodes_is_few_commits() -> None:
    store = CountingStore()
    async with Engine(store) as engine:
        assert await engine.execute(wide(1_000), 0) == 1_000
    assert store.commits < 30


async def test_a_step_has_as_many_operations_after_a_long_history_as_at_first() -> None:
    async with Engine(MemoryStore()) as engine:
        await engine.execute(talking(1_000), 0, run_id="r")
        counts = [len(step.ops) for step in await engine.history("r")]
    assert set(counts[1:7]) == set(counts[-8:-2])
    assert max(counts) <= 6


@pytest.mark.parametrize("turns", [300, 3_000])
async def test_a_resume_reads_little_more_than_the_snapshot_and_the_steps_since(turns: int) -> None:
    store = CountingStore()
    stop = asyncio.Event()
    g = Graph("stopping", state=Talk, limits=PLENTY)

    @g.node
    async def speak(ctx, value):
        ctx.update(said="x" * PART)
        if value == turns:
            stop.set()
            await asyncio.Event().wait()
        return value + 1

    g.edge(START, speak)
    g.branch(speak, lambda value: value > turns, {True: END, False: speak})
    async with Engine(store) as engine:
        await engine.start(g, 0, run_id="r")
        await stop.wait()
    stop.clear()
    snapshots = store.records(b"N")
    steps = store.records(b"S")
    since = len(steps) % 64 + 64
    allowed = 2 * (len(snapshots[-1]) + sum(map(len, steps[-since:]))) + 4_096
    async with Engine(store) as engine:
        engine.register(g)
        store.bytes_read = 0
        await engine.resume("r")
        await stop.wait()
        assert store.bytes_read < allowed
