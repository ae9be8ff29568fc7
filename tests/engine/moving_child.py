"""A process that hands runs over, or resumes them, one after the other, and prints a line for each.

It keeps the runs that it has resumed until it gets another line.
"""

import asyncio
import sys
from pathlib import Path

from flows_for_tests import waiting

import beluga_graph.engine.store_poller
from beluga_graph import Engine, RunBusy, RunConflict


async def main(folder: Path, verb: str, run_ids: list[str]) -> None:
    beluga_graph.engine.store_poller.INTERVAL_S = 600.0  # a resumed run is not parked again
    async with Engine(folder) as engine:
        engine.register(waiting())
        print("ready", flush=True)
        sys.stdin.readline()
        for run_id in run_ids:
            try:
                await (engine.hand_over(run_id, "there") if verb == "move" else engine.resume(run_id))
                print(run_id, "won", flush=True)
            except (RunBusy, RunConflict) as error:
                print(run_id, type(error).__name__, flush=True)
        print("done", flush=True)
        sys.stdin.readline()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:]))
