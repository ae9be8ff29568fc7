"""A program that has done its work on a server ends well, although the SDK has threads of its own."""

import asyncio
import subprocess
import sys

from servers import Server

PROGRAM = """
import asyncio, sys
from beluga_graph.temporal import TemporalEngine

async def main():
    async with TemporalEngine(sys.argv[1]) as engine:
        for _ in range(3):
            await engine.runs()

asyncio.run(main())
"""


async def test_short_programs_end_well_after_their_last_call(temporal_server: Server) -> None:
    async def run() -> tuple[int | None, bytes]:
        command = (sys.executable, "-c", PROGRAM, temporal_server.address)
        process = await asyncio.create_subprocess_exec(*command, stderr=subprocess.PIPE)
        _, errors = await process.communicate()
        return process.returncode, errors

    for _ in range(6):  # without a pause at its end, one process of three is aborted
        assert await asyncio.gather(run(), run(), run()) == [(0, b"")] * 3
