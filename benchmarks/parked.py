"""The cost of parked runs: `python -m benchmarks.parked --runs 10000`.

One store gets ten parked runs, another gets many. Then fresh processes measure a recovery of all runs, a server
that is idle, and the time to wake a run by a signal, sent by the same engine or by another one. Memory is the
anonymous memory of the process (from /proc), without the mapped file.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from beluga_graph import Engine, RunStatus, Workflow, step, wait_signal

FEW = 10
WAKES = 9
FLOW = Workflow("parked", wait_signal("go"), step("last", lambda value: value))


def anonymous_mb() -> float:
    """Return this process's anonymous memory."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Anonymous")) / 1024


async def fill(path: str, runs: int) -> dict[str, float]:
    """Start many runs and wait until each is parked."""
    async with Engine(path) as engine:
        began = time.perf_counter()
        for begin in range(0, runs, 200):
            await asyncio.gather(*(engine.start(FLOW, n, run_id=f"r{n}") for n in range(begin, min(begin + 200, runs))))
        took = time.perf_counter() - began
        await asyncio.sleep(0.5)
        return {"start_us": took / runs * 1e6, "own_mb": anonymous_mb()}


async def recover(path: str, runs: int) -> dict[str, float]:
    """Recover all runs, and wake some."""
    async with Engine(path) as engine:
        engine.register(FLOW)
        began = time.perf_counter()
        recovery = await engine.recover()
        took = time.perf_counter() - began
        assert len(recovery) == runs
        by_id = {run.id: run for run in recovery}
        woken = []
        for n in range(WAKES):
            began = time.perf_counter()
            await engine.signal(f"r{n}", "go", n)
            assert await by_id[f"r{n}"].result(10) == n
            woken.append((time.perf_counter() - began) * 1e3)
        return {"recover_ms": took * 1e3, "wake_ms": median(woken), "own_mb": anonymous_mb()}


async def serve(path: str, runs: int) -> dict[str, float]:
    """Serve while idle, and while another engine sends signals."""
    async with Engine(path) as engine:
        engine.register(FLOW)
        serving = asyncio.create_task(engine.serve())
        await asyncio.sleep(1)
        began = time.process_time()
        await asyncio.sleep(2)
        idle = (time.process_time() - began) / 2
        woken = []
        async with Engine(path) as other:
            for n in range(runs - 1, runs - 1 - min(WAKES, runs - WAKES), -1):
                began = time.perf_counter()
                await other.signal(f"r{n}", "go", n)
                while await other.status(f"r{n}") is not RunStatus.completed:  # noqa: ASYNC110 - another's run
                    await asyncio.sleep(0.001)
                woken.append((time.perf_counter() - began) * 1e3)
        memory = anonymous_mb()
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        return {"idle_cpu_percent": idle * 100, "wake_from_afar_ms": median(woken), "own_mb": memory}


PHASES = {"fill": fill, "recover": recover, "serve": serve}


def main() -> None:
    """Measure every phase with few runs and with many; print a line for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10_000)
    parser.add_argument("--phase", nargs=3, metavar=("NAME", "PATH", "RUNS"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.phase:
        name, path, runs = given.phase
        print(json.dumps(asyncio.run(PHASES[name](path, int(runs)))))
        return
    with tempfile.TemporaryDirectory() as folder:
        for runs in (FEW, given.runs):
            for name in PHASES:
                command = [sys.executable, "-m", "benchmarks.parked", "--phase", name, f"{folder}/{runs}", str(runs)]
                said = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                print(f"{runs:>8,} runs  {name:8}", "  ".join(f"{key} {value:.1f}" for key, value in said.items()))


if __name__ == "__main__":
    main()
