"""A flow that publishes, and a process that serves it and may kill itself on the way of a message to the bus.

The process takes the address of the server, the task queue, a folder, the topic at which to die (or `-`), and whether
that is `before` or `after` the durable bus took the message. With the topic `outbox`, it dies after it has added
messages to the outbox and before the server knows that: while the outbox is `open`, because the process has no bus, or
when the outbox has `ended`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "shared"))

from dying_bus import DyingBus
from temporalio.client import Client, Interceptor, OutboundInterceptor, StartWorkflowInput

from beluga_graph import END, START, Context, Graph
from beluga_graph.temporal import TemporalEngine

__all__ = ["make_flow"]


def make_flow(*, second_name: str = "second") -> Graph:
    """Return a flow of a node that publishes two messages, and one that publishes three on one topic."""
    g: Graph = Graph("publishes")

    @g.node
    async def first(ctx: Context, value: int) -> int:
        ctx.publish("first.a", value)
        ctx.publish("first.b", "x" * 20_000)  # with claims, it crosses by reference
        return value + 1

    @g.node(name=second_name)
    async def second(ctx: Context, value: int) -> int:
        for number in range(3):
            ctx.publish("second", number)
        return value + 1

    g.edge(START, first)
    g.edge(first, second)
    g.edge(second, END)
    return g


class DyingClient(Interceptor):
    """Kills the process after it has added messages to an outbox."""

    def intercept_client(self, next: OutboundInterceptor) -> OutboundInterceptor:  # noqa: A002 - the SDK's name
        """Return what the calls of the client go through."""
        return _DyingCalls(next)


class _DyingCalls(OutboundInterceptor):
    async def start_workflow(self, input: StartWorkflowInput) -> Any:  # noqa: A002 - the SDK's name
        started = await super().start_workflow(input)
        if input.start_signal:
            if sys.argv[5] == "ended":
                await started.result()
            os.kill(os.getpid(), signal.SIGKILL)
        return started


async def main(address: str, queue: str, folder: Path) -> None:
    """Serve until killed."""
    interceptors = [DyingClient()] if sys.argv[4] == "outbox" else []
    client = await Client.connect(address, interceptors=interceptors)
    async with AsyncExitStack() as stack:
        bus = (
            None if sys.argv[5] == "open" else await stack.enter_async_context(DyingBus(folder / "bus", *sys.argv[4:6]))
        )
        engine = await stack.enter_async_context(TemporalEngine(client, task_queue=queue, bus=bus))
        await stack.enter_async_context(engine.worker([make_flow()]))
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
