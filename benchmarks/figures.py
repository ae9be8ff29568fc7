"""Figures of measurements: medians with their range, ratios within repetitions, bars, and all as JSON."""

from __future__ import annotations

import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from benchmarks.machine import describe, package_versions
from benchmarks.suite import Measured, Options
from benchmarks.workloads import METRICS, VARIANTS, WORKLOADS, Cell, raw_beside

__all__ = ["Bar", "Figure", "Report", "write_json"]

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Figure:
    """A median, its range, and the number of samples."""

    median: float
    min: float
    max: float
    n: int


@dataclass(frozen=True, slots=True)
class Bar:
    """One promise and its measurement; `None` if this run did not measure it."""

    claim: str
    measured: float | None
    limit: float
    unit: str
    of_limit: float | None
    """At most 1 if the promise holds."""
    against_raw: float | None
    """The cost as a multiple of the raw variant's in the same run."""
    raw: str | None

    @property
    def holds(self) -> bool | None:
        """Whether the promise holds; `None` if this run did not measure it."""
        return None if self.of_limit is None else self.of_limit <= 1


class Report:
    """The results of one run of the suite, by cell and metric."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self.measured = {one.cell: one for one in measured}

    def figure(self, cell: Cell, metric: str) -> Figure | None:
        """Return a cell's figure over all samples; `None` if it was not measured."""
        measured = self.measured.get(cell)
        samples = [value for per in measured.figures.get(metric, []) for value in per] if measured else []
        return _figure(samples) if samples else None

    def ratio(self, cell: Cell, metric: str, to: Cell, to_metric: str | None = None) -> Figure | None:
        """Return one cell's figure over another's: the median of the ratios of each repetition's medians."""
        above, below = self._medians(cell, metric), self._medians(to, to_metric or metric)
        ratios = [above[number] / below[number] for number in above.keys() & below.keys() if below[number]]
        return _figure(ratios) if ratios else None

    def against_raw(self, cell: Cell) -> Figure | None:
        """Return this cell's cost as a multiple of the raw variant's, in the workload's first metric."""
        raw = raw_beside(cell)
        if raw is None:
            return None
        metric = WORKLOADS[cell.workload].metrics[0]
        if METRICS[metric].more_is_better:
            return self.ratio(raw, metric, cell)
        return self.ratio(cell, metric, raw)

    def _medians(self, cell: Cell, metric: str) -> dict[int, float]:
        measured = self.measured.get(cell)
        if measured is None or metric not in measured.figures:
            return {}
        medians = map(statistics.median, measured.figures[metric])
        return dict(zip(measured.repetitions, medians, strict=True))


def _figure(values: Sequence[float]) -> Figure:
    return Figure(statistics.median(values), min(values), max(values), len(values))


def write_json(path: Path, report: Report, bars: Sequence[Bar], options: Options, took_s: float) -> None:
    """Write the results, the machine, the packages, the definitions of the workloads, and the bars."""
    document = {
        "format": FORMAT,
        "written": datetime.now(UTC).isoformat(timespec="seconds"),
        "took_s": round(took_s, 1),
        "seed": options.seed,
        "repetitions": options.repetitions,
        "quick": options.quick,
        "machine": describe(options.data),
        "packages": package_versions(),
        "metrics": {name: asdict(metric) for name, metric in METRICS.items()},
        "workloads": {
            name: {"title": workload.title, "size": workload.size_means} for name, workload in WORKLOADS.items()
        },
        "variants": {name: variant.promise for name, variant in VARIANTS.items()},
        "results": [_plain(report, cell) for cell in report.measured],
        "bars": [asdict(bar) | {"holds": bar.holds} for bar in bars],
    }
    path.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n")


def _plain(report: Report, cell: Cell) -> dict[str, Any]:
    measured = report.measured[cell]
    ratio = report.against_raw(cell)
    figures = {name: report.figure(cell, name) for name in measured.figures}
    return {
        "workload": cell.workload,
        "size": cell.size,
        "variant": cell.variant,
        "figures": {
            name: asdict(figure) | {"samples": measured.figures[name]}
            for name, figure in figures.items()
            if figure is not None
        },
        "against_raw": None if ratio is None else asdict(ratio),
        "raw": raw.variant if (raw := raw_beside(cell)) is not None else None,
        "probes": measured.probes,
        "errors": measured.errors,
    }
