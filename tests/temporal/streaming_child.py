"""Serves `gated` until it is killed, or follows one of its runs without the flow's code and prints the events."""

import asyncio
import sys
from pathlib import Path

from beluga_graph.temporal import TemporalEngine


async def serve(address: str, queue: str, folder: str) -> None:
    sys.path.append(str(Path(__file__).parents[1] / "shared"))
    from streaming_flows import gated  # noqa: PLC0415 - the follower has no code of flows

    async with TemporalEngine(address, task_queue=queue) as engine, engine.worker([gated(Path(folder))]):
        print("ready", flush=True)
        await asyncio.Event().wait()


async def follow(address: str, queue: str, run_id: str) -> None:
    async with TemporalEngine(address, task_queue=queue) as engine:
        run = await engine.follow(run_id)
        async for event in run.events():
            print(event.type, event.node, event.text, sep="|", flush=True)


if __name__ == "__main__":
    verb, *args = sys.argv[1:]
    asyncio.run({"serve": serve, "follow": follow}[verb](*args))
