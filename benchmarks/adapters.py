"""The protocol of adapters, and the adapter of each variant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.workloads import OURS, VARIANTS

__all__ = ["Adapter", "adapter_of"]


class Adapter(Protocol):
    """Runs workloads on one variant, in a fresh folder."""

    async def open(self) -> None:
        """Open the store or engine; not timed."""
        ...

    async def prepare(self, workload: str, name: str, size: int) -> float | None:
        """Prepare the run `name`; not timed.

        Return the bytes of keys and values that the run will write, if they are known beforehand.
        """
        ...

    async def run(self, workload: str, name: str, size: int) -> None:
        """Run the workload once, under a new name. Raises if the result is wrong."""
        ...

    async def settle(self) -> None:
        """Write all pending data to the store's own file, so that its size can be measured."""
        ...

    async def resume(self, name: str, size: int) -> None:
        """W4: continue a run of another process from the disk."""
        ...

    async def close(self) -> None:
        """Release all resources."""
        ...


def adapter_of(variant: str, folder: Path) -> Adapter:
    """Return the adapter of a variant, importing only the modules that it needs."""
    if variant in OURS:
        from benchmarks.ours import Ours  # noqa: PLC0415 - see above

        return Ours(variant, folder)
    if variant.startswith("lmdb"):
        from benchmarks.raw_stores import Lmdb, Replay  # noqa: PLC0415 - see above

        return Replay(partial(Lmdb, folder, sync=variant == "lmdb-sync"))
    if variant.startswith("sqlite"):
        from benchmarks.raw_stores import Replay, Sqlite  # noqa: PLC0415 - see above

        return Replay(partial(Sqlite, folder, sync=variant == "sqlite-full"))
    if variant in VARIANTS:
        from benchmarks.raw_asyncio import Asyncio  # noqa: PLC0415 - see above

        return Asyncio(tasks=variant == "create-task")
    raise ValueError(f"no adapter for {variant!r}: known are {', '.join(VARIANTS)}")
