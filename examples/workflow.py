"""A durable workflow: ingest, process, wait for a review, sleep, publish. A finished step never runs again.

python examples/workflow.py
python examples/workflow.py --store runs               (kill it and start it again: it continues)
python examples/workflow.py --model openai:NAME      (or anthropic:NAME; the key is read from the environment)
"""

from __future__ import annotations

import argparse
import asyncio

from beluga_graph import Agent, Context, Engine, Retry, RunStatus, Workflow, sleep, step, wait_signal
from beluga_graph.testing import ScriptedModel


class ReviewRefused(Exception):
    """The reviewer refused. A retry would not change that."""


@step("ingest", retry=Retry(attempts=3, initial=0.01), timeout=10)
async def ingest(ctx: Context, order: str) -> str:
    """Load documents from an archive that fails on the first attempt."""
    if ctx.attempt == 1:
        raise ConnectionError("the archive is not ready yet")
    return f"3 documents loaded ({order})"


@step("publish", retry=Retry(attempts=5, give_up_on=(ReviewRefused,)))
async def publish(ctx: Context, review: str) -> str:
    """Publish results. All attempts have the same key, so that the receiver can detect a repetition."""
    if review != "approved":
        raise ReviewRefused(review)
    return f"published once, as {ctx.idempotency_key}"


def processing(model: str | None) -> Workflow:
    """Return the flow; without a model, a script answers in its place."""
    process = Agent("process", model=model or ScriptedModel(["A summary of 3 documents."]), instructions="Sum it up.")
    return Workflow(
        "document-processing",
        ingest,
        step("process", process, timeout=120),
        wait_signal("review", timeout=7 * 24 * 3600, type=str, default="not reviewed"),
        sleep("rest", 0.05),
        publish,
        timeout=14 * 24 * 3600,
    )


async def main(model: str | None, store: str | None) -> None:
    """Run the workflow once, print its progress, and send the review."""
    async with Engine(store) as engine:
        run = await engine.start(processing(model), "start processing", run_id="documents-1")
        async for event in run.events():
            if event.type == "retry":
                print(f"{event.node}: {event.error}; once more in {event.delay_s} s")
            elif event.type == "node_finished":
                print(f"{event.node}: {event.output}")
            elif event.type == "waiting" and event.name == "review":
                print("review: waiting")
                if await run.status() is RunStatus.waiting:  # otherwise the event is from before a restart
                    await run.signal("review", "approved")
        print(await run.result())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="openai:NAME or anthropic:NAME; by default a script answers")
    parser.add_argument("--store", help="folder of the runs; by default they are in memory")
    arguments = parser.parse_args()
    asyncio.run(main(arguments.model, arguments.store))
