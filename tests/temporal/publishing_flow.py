"""A flow that publishes, and a process that serves it with a durable bus and may kill itself as it relays a message.

The process takes the address of the server, the task queue, a folder, the topic at which to die (or `-`), and whether
that is `before` or `after` the bus took the message.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from beluga_graph import END, START, Context, EventBus, Graph
from beluga_graph.execution.messages import Message
from beluga_graph.temporal import TemporalEngine

__all__ = ["make_flow"]


def make_flow() -> Graph:
    """Return a flow of a node that publishes two messages, and one that publishes three on one topic."""
    g: Graph = Graph("publishes")

    @g.node
    async def first(ctx: Context, value: int) -> int:
        ctx.publish("first.a", value)
        ctx.publish("first.b", "x" * 20_000)  # with claims, it crosses by reference
        return value + 1

    @g.node
    async def second(ctx: Context, value: int) -> int:
        for number in range(3):
            ctx.publish("second", number)
        return value + 1

    g.edge(START, first)
    g.edge(first, second)
    g.edge(second, END)
    return g


class DyingBus(EventBus):
    """A bus that kills the process as it relays a message."""

    async def relay(self, message: Message) -> None:
        """Take a message, or die."""
        dies = message.topic == sys.argv[4]
        if dies and sys.argv[5] == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        await super().relay(message)
        if dies:
            os.kill(os.getpid(), signal.SIGKILL)


async def main(address: str, queue: str, folder: Path) -> None:
    """Serve until killed."""
    async with (
        DyingBus(folder / "bus") as bus,
        TemporalEngine(address, task_queue=queue, bus=bus) as engine,
        engine.worker([make_flow()]),
    ):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
