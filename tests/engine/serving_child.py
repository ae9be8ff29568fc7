"""A process that serves the flow of the tests of serving, and prints a line for each event."""

import asyncio
import os
import sys
from pathlib import Path

from beluga_graph import Context, Engine, Workflow, sleep, step, wait_signal

__all__ = ["served_flow"]


def served_flow(folder: Path) -> Workflow:
    """Return a flow whose steps record the process that ran them; `gate` ends when the file `open` exists."""

    def note(ctx: Context) -> None:
        with (folder / "log").open("a") as log:
            log.write(f"{ctx.run_id} {ctx.node} {os.getpid()}\n")

    @step("first")
    async def first(ctx: Context, value: int) -> int:
        note(ctx)
        return value

    @step("gate")
    async def gate(ctx: Context, value: int) -> int:
        note(ctx)
        while not (folder / "open").exists():  # noqa: ASYNC110  # a file is not announced
            await asyncio.sleep(0.01)
        return value + 1

    @step("last")
    async def last(ctx: Context, value: int) -> int:
        note(ctx)
        return value + 1

    return Workflow("served", first, sleep("nap", 0.2), wait_signal("go", type=int), gate, last)


async def main(folder: Path, grace: float) -> None:
    async with Engine(folder / "store") as engine:
        engine.register(served_flow(folder))
        serving = asyncio.create_task(engine.serve(grace=grace))
        for word, holds in (("serving", True), ("stopping", False)):
            while engine._host.waker.serving is not holds:  # noqa: ASYNC110  # no event announces it
                await asyncio.sleep(0.001)
            print(word, flush=True)
        await serving
        print("handed back", flush=True)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), float(sys.argv[2])))
