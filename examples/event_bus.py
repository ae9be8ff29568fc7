"""An event bus: a researcher, a log and a writer that know topics but not each other, and a flow that publishes.

python examples/event_bus.py
python examples/event_bus.py --store runs   (bus and runs are on disk; each event is published once)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import END, START, BusEvent, Context, Engine, EventBus, Graph

report = Graph("report")


@report.node
async def draft(ctx: Context, finding: str) -> str:
    """Write a report and publish an event. The event is committed with this step: both exist, or neither does."""
    text = f"Report: {finding}."
    ctx.publish("report.drafted", text)
    return text


report.edge(START, draft)
report.edge(draft, END)


async def main(store: str | None) -> None:
    """Publish an event that starts a run, which publishes another event; then print and draw what happened."""
    async with EventBus(store) as bus:

        def log(event: BusEvent) -> None:
            print(f"Task completed: {event.data}")

        async def reviewer(event: BusEvent) -> None:
            await bus.publish("report.approved", event.data, agent_id="reviewer")

        async with Engine(store, bus=bus) as engine:

            async def writer(event: BusEvent) -> None:
                await engine.execute(report, event.data, run_id=f"report-of-{event.id}")

            bus.subscribe("task.complete", log)
            bus.subscribe("task.*", writer)
            bus.subscribe("report.drafted", reviewer, name="reviewer")
            finished = "Research phase finished"
            await bus.publish(BusEvent(topic="task.complete", agent_id="researcher", data=finished, id="research-1"))
            await bus.drain()  # now the run has ended; leaving the engine empties its outbox
        await bus.drain()

        trace = await bus.trace("report-of-research-1")
        topics = {event.id: event.topic for event in trace}
        for event in trace:
            cause = topics.get(event.causation_id, event.causation_id)
            print(f"{event.topic} by {event.agent_id}" + (f", because of {cause}" if cause else ""))
        print(bus.mermaid(), end="")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="folder of the bus and the runs; by default they are in memory")
    asyncio.run(main(parser.parse_args().store))
