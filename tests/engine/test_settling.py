"""`VirtualClock.advance` returns when nothing is left to do at that time, whatever the store and the nodes do."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from beluga_graph import END, START, Engine, Graph, Run
from beluga_graph.engine import settling
from beluga_graph.testing import VirtualClock
from stores import LMDBStore, MemoryStore
from stores.base import Durability, Store

ROUNDS = 3
RUNS = 4


class ThreadedMemoryStore(MemoryStore):
    """A store whose commits are made in a writer thread, as those of a path that other processes have open."""

    shared = True


class ThreadedLMDBStore(LMDBStore):
    """A store on disk whose commits are made in a writer thread."""

    @property
    def shared(self) -> bool:
        """Always true."""
        return True


def append_async(letter: str) -> Callable[..., object]:
    async def append(letters: list[str]) -> list[str]:
        return [*letters, letter]

    return append


def append_sync(letter: str) -> Callable[..., object]:
    return lambda letters: [*letters, letter]


def append_slowly(letter: str) -> Callable[..., object]:
    async def append(letters: list[str]) -> list[str]:
        for _ in range(40):
            await asyncio.sleep(0)
        return [*letters, letter]

    return append


def build(append: Callable[[str], Callable[..., object]]) -> Graph:
    """Return a graph of timers with nodes between them, the last ones in a long row."""
    g = Graph("timers")
    row = []
    for round_ in range(ROUNDS):
        row.append(g.timer(f"timer {round_}", 10))
        row += [g.add(append(f"{round_}{i}"), name=f"node {round_}{i}") for i in range(3)]
    for source, target in zip([START, *row], [*row, END], strict=True):
        g.edge(source, target)  # type: ignore[arg-type]  # a row of ends of several kinds
    return g


async def count_completed(runs: list[Run]) -> int:
    return [await run.status() for run in runs].count("completed")


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
@pytest.mark.parametrize("append", [append_async, append_sync, append_slowly])
@pytest.mark.parametrize("make_store", [MemoryStore, ThreadedMemoryStore, ThreadedLMDBStore])
async def test_advance_returns_when_every_node_that_is_due_has_run(
    make_store: type[Store], append: Callable[[str], Callable[..., object]], durability: Durability, tmp_path: Path
) -> None:
    store = make_store(tmp_path) if make_store is ThreadedLMDBStore else make_store()  # type: ignore[call-arg]
    clock = VirtualClock()
    async with Engine(store, clock=clock, durability=durability) as engine:
        runs = [await engine.start(build(append), []) for _ in range(RUNS)]
        await clock.advance(10 * ROUNDS - 1)
        assert await count_completed(runs) == 0
        await clock.advance(1)
        assert await count_completed(runs) == RUNS
    store.close()


async def test_advance_goes_on_past_a_function_that_waits_for_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settling, "THREAD_S", 0.0)
    clock, gate = VirtualClock(), threading.Event()
    g = Graph("gated")
    g.edge(START, g.add(lambda _: gate.wait(), name="wait"))
    g.edge("wait", END)
    async with Engine(clock=clock) as engine:
        run = await engine.start(g)
        await clock.advance(10)
        assert await run.status() == "running"
        gate.set()
        await run.result()


async def test_a_closed_engine_is_not_awaited_any_more() -> None:
    clock = VirtualClock()
    async with Engine(clock=clock):
        await clock.advance(1)
    await clock.advance(1)
    assert clock.now_ms() == 1_700_000_002_000
