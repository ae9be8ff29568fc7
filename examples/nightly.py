"""A nightly job: a schedule starts one run for each night, in whatever process serves it.

pip install '.[schedule]'                   in the clone
python examples/nightly.py                  a week passes in a moment, with an outage of two nights
python examples/nightly.py --store runs     serve the job until Ctrl-C; start it several times, and kill some

The times follow the clock of Berlin. On the night in which that clock skips the time of the job, it starts right after
the gap. After an outage the last night that was missed is made up for.
"""

import argparse
import asyncio
from datetime import UTC, datetime

from beluga_graph import Context, Engine, Workflow, step
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Store

DAY = 86_400


@step("collect")
async def collect(source: str) -> list[int]:
    """Collect the orders of the day."""
    return [len(source), 12, 7]


@step("report")
async def report(ctx: Context, orders: list[int]) -> str:
    """Report their number and sum. The run's id names the night, and stays the same when a step is repeated."""
    line = f"{ctx.run_id}: {len(orders)} orders, {sum(orders)} in all"
    print(line)
    return line


nightly = Workflow("nightly-report", collect, report)


async def schedule_nightly(engine: Engine) -> None:
    """Schedule the job. A program may do so each time it starts: the same rule changes nothing."""
    await engine.schedule("nightly", nightly, "shop", cron="30 2 * * *", timezone="Europe/Berlin", catch_up="last")


async def simulate(store: Store) -> None:
    """Let a week pass on a virtual clock. No engine is open on the third and the fourth night."""
    clock = VirtualClock(round(datetime(2026, 3, 27, 12, tzinfo=UTC).timestamp() * 1000))
    for nights in (2, 3):
        async with Engine(store, clock=clock) as engine:
            await schedule_nightly(engine)
            await clock.advance(nights * DAY)
            (schedule,) = await engine.schedules()
        print(f"next: {schedule.next_due}")
        clock.set(clock.now_ms() + 2 * DAY * 1000)


async def serve(store: str) -> None:
    """Serve the job. Each night has one run, however many processes serve."""
    async with Engine(store) as engine:
        await schedule_nightly(engine)
        await engine.serve()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="folder of the store")
    given = parser.parse_args()
    asyncio.run(simulate(MemoryStore()) if given.store is None else serve(given.store))
