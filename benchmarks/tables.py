"""The report on the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.table import Table

from benchmarks.figures import Bar, Figure, Report
from benchmarks.workloads import METRICS, OURS, WORKLOADS, Cell, raw_beside

__all__ = ["bar_table", "show_report", "shown", "workload_table"]


def show_report(console: Console, report: Report, bars: Sequence[Bar]) -> None:
    """Print a table for each workload, then the bars, then what failed."""
    for name in WORKLOADS:
        cells = [cell for cell in report.measured if cell.workload == name]
        if cells:
            console.print(workload_table(report, name, cells))
    console.print(bar_table(bars))
    for measured in report.measured.values():
        for error in measured.errors:
            cell = measured.cell
            console.print(f"[red]{cell.workload} {cell.variant} {cell.size}[/red]", error, soft_wrap=True)


def workload_table(report: Report, name: str, cells: Sequence[Cell]) -> Table:
    """Return a table of medians, with the range of the first metric and the ratio against raw."""
    workload = WORKLOADS[name]
    measured = {metric for cell in cells for metric in report.measured[cell].figures}
    metrics = [metric for metric in workload.metrics if metric in measured]
    table = Table(title=f"{name.upper()}: {workload.title}", title_justify="left", title_style="bold")
    table.add_column(workload.size_means.split(" ", maxsplit=1)[0], justify="right", no_wrap=True)
    table.add_column("variant", no_wrap=True)
    for index, metric in enumerate(metrics):
        head = METRICS[metric].head
        table.add_column(f"{head} (min-max)" if index == 0 else head, justify="right", no_wrap=True)
    table.add_column("x raw", justify="right", no_wrap=True)
    for size in sorted({cell.size for cell in cells}):
        for cell in (one for one in cells if one.size == size):
            columns = [
                _with_range(report.figure(cell, metric)) if index == 0 else _median(report.figure(cell, metric))
                for index, metric in enumerate(metrics)
            ]
            style = "" if cell.variant in OURS else "dim"
            table.add_row(f"{size:,}", cell.variant, *columns, _against(report, cell), style=style)
        table.add_section()
    return table


def bar_table(bars: Sequence[Bar]) -> Table:
    """Return a table of the promises, each with its share of the limit."""
    table = Table(title="Bars", title_justify="left", title_style="bold")
    for heading in ("promise", "limit", "measured", "of limit", "x raw in this run", ""):
        table.add_column(heading, justify="left" if heading in ("promise", "") else "right")
    verdicts = {True: "[green]holds[/green]", False: "[red]missed[/red]", None: "[dim]not measured[/dim]"}
    for bar in bars:
        table.add_row(
            bar.claim,
            f"{shown(bar.limit)} {bar.unit}",
            "" if bar.measured is None else f"{shown(bar.measured)} {bar.unit}",
            "" if bar.of_limit is None else f"{bar.of_limit:.2f}",
            "" if bar.against_raw is None else f"{bar.against_raw:.2f} x {bar.raw}",
            verdicts[bar.holds],
        )
    return table


def shown(value: float) -> str:
    """Return a figure with three significant digits."""
    if value >= 1000:
        return f"{value:,.0f}"
    return f"{value:.3g}" if abs(value) < 100 else f"{value:.0f}"


def _median(figure: Figure | None) -> str:
    return "" if figure is None else shown(figure.median)


def _with_range(figure: Figure | None) -> str:
    if figure is None:
        return ""
    return f"{shown(figure.median)} ({shown(figure.min)}-{shown(figure.max)})"


def _against(report: Report, cell: Cell) -> str:
    ratio, raw = report.against_raw(cell), raw_beside(cell)
    if ratio is None or raw is None:
        return ""
    spread = f" ({ratio.min:.2f}-{ratio.max:.2f})" if ratio.n > 1 else ""
    return f"{ratio.median:.2f}{spread} {raw.variant}"
