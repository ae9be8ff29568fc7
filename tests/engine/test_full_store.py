"""A store whose commits fail: each caller gets the store's error, and no step is reported that is not stored."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from flows_for_tests import follow, waits

from beluga_graph import END, START, Engine, Graph, RunNotFound, Workflow, step
from stores import LMDBStore, MemoryStore, StoreFull


def fanned() -> Graph:
    g = Graph("fanned")
    g.fan_out("f", to="n", over=lambda value: range(3), join="j")
    g.node(name="n")(lambda item: item)
    g.join("j")
    g.edge(START, "f")
    g.edge("j", END)
    return g


class FullStore:
    """A store whose commits fail from the `count`-th on."""

    def __init__(self, inner: MemoryStore | LMDBStore, count: int) -> None:
        self._inner, self._left = inner, count

    def __getattr__(self, name: str) -> Any:
        return getattr(self._inner, name)

    def commit(self, *ops: Any) -> None:
        self._left -= 1
        if self._left < 0:
            raise StoreFull("here", "no space left on device")
        self._inner.commit(*ops)


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
async def test_a_run_stops_with_the_stores_error_and_has_reported_only_committed_steps(
    tmp_path: Path, durability: Any
) -> None:
    refused = 0
    for count in range(1, 12):
        inner = LMDBStore(tmp_path / str(count), durability=durability)
        seen: list[Any] = []
        stored: list[Any] = []
        try:
            async with asyncio.timeout(60), Engine(FullStore(inner, count), durability=durability) as engine:
                await follow(engine.stream(fanned(), 5, run_id="r"), seen)
        except StoreFull:
            refused += 1
        async with Engine(inner) as engine:
            try:
                stored = [event for step in await engine.history("r") for event in step.events]
            except RunNotFound:
                assert seen == []
            seen = [event for event in seen if event.seq is not None]
            assert seen == stored[: len(seen)]
            assert await engine.execute(fanned(), 5, run_id="r") == [0, 1, 2]
        inner.close()
    assert refused >= 2


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
async def test_start_raises_only_if_the_run_was_not_stored(durability: Any) -> None:
    """Nodes that never wait run before `start` returns; an error of one of their steps is raised by `result`."""

    async def work(value: int) -> int:
        return value + 1

    chain = Workflow("chain", *[step(f"n{number}", work) for number in range(5)])
    outcomes = []
    for count in range(12):
        inner = MemoryStore()
        async with asyncio.timeout(60), Engine(FullStore(inner, count), durability=durability) as engine:
            try:
                run = await engine.start(chain, 0, run_id="r")
            except StoreFull:
                outcomes.append("refused")
            else:
                try:
                    assert await run.result() == 5
                    outcomes.append("completed")
                except StoreFull:
                    outcomes.append("stopped")
        async with Engine(inner) as engine:
            engine.register(chain)
            if outcomes[-1] == "refused":
                with pytest.raises(RunNotFound):
                    await engine.resume("r")
            else:
                assert await (await engine.resume("r")).result() == 5
    assert list(dict.fromkeys(outcomes)) == ["refused", "stopped", "completed"]


async def test_cancel_and_signal_raise_the_error_of_a_full_store() -> None:
    inner = MemoryStore()
    store = FullStore(inner, 1_000)
    async with Engine(store) as engine:
        run = await engine.start(waits(1), 1)
        store._left = 0
        with pytest.raises(StoreFull):
            await run.signal("s")
        async with asyncio.timeout(60):
            with pytest.raises(StoreFull):
                await run.cancel()
            with pytest.raises(StoreFull):
                await run.result()
