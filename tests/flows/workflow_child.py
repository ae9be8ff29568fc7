"""A process that walks a workflow and may kill itself at one of its steps.

It takes a folder, the step to die in (or `-`), and by how much its clock is late.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from beluga_graph import BelugaError, Context, Engine, Workflow, sleep, step, wait_signal
from beluga_graph.testing import VirtualClock

START_MS = 1_700_000_000_000


def workflow(folder: Path, dies_in: str) -> Workflow:
    """Return a workflow whose steps each write a line to a file."""

    async def note(ctx: Context, value: int) -> int:
        with (folder / "log").open("a") as log:
            log.write(f"{ctx.node}\n")
        if ctx.node == dies_in:
            os.kill(os.getpid(), signal.SIGKILL)
        return value + 1

    return Workflow(
        "killed",
        step("ingest", note),
        step("process", note),
        sleep("rest", 0),
        wait_signal("go", timeout=0, default=10),
        step("publish", note),
        timeout=60,
    )


async def main(folder: Path, dies_in: str, late_s: float) -> None:
    clock = VirtualClock(START_MS + round(late_s * 1000))
    async with Engine(folder / "store", clock=clock) as engine:
        run = await engine.start(workflow(folder, dies_in), 0, run_id="r")
        try:
            print(await run.result(60))
        except BelugaError as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], float(sys.argv[3])))
