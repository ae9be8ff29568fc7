"""A process that parks a run for approval, answers it and dies, or goes on with it.

It takes a folder and what to do: `park`, `answer` (and die at once), `answer-here` (by the process that drives the
run, which dies at once), or `recover`.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path

from beluga_graph import Context, Engine, Workflow, step

RUN_ID = "r"


def workflow(folder: Path) -> Workflow:
    """Return a workflow whose steps each write a line to a file."""

    async def note(ctx: Context, value: int) -> int:
        with (folder / "log").open("a") as log:
            log.write(f"{ctx.node} {value}\n")
        return value + 1

    return Workflow("asking", step("prepare", note), step("pay", note, requires_approval=True), step("tell", note))


async def parked(engine: Engine) -> str:
    async with asyncio.timeout(60):
        while not (found := await engine.pending()):  # noqa: ASYNC110  # a question is not announced
            await asyncio.sleep(0.005)
    return found[0].id


async def main(folder: Path, job: str) -> None:
    async with Engine(folder / "store") as engine:
        if job in ("park", "answer-here"):
            await engine.start(workflow(folder), 1, run_id=RUN_ID)
            await parked(engine)
        if job in ("answer", "answer-here"):
            await engine.answer(RUN_ID, await parked(engine), "modify", 10)
        if job in ("park", "answer", "answer-here"):
            os.kill(os.getpid(), signal.SIGKILL)
        engine.register(workflow(folder))
        (run,) = await engine.recover()
        print(await run.result(60))


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2]))
