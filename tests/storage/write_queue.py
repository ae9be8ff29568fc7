"""Write a second store that tests of earlier data read: `write_queue.py FOLDER`, on the path of the earlier version.

`queue_of_0_1` was written in this way by version 0.1. It holds a run in the middle of a fan-out whose branches queue,
and an event whose data is an instance of a class that has another name today.
"""

from __future__ import annotations

import asyncio
import shutil
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from flows_of_queue_0_1 import queueing

from beluga_graph import BusEvent, Engine, EventBus, RunComparison
from beluga_graph.testing import VirtualClock
from stores import LMDBStore


async def write(store: LMDBStore) -> None:
    clock, flow = VirtualClock(), queueing()
    async with Engine(store, clock=clock) as engine:
        for run_id in ("queued", "queued-too"):
            await engine.start(flow, [1, 2, 3, 4, 5], run_id=run_id)
        await engine.signal("queued", "go", 1)
        async with asyncio.timeout(60):
            while sum(1 for _ in store.scan(b"G")) < 2:  # noqa: ASYNC110  # both are parked
                await asyncio.sleep(0.01)
        comparison = await engine.compare("queued", "queued-too")
    async with EventBus(store, clock=clock) as bus:
        bus.register(RunComparison)
        await bus.publish("runs.compared", comparison, event_id="compared")

        async def hear(event: BusEvent) -> None:
            raise ValueError("not this one")

        bus.subscribe("runs.*", hear, name="reader")
        for _ in range(100):
            await clock.advance(0.1)
        await bus.publish("runs.compared", comparison, event_id="compared-2")
        for _ in range(100):
            await clock.advance(0.1)


def main(folder: Path) -> None:
    with tempfile.TemporaryDirectory() as scratch:
        with closing(LMDBStore(Path(scratch) / "first")) as store:
            asyncio.run(write(store))
            (Path(scratch) / "second").mkdir()
            store.copy(Path(scratch) / "second")
        folder.mkdir(exist_ok=True)
        shutil.copyfile(Path(scratch) / "second" / "data.mdb", folder / "data.mdb")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
