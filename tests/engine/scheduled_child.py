"""A process that serves the flow of the tests of schedules until it is killed or stopped."""

import asyncio
import os
import sys
from pathlib import Path

from beluga_graph import Context, Engine, Workflow, step

__all__ = ["scheduled_flow"]


def scheduled_flow(folder: Path) -> Workflow:
    """Return a flow whose step records the run and the process that executed it."""

    @step("work")
    async def work(ctx: Context, value: int) -> int:
        with (folder / "log").open("a") as log:
            log.write(f"{ctx.run_id} {os.getpid()}\n")
        return value

    return Workflow("scheduled", work)


async def main(folder: Path) -> None:
    async with Engine(folder / "store") as engine:
        engine.register(scheduled_flow(folder))
        print("serving", flush=True)
        await engine.serve()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
