"""One measurement in one fresh process.

`python -m benchmarks.child PHASE WORKLOAD SIZE VARIANT SAMPLES FOLDER SPAWNED`, where SPAWNED is the parent's
`time.monotonic()`, prints one line of JSON: lists of figures by metric.
"""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import sys
import time
from pathlib import Path

from benchmarks.adapters import Adapter, adapter_of
from benchmarks.flows import visits
from benchmarks.machine import allocated_bytes, anonymous_bytes, written_bytes
from benchmarks.workloads import OURS, VARIANTS, WORKLOADS, Cell

__all__ = ["Figures", "crash", "measure", "resume"]

_PATIENCE_S = 4.0  # no further sample begins after this time
_RUN = "crashed"  # W4's run id

Figures = dict[str, list[float]]


async def measure(cell: Cell, samples: int, folder: Path) -> Figures:
    """Run a workload `samples` times and return its figures."""
    workload = WORKLOADS[cell.workload]
    adapter = adapter_of(cell.variant, folder)
    await adapter.open()
    warm = cell.size if workload.warm is None else min(workload.warm, cell.size)
    await adapter.prepare(cell.workload, "warm", warm)
    await adapter.run(cell.workload, "warm", warm)
    await adapter.settle()
    stored, written = allocated_bytes(folder), written_bytes()
    memory: list[float] = []
    visits.at, visits.reached = cell.size - 1, lambda: memory.append(anonymous_bytes() / 1e6)
    times, payload = await _timed(adapter, cell, samples)
    written = written_bytes() - written
    await adapter.close()
    stored = allocated_bytes(folder) - stored
    steps, stores = workload.steps(cell.size), VARIANTS[cell.variant].stores
    all_steps = steps * len(times)
    figures: Figures = {
        "total_ms": [wall * 1e3 for wall, _ in times],
        "step_us": [wall / steps * 1e6 for wall, _ in times],
        "cpu_us": [cpu / steps * 1e6 for _, cpu in times],
        "steps_per_s": [steps / wall for wall, _ in times],
        "stored_b": [max(0, stored) / all_steps] if stores else [],
        "written_b": [written / all_steps] if stores else [],
        "payload_b": [payload / all_steps] if payload else [],
        "memory_mb": memory,
    }
    return {name: figures[name] for name in workload.metrics if figures[name]}


async def _timed(adapter: Adapter, cell: Cell, samples: int) -> tuple[list[tuple[float, float]], float]:
    """Return wall and CPU seconds of each sample, and the bytes that all samples were to write."""
    times: list[tuple[float, float]] = []
    payload = 0.0
    until = time.perf_counter() + _PATIENCE_S
    for sample in range(samples):
        payload += await adapter.prepare(cell.workload, f"run-{sample}", cell.size) or 0.0
        gc.collect()
        wall, cpu = time.perf_counter(), time.process_time()
        await adapter.run(cell.workload, f"run-{sample}", cell.size)
        times.append((time.perf_counter() - wall, time.process_time() - cpu))
        if time.perf_counter() > until:
            break
    return times, payload


async def crash(cell: Cell, folder: Path) -> None:
    """W4, first half: kill the process within the last node execution."""
    adapter = adapter_of(cell.variant, folder)
    await adapter.open()
    await adapter.prepare(cell.workload, _RUN, cell.size)
    visits.at, visits.reached = cell.size - 1, lambda: os.kill(os.getpid(), signal.SIGKILL)
    await adapter.run(cell.workload, _RUN, cell.size)
    raise RuntimeError("the node that kills its process was never reached")


async def resume(cell: Cell, folder: Path, spawned: float) -> Figures:
    """W4, second half: continue, and measure when the interrupted node begins again."""
    reached: list[float] = []
    visits.at, visits.reached = cell.size - 1, lambda: reached.append(time.monotonic())
    adapter = adapter_of(cell.variant, folder)
    began = time.monotonic()
    await adapter.open()
    await adapter.resume(_RUN, cell.size)
    await adapter.close()
    figures = {"open_ms": [(reached[0] - began) * 1e3]}
    if cell.variant in OURS:  # the raw process imports more than it needs
        figures["spawn_ms"] = [(reached[0] - spawned) * 1e3]
        figures["again"] = [float(visits.count - 1)]  # not counting the interrupted node, which has to run again
    return figures


def main(arguments: list[str]) -> None:
    """Measure and print."""
    phase, workload, size, variant, samples, folder, spawned = arguments
    cell = Cell(workload, int(size), variant)
    if phase == "crash":
        asyncio.run(crash(cell, Path(folder)))
    elif phase == "resume":
        print(json.dumps(asyncio.run(resume(cell, Path(folder), float(spawned)))))
    else:
        print(json.dumps(asyncio.run(measure(cell, int(samples), Path(folder)))))


if __name__ == "__main__":
    main(sys.argv[1:])
