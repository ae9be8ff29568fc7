"""A worker process that serves one of the flows of `moving_flows`, until it is killed."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from moving_flows import FLOWS, Effects, opened
from servers import Server

import beluga_graph

__all__ = ["killed_worker"]


@contextmanager
def killed_worker(server: Server, queue: str, flow: str) -> Iterator[None]:
    """Serve a flow in another process within the block, and kill it then."""
    root = Path(beluga_graph.__file__).parent.parent
    command = [sys.executable, __file__, server.address, queue, flow]
    path = ":".join((str(root), str(Path(__file__).parent), str(root / "tests" / "shared")))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={"PYTHONPATH": path}) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


class Address(Server):
    """A server that another process runs."""

    def __init__(self, address: str) -> None:
        self.address = address


async def main(address: str, queue: str, flow: str) -> None:
    async with opened(Address(address), FLOWS[flow](), queue=queue, deps=Effects()):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
