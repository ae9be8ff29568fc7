"""Growth laws as SVG: time and bytes per step over size, ours beside raw."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.workloads import OURS, WORKLOADS, Cell

if TYPE_CHECKING:
    from benchmarks.figures import Report

__all__ = ["draw_charts"]

_PANELS = {
    "w2": (("step_us", "time per step, µs"), ("stored_b", "stored per step, bytes")),
    "w3": (("step_us", "time per branch, µs"), ("stored_b", "stored per branch, bytes")),
    "w9": (
        ("step_us", "time per step, µs"),
        ("stored_b", "stored per step, bytes"),
        ("memory_mb", "anonymous memory, MB"),
    ),
}
# Our variants have colours that also differ in lightness; raw variants have greys, each with its dash pattern.
# Our lines get thinner in the order of drawing, so that lines on top of each other all remain visible.
_LINES: dict[str, dict[str, Any]] = {
    "commit": {"color": "#0b4f9e", "marker": "o", "linewidth": 5.0, "markersize": 9},
    "batch": {"color": "#2fb5a3", "marker": "s", "linewidth": 3.4, "markersize": 7},
    "none": {"color": "#e08a3c", "marker": "D", "linewidth": 2.0, "markersize": 5},
    "memory": {"color": "#b8437e", "marker": "^", "linewidth": 1.6, "markersize": 5},
    "lmdb-sync": {"color": "#333333", "linestyle": "--", "marker": "o"},
    "lmdb-nosync": {"color": "#333333", "linestyle": ":", "marker": "D"},
    "sqlite-full": {"color": "#8a8a8a", "linestyle": "--", "marker": "v"},
    "sqlite-normal": {"color": "#8a8a8a", "linestyle": ":", "marker": "x"},
    "await": {"color": "#b5b5b5", "linestyle": "-.", "marker": "+"},
    "create-task": {"color": "#b5b5b5", "linestyle": "-.", "marker": "+"},
}


def draw_charts(report: Report, folder: Path) -> list[Path]:
    """Draw the workloads that were measured at two sizes or more; return the files."""
    names = [name for name in _PANELS if len(_sizes(report, name)) > 1]
    if not names:
        return []
    import matplotlib as mpl  # noqa: PLC0415 - slow, and wanted only here

    mpl.use("svg")
    # Text stays text, so that the files are small, searchable and the same from run to run.
    mpl.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "beluga", "font.size": 10})
    return [_draw(report, name, folder) for name in names]


def _draw(report: Report, name: str, folder: Path) -> Path:
    from matplotlib.figure import Figure  # noqa: PLC0415 - see above

    panels, workload = _PANELS[name], WORKLOADS[name]
    figure = Figure(figsize=(4.6 * len(panels) + 1.6, 4.2), layout="constrained")
    figure.suptitle(f"{name.upper()}: {workload.title}", x=0.01, ha="left", fontweight="bold")
    handles: dict[str, Any] = {}
    for axes, (metric, title) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        for variant, style in _LINES.items():
            sizes, medians, low, high = _line(report, name, variant, metric)
            if not any(medians):
                continue
            (handles[variant],) = axes.plot(sizes, medians, **({"linewidth": 1.5, "markersize": 5} | style))
            if variant in OURS:  # the ranges of all lines would hide each other
                axes.fill_between(sizes, low, high, color=style["color"], alpha=0.12, linewidth=0)
        _frame(axes, title, workload.size_means, _sizes(report, name))
    labels = [f"{variant}" if variant in OURS else f"raw {variant}" for variant in handles]
    figure.legend(list(handles.values()), labels, loc="outside right center", frameon=False, handlelength=3)
    path = folder / f"{name}.svg"
    figure.savefig(path, metadata={"Date": None})
    return path


def _frame(axes: Any, title: str, size_means: str, sizes: Sequence[int]) -> None:
    """Give a panel logarithmic axes with plain numbers, on which a growth law is a slope."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter  # noqa: PLC0415 - see above

    axes.set_title(title, loc="left", fontsize=10)
    axes.set_xlabel(size_means)
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(list(sizes), [f"{size:,}" for size in sizes])
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_major_locator(LogLocator(base=10, subs=(1.0, 2.0, 5.0), numticks=12))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.10g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.minorticks_off()
    low, high = axes.get_ylim()
    if high / low < 20:  # add room around a flat line, or noise would fill the panel
        middle = (low * high) ** 0.5
        axes.set_ylim(middle / 20**0.5, middle * 20**0.5)
    axes.grid(visible=True, color="#e6e6e6", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)


def _sizes(report: Report, name: str) -> list[int]:
    return sorted({cell.size for cell, one in report.measured.items() if cell.workload == name and one.figures})


def _line(
    report: Report, name: str, variant: str, metric: str
) -> tuple[list[int], list[float], list[float], list[float]]:
    """Return sizes, medians, minima and maxima of one line."""
    points = [(size, report.figure(Cell(name, size, variant), metric)) for size in _sizes(report, name)]
    known = [(size, figure) for size, figure in points if figure is not None and figure.median > 0]
    return (
        [size for size, _ in known],
        [figure.median for _, figure in known],
        [figure.min for _, figure in known],
        [figure.max for _, figure in known],
    )
