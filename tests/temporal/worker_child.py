"""A worker process that serves one of the flows of `moving_flows`, until it is killed."""

import asyncio
import sys

from moving_flows import FLOWS, Effects, opened
from servers import Server


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
