"""The process of W7: measures the time from its spawn by the parent to its first step on disk.

Run as a file, by path: `cold.py VARIANT FOLDER SPAWNED`; SPAWNED is the parent's `time.monotonic()`. It imports
the modules that a user's program of one node would import, and prints figures by name.
"""

import asyncio
import sys
import time
from pathlib import Path


def ours(variant: str, folder: Path, spawned: float) -> dict[str, float]:
    """Run one node on the engine."""
    began = time.perf_counter()
    import beluga_graph  # noqa: F401, PLC0415 - its time is the figure

    imported = time.perf_counter()
    from beluga_graph import END, START, Engine, Graph  # noqa: PLC0415 - as above

    named = time.perf_counter()
    g = Graph("cold")

    @g.node
    async def only(value: int) -> int:
        return value + 1

    g.edge(START, only)
    g.edge(only, END)

    async def main() -> float:
        store = None if variant == "memory" else folder / "store"
        durability = "commit" if variant == "memory" else variant
        async with Engine(store, durability=durability) as engine:  # type: ignore[arg-type]  # the variants are durabilities
            assert await engine.execute(g, 1, run_id="cold") == 2
            return time.monotonic()

    done = asyncio.run(main())
    return {
        "import_ms": (imported - began) * 1e3,
        "names_ms": (named - began) * 1e3,
        "cold_ms": (done - spawned) * 1e3,
    }


def raw(variant: str, folder: Path, spawned: float) -> dict[str, float]:
    """Save one record without an engine; with raw asyncio, await one node."""
    if variant == "lmdb-sync":
        import lmdb  # noqa: PLC0415 - only this variant pays for it

        with lmdb.open(str(folder / "raw"), map_size=16 << 30) as environment:
            with environment.begin(write=True) as txn:
                txn.put(b"key", b"value")
            return {"cold_ms": (time.monotonic() - spawned) * 1e3}
    if variant == "sqlite-full":
        import sqlite3  # noqa: PLC0415 - as above

        connection = sqlite3.connect(folder / "raw.sqlite")
        connection.execute("PRAGMA journal_mode=WAL")
        connection.execute("CREATE TABLE t(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")
        connection.execute("INSERT INTO t VALUES(?, ?)", (b"key", b"value"))
        connection.commit()
        connection.close()
    else:
        asyncio.run(asyncio.sleep(0))
    return {"cold_ms": (time.monotonic() - spawned) * 1e3}


def peak_mb() -> float:
    """Return the highest resident size so far."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next((int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:")), 0.0)


if __name__ == "__main__":
    _, VARIANT, FOLDER, SPAWNED = sys.argv
    start = ours if VARIANT in ("memory", "none", "batch", "commit") else raw
    figures = start(VARIANT, Path(FOLDER), float(SPAWNED))
    for name, value in (figures | {"peak_mb": peak_mb()}).items():
        print(name, value)
