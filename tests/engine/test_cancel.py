"""Cancelling a run while its store fails."""

import asyncio

import pytest
from flows_for_tests import waits
from wrapped_store import RUN, WrappedStore, until

import beluga_graph.engine.store_poller
from beluga_graph import Engine, RunStatus
from beluga_graph.storage.keys import Keys
from stores import MemoryStore, StoreFull


def failing(disk: MemoryStore, broken: asyncio.Event) -> WrappedStore:
    """Return a store that cannot read the run's wakeup records, as the last step of a run does, while it is broken."""

    def read(key: bytes) -> None:
        if broken.is_set() and key == Keys(RUN).wakeup:
            raise StoreFull("x", "no address space")

    return WrappedStore(disk, reading=read)


async def test_a_cancel_that_meets_an_error_of_the_store_raises_it_and_can_be_repeated() -> None:
    broken = asyncio.Event()
    async with Engine(failing(MemoryStore(), broken)) as engine:
        await engine.start(waits(1), 1, run_id=RUN)
        broken.set()
        with pytest.raises(StoreFull, match="no address space"):
            await engine.cancel(RUN)
        assert not engine._host.runs.current(RUN)
        broken.clear()
        assert await asyncio.wait_for(engine.cancel(RUN), 60) == RunStatus.cancelled


async def test_a_requested_cancel_that_meets_an_error_of_the_store_stops_only_its_run(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(beluga_graph.engine.store_poller, "INTERVAL_S", 0.005)
    monkeypatch.setattr("beluga_graph.engine.parking._SOON_MS", 1 << 62)  # park no run
    disk, broken = MemoryStore(), asyncio.Event()
    async with Engine(failing(disk, broken)) as owner, Engine(WrappedStore(disk)) as other:
        run = await owner.start(waits(1), 1, run_id=RUN)
        await owner.start(waits(1), 1, run_id="beside")
        other.register(waits(1))
        broken.set()
        cancel = asyncio.create_task(other.cancel(RUN))
        await until(lambda: owner._host.runs.current(RUN) is None)
        assert owner._host.runs.current("beside") is not None
        with pytest.raises(StoreFull, match="no address space"):
            await run.result(60)
        assert await asyncio.wait_for(cancel, 60) == RunStatus.cancelled
