"""The suite: every cell in a fresh process and a fresh folder, in several repetitions, in shuffled order.

The variants of one workload and size are measured next to each other, in a different order each time, so that other
load on the machine affects all of them. Ratios are computed within a repetition.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

from benchmarks.machine import probe
from benchmarks.workloads import WORKLOADS, Cell

__all__ = ["Measured", "Options", "measure_all", "order_of"]

_ROOT = Path(__file__).resolve().parent.parent
_COLD = Path(__file__).resolve().parent / "cold.py"


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """Options of the suite."""

    data: Path
    """Folder for the fresh folders."""
    repetitions: int = 3
    seed: int = 0
    limit_s: float = 180.0
    """Time limit of one process."""
    budget_s: float = 720.0
    """After this time no further repetition begins; the first one is always complete."""
    quick: bool = False


@dataclass(slots=True)
class Measured:
    """The measurements of one cell."""

    cell: Cell
    figures: dict[str, list[list[float]]] = field(default_factory=dict)
    """By metric: one list of samples per repetition."""
    repetitions: list[int] = field(default_factory=list)
    """Numbers of the repetitions that the lists are of."""
    probes: list[dict[str, float]] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)


class _Failed(Exception):
    """A process did not return its measurement."""


def order_of(cells: Sequence[Cell], options: Options) -> list[tuple[int, Cell]]:
    """Return the (repetition, cell) pairs in the order of measurement."""
    shuffle = random.Random(options.seed).shuffle
    order: list[tuple[int, Cell]] = []
    for repetition in range(options.repetitions):
        blocks = [list(block) for _, block in groupby(cells, key=lambda cell: (cell.workload, cell.size))]
        for block in blocks:
            once_above = WORKLOADS[block[0].workload].once_above
            if repetition and once_above is not None and block[0].size > once_above:
                continue
            shuffle(block)
            order += [(repetition, cell) for cell in block]
    return order


def measure_all(cells: Sequence[Cell], options: Options, on_cell: Callable[[int, int, Cell], None]) -> list[Measured]:
    """Measure all cells; call `on_cell(done, total, next)` before each. Failures are recorded, not raised.

    After Ctrl-C, or when the budget is used up, returns the measurements so far.
    """
    found = {cell: Measured(cell) for cell in cells}
    order = order_of(cells, options)
    until = time.monotonic() + options.budget_s
    for done, (repetition, cell) in enumerate(order):
        if repetition and time.monotonic() > until:
            break
        on_cell(done, len(order), cell)
        try:
            _measure_into(found[cell], repetition, options)
        except KeyboardInterrupt:
            break
    return list(found.values())


def _measure_into(measured: Measured, repetition: int, options: Options) -> None:
    cell = measured.cell
    seen = probe(options.data)
    folder = Path(tempfile.mkdtemp(prefix=f"beluga-{cell.workload}-{cell.variant}-", dir=options.data))
    try:
        figures = _measure(cell, options, folder, first=repetition == 0)
    except _Failed as error:
        measured.errors.append(f"repetition {repetition}: {error}")
        return
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    measured.probes.append(seen)
    measured.repetitions.append(repetition)
    for name, samples in figures.items():
        measured.figures.setdefault(name, []).append(samples)


def _measure(cell: Cell, options: Options, folder: Path, *, first: bool) -> dict[str, list[float]]:
    samples = WORKLOADS[cell.workload].samples
    if options.quick:
        samples = min(samples, 2)
    if cell.workload == "w7":
        return _cold(cell, folder, samples, options.limit_s, first=first)
    if cell.workload == "w4":
        _child("crash", cell, samples, folder, options.limit_s, ends=-signal.SIGKILL)
        return _figures(_child("resume", cell, samples, folder, options.limit_s))
    return _figures(_child("measure", cell, samples, folder, options.limit_s))


def _cold(cell: Cell, folder: Path, samples: int, limit_s: float, *, first: bool) -> dict[str, list[float]]:
    """Start a new process for each sample. The first one only fills the file caches and is not counted."""
    figures: dict[str, list[float]] = {}
    for number in range(samples + first):
        fresh = folder / str(number)
        fresh.mkdir()
        out = _spawn([str(_COLD), cell.variant, str(fresh)], limit_s)
        if number == 0 and first:
            continue
        for line in out.splitlines():
            name, value = line.split()
            figures.setdefault(name, []).append(float(value))
    return figures


def _child(phase: str, cell: Cell, samples: int, folder: Path, limit_s: float, ends: int = 0) -> str:
    module = ["-m", "benchmarks.child", phase, cell.workload, str(cell.size), cell.variant]
    return _spawn([*module, str(samples), str(folder)], limit_s, ends)


def _figures(out: str) -> dict[str, list[float]]:
    try:
        figures: dict[str, list[float]] = json.loads(out)
    except ValueError as error:
        raise _Failed(f"it printed {out[-200:]!r}") from error
    return figures


def _spawn(arguments: list[str], limit_s: float, ends: int = 0) -> str:
    """Run Python with the arguments and the time of its spawn; return its output."""
    path = os.pathsep.join(filter(None, [str(_ROOT), os.environ.get("PYTHONPATH")]))
    command = [sys.executable, *arguments, repr(time.monotonic())]
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=limit_s,
            env=os.environ | {"PYTHONPATH": path},
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise _Failed(f"it took longer than {limit_s:g} s") from error
    if done.returncode != ends:
        last = done.stderr.strip().splitlines()[-1:] or ["no message"]
        raise _Failed(f"it ended with {done.returncode}, not {ends}: {last[0]}")
    return done.stdout
