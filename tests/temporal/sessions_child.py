"""A worker that serves the desk, and kills itself where a file in its folder says so.

It takes the address of the server, the task queue and the folder. The file is `model`, for a call of the model, or
`end`, for the end of a session. It is deleted first, so the next worker goes on.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any

from sessions_flows import Gate, make_desk

from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.activities import session as session_activity


class FatalGate(Gate):
    """A gate at which the process dies."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        super().__init__()

    @property
    def calls(self) -> int:
        """Die, or return 0."""
        die_at(self._folder / "model")
        return 0

    @calls.setter
    def calls(self, count: int) -> None:
        pass


def die_at(place: Path) -> None:
    """Kill this process if the file is there."""
    if place.exists():
        place.unlink()
        os.kill(os.getpid(), signal.SIGKILL)


async def main(address: str, queue: str, folder: Path) -> None:
    """Serve until killed."""
    end_session = session_activity.end_session

    def die_or_end(*args: Any) -> Any:
        die_at(folder / "end")
        return end_session(*args)

    session_activity.end_session = die_or_end
    async with TemporalEngine(address, task_queue=queue) as engine:
        await engine.worker([make_desk(FatalGate(folder))]).run()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
