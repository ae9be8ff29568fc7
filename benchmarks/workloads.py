"""The workloads: the meaning of their sizes, the sizes to run, and the metrics.

Node bodies are trivial, so that all figures are overhead of the variant that runs them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = [
    "METRICS",
    "OURS",
    "RAW",
    "VARIANTS",
    "WORKLOADS",
    "Cell",
    "Metric",
    "Workload",
    "cells_of",
    "raw_beside",
]

CHAIN_STEPS = 10  # of each run of W5
BLOB_STEPS = 50
FLAT_FROM = 10_000  # W9: from this size on, fixed costs are negligible


@dataclass(frozen=True, slots=True)
class Metric:
    """The unit and title of a figure."""

    unit: str
    title: str
    head: str
    """Heading of a table's column."""
    more_is_better: bool = False


METRICS = {
    "total_ms": Metric("ms", "time of a run", "ms/run"),
    "step_us": Metric("µs", "time per step", "µs/step"),
    "cpu_us": Metric("µs", "CPU per step", "CPU µs"),
    "steps_per_s": Metric("1/s", "steps, or events, per second", "per second", more_is_better=True),
    "stored_b": Metric("B", "blocks on disk per step", "stored B"),
    "written_b": Metric("B", "written to the device per step", "device B"),
    "payload_b": Metric("B", "keys and values committed per step", "payload B"),
    "memory_mb": Metric("MB", "anonymous memory in the last step", "anon MB"),
    "open_ms": Metric("ms", "open to node", "open-node ms"),
    "spawn_ms": Metric("ms", "spawn to node", "spawn-node ms"),
    "again": Metric("", "nodes run again", "run again"),
    "import_ms": Metric("ms", "import beluga_graph", "import ms"),
    "names_ms": Metric("ms", "import Engine and Graph", "names ms"),
    "cold_ms": Metric("ms", "spawn to first durable step", "first step ms"),
    "peak_mb": Metric("MB", "peak resident memory", "peak MB"),
}


@dataclass(frozen=True, slots=True)
class Variant:
    """A way to run a workload, and the durability that it promises."""

    promise: str
    beside: str | None = None
    """The raw variant to compare it with."""
    stores: bool = True


OURS = {
    "memory": Variant("no store: nothing survives the process", "await", stores=False),
    "none": Variant("LMDB, written and not synced: survives the process", "lmdb-nosync"),
    "batch": Variant("LMDB, works ahead of synced commits: loses at most 50 ms", "lmdb-sync"),
    "commit": Variant("LMDB, each step synced: survives a power loss", "lmdb-sync"),
}
RAW = {
    "lmdb-nosync": Variant("raw LMDB, sync=False: the bytes of durability none, commit by commit"),
    "lmdb-sync": Variant("raw LMDB: the bytes of durability commit, commit by commit"),
    "sqlite-normal": Variant("raw SQLite, WAL, synchronous=NORMAL: the same bytes, not synced"),
    "sqlite-full": Variant("raw SQLite, WAL, synchronous=FULL: the same bytes, synced"),
    "await": Variant("raw asyncio: await of each node, nothing encoded or saved", stores=False),
    "create-task": Variant("raw asyncio: a task for each node, nothing encoded or saved", stores=False),
}
VARIANTS = OURS | RAW
_STORES = ("lmdb-nosync", "lmdb-sync", "sqlite-normal", "sqlite-full")
_QUICK_RAW = ("lmdb-nosync", "lmdb-sync", "await", "create-task")  # except in W1, which runs all


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One workload. `size_means` explains its sizes; a cell larger than `once_above` runs in one repetition only."""

    title: str
    size_means: str
    sizes: tuple[int, ...]
    quick: tuple[int, ...]
    metrics: tuple[str, ...]
    """Ratios are computed from the first one."""
    raw: tuple[str, ...]
    steps_per_size: int = 1
    steps_fixed: int | None = None
    samples: int = 1
    """Timed runs within one process; fewer if they take long."""
    warm: int | None = None
    """Size of the untimed first run; the cell's own size if `None`."""
    once_above: int | None = None
    ours: tuple[str, ...] = tuple(OURS)
    limits: tuple[tuple[str, int], ...] = ()
    """Largest size of variants that do not run all sizes."""

    def steps(self, size: int) -> int:
        """Return the steps of one run, the divisor of figures per step."""
        return self.steps_fixed if self.steps_fixed is not None else self.steps_per_size * size

    def runs_on(self, variant: str, size: int) -> bool:
        """Return whether a variant is measured at a size."""
        known = variant in self.ours or variant in self.raw
        return known and size <= dict(self.limits).get(variant, size)


_PER_STEP = ("step_us", "cpu_us", "stored_b", "written_b", "payload_b")

