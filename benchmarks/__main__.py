"""`python -m benchmarks`: measure, report, and write figures and charts to a folder."""

from __future__ import annotations

import argparse
import os
import secrets
import sys
import tempfile
import time
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from benchmarks.bars import bars_of
from benchmarks.charts import draw_charts
from benchmarks.figures import Report, write_json
from benchmarks.machine import describe
from benchmarks.suite import Measured, Options, measure_all
from benchmarks.tables import show_report
from benchmarks.workloads import VARIANTS, WORKLOADS, Cell, cells_of

__all__ = ["main"]

_LIMIT_S = 180.0
_WIDTH = 150
_QUICK_LIMIT_S = 30.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line; return 1 if a measurement failed."""
    given = _parser().parse_args(arguments)
    console = Console()
    if not console.is_terminal:  # a file or a pipe has no width of its own
        console = Console(width=_WIDTH)
    try:
        cells = cells_of(given.workloads, given.variants, quick=given.quick)
    except ValueError as error:
        console.print(f"[red]{error}[/red]")
        return 2
    seed = given.seed if given.seed is not None else secrets.randbits(32)
    data = Path(given.data or tempfile.gettempdir())
    options = Options(
        data=data,
        repetitions=given.reps or (1 if given.quick else 3),
        seed=seed,
        limit_s=_QUICK_LIMIT_S if given.quick else _LIMIT_S,
        quick=given.quick,
    )
    for folder in (given.out, data):
        folder.mkdir(parents=True, exist_ok=True)
    machine = describe(data)
    console.print(f"seed {seed}, {options.repetitions} repetitions, stores in {data}", highlight=False)
    console.print(", ".join(f"{name} {value}" for name, value in machine.items()), style="dim", highlight=False)
    began = time.monotonic()
    report = Report(_measured(console, cells, options))
    bars = bars_of(report)
    took_s = time.monotonic() - began
    show_report(console, report, bars)
    figures = given.out / "figures.json"
    write_json(figures, report, bars, options, took_s)
    written = [figures, *_charts(console, report, given.out)]
    _show_probes(console, report)
    console.print(f"{took_s:.0f} s; wrote", ", ".join(map(str, written)), highlight=False)
    return int(any(measured.errors for measured in report.measured.values()))


def _measured(console: Console, cells: list[Cell], options: Options) -> list[Measured]:
    columns = (
        TextColumn("{task.description:<34}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def on_cell(done: int, total: int, cell: Cell) -> None:
            description = f"{cell.workload} {cell.variant} {cell.size:,}"
            progress.update(task, completed=done, total=total, description=description)

        return measure_all(cells, options, on_cell)


def _show_probes(console: Console, report: Report) -> None:
    """Print the speed of the machine, and whether other programs were using it."""
    probes = [one for measured in report.measured.values() for one in measured.probes]
    medians: dict[str, float] = {}
    for name in ("fdatasync_us", "loop_ms", "load"):
        seen = sorted(one[name] for one in probes) or [0.0]
        medians[name] = seen[len(seen) // 2]
        console.print(f"probe {name}: {medians[name]} ({seen[0]}-{seen[-1]})", style="dim", highlight=False)
    cores = os.cpu_count() or 1
    if medians["load"] > cores:
        busy = f"load {medians['load']} on {cores} cores"
        text = f"the machine was busy ({busy}): measure again before you trust these figures"
        console.print(text, style="yellow", highlight=False)


def _charts(console: Console, report: Report, folder: Path) -> list[Path]:
    try:
        return draw_charts(report, folder)
    except ModuleNotFoundError as error:
        console.print(f"no charts without {error.name}: pip install 'beluga-graph[bench]'", style="yellow")
        return []


def _parser() -> argparse.ArgumentParser:
    about = "Measure the engine beside raw stores and raw asyncio. Variants: " + "; ".join(
        f"{name} ({variant.promise})" for name, variant in VARIANTS.items()
    )
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=about)
    parser.add_argument("--quick", action="store_true", help="small sizes, once each: under a minute")
    parser.add_argument("-w", dest="workloads", type=_names, help=f"workloads, of {', '.join(WORKLOADS)}; default all")
    parser.add_argument("-v", dest="variants", type=_names, help="variants; default all")
    parser.add_argument("--reps", type=_count, help="repetitions; default 3, with --quick 1")
    parser.add_argument("--out", type=Path, default=Path("benchmark-results"), help="folder for the results")
    parser.add_argument("--data", help="folder for the stores; default the system's temporary one")
    parser.add_argument("--seed", type=int, help="seed of the order; default a random one, which is printed")
    return parser


def _names(text: str) -> list[str]:
    return [name.strip().lower() for name in text.split(",") if name.strip()]


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise argparse.ArgumentTypeError(f"{value}: at least 1")
    return value


if __name__ == "__main__":
    sys.exit(main())
