"""A process that parks a run of a local engine, or hands it over to a server, and then waits to be killed."""

import asyncio
import sys

from moving_flows import Effects, shelving

from beluga_graph import Engine


async def main(folder: str, run_id: str, place: str) -> None:
    engine = Engine(folder, deps=Effects())
    if place:
        await engine.hand_over(run_id, place)
    else:
        run = await engine.start(shelving(), "in", run_id=run_id)
        while await run.status() != "waiting":  # noqa: ASYNC110 - the status is not announced
            await asyncio.sleep(0.01)
        await engine.signal(run_id, "go", "one")
        while "w2" not in [token.node for token in (await engine.snapshot(run_id)).tokens]:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
