"""The bars: the promised limits of time and bytes, and the share of each limit that was measured.

A bar that is a time is also compared with the raw variant in the same run: times depend on the machine, ratios
hardly do.
"""

from __future__ import annotations

from benchmarks.figures import Bar, Report
from benchmarks.workloads import FLAT_FROM, WORKLOADS, Cell, raw_beside

__all__ = ["bars_of"]


def bars_of(report: Report) -> list[Bar]:
    """Return all promises with their measurements in a report."""
    chain, wide, many, cold = (Cell(name, WORKLOADS[name].sizes[-1], "commit") for name in ("w1", "w3", "w5", "w7"))
    unsynced, in_memory = Cell("w1", chain.size, "none"), Cell("w1", chain.size, "memory")
    return [
        _ratio(report, "W1: a durable step / a raw LMDB commit of the same bytes", chain, 1.5),
        _cost(report, "W1: CPU per step, durability none", unsynced, "cpu_us", 60, "µs"),
        _cost(report, "W1: CPU per step, no store", in_memory, "cpu_us", 30, "µs"),
        _rate(report, "W5: durable steps per second, 500 runs of 10 at once", many, 10_000),
        _cost(report, "W3: durable fan-out of 1,000 and join", wide, "total_ms", 120, "ms"),
        _flat(report, "W9: CPU per step, largest size / 10,000", "cpu_us", 1.25),
        _flat(report, "W9: bytes per step, largest size / 10,000", "stored_b", 1.1),
        _flat(report, "W9: memory, largest size / 10,000", "memory_mb", 1.25),
        _cost(report, "W7: import beluga_graph", cold, "import_ms", 150, "ms"),
        _cost(report, "W7: import beluga_graph with Engine and Graph", cold, "names_ms", 150, "ms"),
        _cost(report, "W7: spawn to first durable step", cold, "cold_ms", 250, "ms"),
    ]


def _ratio(report: Report, claim: str, cell: Cell, limit: float) -> Bar:
    ratio = report.against_raw(cell)
    measured = None if ratio is None else ratio.median
    return _bar(report, claim, cell, "step_us", measured, limit, "x")


def _cost(report: Report, claim: str, cell: Cell, metric: str, limit: float, unit: str) -> Bar:
    figure = report.figure(cell, metric)
    return _bar(report, claim, cell, metric, None if figure is None else figure.median, limit, unit)


def _rate(report: Report, claim: str, cell: Cell, limit: float) -> Bar:
    figure = report.figure(cell, "steps_per_s")
    measured = None if figure is None else figure.median
    of_limit = None if not measured else limit / measured
    return _bar(report, claim, cell, "total_ms", measured, limit, "1/s", of_limit)


def _flat(report: Report, claim: str, metric: str, limit: float) -> Bar:
    """Compare sizes with durability none: its steps do not wait for a disk, which could hide growth."""
    sizes = [cell.size for cell in report.measured if cell.workload == "w9" and cell.variant == "none"]
    largest, base = Cell("w9", max(sizes, default=0), "none"), Cell("w9", FLAT_FROM, "none")
    grown = report.ratio(largest, metric, base) if largest.size > base.size else None
    return _bar(report, claim, largest, metric, None if grown is None else grown.median, limit, "x")


def _bar(
    report: Report,
    claim: str,
    cell: Cell,
    metric: str,
    measured: float | None,
    limit: float,
    unit: str,
    of_limit: float | None = None,
) -> Bar:
    if of_limit is None and measured is not None:
        of_limit = measured / limit
    raw = raw_beside(cell)
    ratio = None if raw is None or measured is None else report.ratio(cell, metric, raw)
    beside = None if ratio is None else ratio.median
    return Bar(claim, measured, limit, unit, of_limit, beside, None if raw is None else raw.variant)
