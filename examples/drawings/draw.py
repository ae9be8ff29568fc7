"""Draw the flow of each example, and one run, into this folder. Equal flows give equal bytes.

PYTHONPATH=examples python examples/drawings/draw.py
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import approval
import conditional_handoffs
import event_bus
import handoffs
import loop
import nightly
import parallel
import reminders
import sequential
import streaming
import supervisor
import temporal
import workflow

from beluga_graph import Engine
from beluga_graph.demo.pipeline import pipeline
from beluga_graph.testing import VirtualClock

FLOWS = {
    "approval": approval.payment,
    "conditional_handoffs": conditional_handoffs.front_desk(None),
    "demo": pipeline,
    "event_bus": event_bus.report,
    "handoffs": handoffs.support(None),
    "loop": loop.refinement(None),
    "nightly": nightly.nightly,
    "parallel": parallel.analysis(None),
    "reminders": reminders.reminder,
    "sequential": sequential.pipeline(None),
    "streaming": streaming.report(None),
    "supervisor": supervisor.team(None),
    "temporal": temporal.order,
    "workflow": workflow.processing(None),
}


async def drawings() -> dict[str, str]:
    """Return the drawings by file name."""
    found = {f"{name}.svg": flow.svg() for name, flow in FLOWS.items()}
    found["workflow-run.svg"] = await waiting_run()
    return found


async def waiting_run() -> str:
    """Draw a workflow run that waits for its review, on a virtual clock so that its times are reproducible."""
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(workflow.processing(None), "documents", run_id="documents-1")
        while (await engine.snapshot(run.id)).tokens[0].node != "review":
            await clock.advance(0.01)
        return await run.svg()


if __name__ == "__main__":
    for name, text in asyncio.run(drawings()).items():
        Path(__file__).with_name(name).write_text(text, encoding="utf-8")
        print(f"examples/drawings/{name}")