WORKLOADS = {
    "w1": Workload(
        title="a chain of nodes, an int and 100 bytes from each to the next",
        size_means="nodes",
        sizes=(200,),
        quick=(200,),
        metrics=_PER_STEP,
        raw=(*_STORES, "await", "create-task"),
        samples=5,
    ),
    "w2": Workload(
        title="a loop of two nodes, one message of 200 bytes appended per turn",
        size_means="turns",
        sizes=(100, 1_000, 5_000),
        quick=(50, 250),
        metrics=("step_us", "total_ms", "cpu_us", "stored_b", "written_b", "payload_b"),
        raw=(*_STORES, "await"),
        steps_per_size=2,
        samples=3,
        warm=10,
        once_above=2_000,
    ),
    "w3": Workload(
        title="a fan-out and its join",
        size_means="branches",
        sizes=(10, 100, 1_000),
        quick=(10, 100),
        metrics=("total_ms", "step_us", "cpu_us", "stored_b", "written_b", "payload_b"),
        raw=(*_STORES, "create-task"),
        samples=5,
    ),
    "w4": Workload(
        title="SIGKILL within a node of W2's loop, then resume in a new process",
        size_means="node executions before the kill",
        sizes=(1_000,),
        quick=(200,),
        metrics=("open_ms", "spawn_ms", "again"),
        raw=("lmdb-sync", "sqlite-full"),
        ours=("none", "batch", "commit"),
    ),
    "w5": Workload(
        title="concurrent runs of 10 steps in one store",
        size_means="runs",
        sizes=(500,),
        quick=(50,),
        metrics=("steps_per_s", "total_ms", "cpu_us", "stored_b", "payload_b"),
        raw=(*_STORES, "create-task"),
        steps_per_size=CHAIN_STEPS,
        samples=3,
    ),
    "w6": Workload(
        title="50 steps beside a large value in the state that never changes",
        size_means="bytes",
        sizes=(1 << 20,),
        quick=(1 << 16,),
        metrics=_PER_STEP,
        raw=_STORES,
        steps_fixed=BLOB_STEPS,
        samples=3,
        warm=1 << 14,
    ),
    "w7": Workload(
        title="the start of a new process: import, open, first step on disk",
        size_means="steps",
        sizes=(1,),
        quick=(1,),
        metrics=("cold_ms", "import_ms", "names_ms", "peak_mb"),
        raw=("lmdb-sync", "sqlite-full", "await"),
        samples=4,
    ),
    "w8": Workload(
        title="pieces of text from one node through stream()",
        size_means="events",
        sizes=(10_000,),
        quick=(2_000,),
        metrics=("steps_per_s", "total_ms", "cpu_us"),
        raw=("await",),
        samples=3,
    ),
    "w9": Workload(
        title="a loop of many steps",
        size_means="steps",
        sizes=(1_000, 10_000, 100_000, 1_000_000),
        quick=(500, 2_000),
        metrics=("step_us", "cpu_us", "stored_b", "memory_mb", "written_b", "payload_b"),
        raw=(*_STORES, "await"),
        warm=50,
        once_above=10_000,
        limits=(
            ("memory", 100_000),  # its store is in memory and keeps the whole history
            ("commit", 100_000),
            ("lmdb-sync", 100_000),
            ("sqlite-normal", 100_000),
            ("sqlite-full", 10_000),
        ),
    ),
}


@dataclass(frozen=True, slots=True, order=True)
class Cell:
    """One measurement: a workload, a size and a variant."""

    workload: str
    size: int
    variant: str


def cells_of(
    workloads: Iterable[str] | None = None, variants: Iterable[str] | None = None, *, quick: bool = False
) -> list[Cell]:
    """Return the cells of a run, by workload, size and variant. Raises `ValueError` for unknown names."""
    wanted = list(WORKLOADS if workloads is None else workloads)
    who = list(VARIANTS if variants is None else variants)
    for name, known in [(w, WORKLOADS.keys()) for w in wanted] + [(v, VARIANTS.keys()) for v in who]:
        if name not in known:
            raise ValueError(f"{name!r}: known are {', '.join(known)}")
    return [
        Cell(name, size, variant)
        for name in wanted
        for size in (WORKLOADS[name].quick if quick else WORKLOADS[name].sizes)
        for variant in who
        if WORKLOADS[name].runs_on(variant, size)
        and not (quick and variants is None and name != "w1" and variant not in (*OURS, *_QUICK_RAW))
    ]


def raw_beside(cell: Cell) -> Cell | None:
    """Return the raw cell to compare one of our cells with, if there is one."""
    if cell.variant not in OURS:
        return None
    workload = WORKLOADS[cell.workload]
    beside = OURS[cell.variant].beside
    if beside not in workload.raw:  # raw asyncio has one form in some workloads
        beside = next((name for name in ("await", "create-task") if name in workload.raw), None)
    if cell.workload == "w7" and cell.variant != "memory":
        beside = "lmdb-sync"
    if cell.workload == "w4":
        beside = "lmdb-sync"
    return None if beside is None else Cell(cell.workload, cell.size, beside)
