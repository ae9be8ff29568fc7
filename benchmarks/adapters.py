"""What an adapter is, and which one runs a variant."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Protocol

from benchmarks.workloads import OURS, VARIANTS

__all__ = ["Adapter", "adapter_of"]


class Adapter(Protocol):
    """Runs workloads with one variant, in one fresh folder."""

    async def open(self) -> None:
        """Get ready; not timed."""
        ...

    async def prepare(self, workload: str, name: str, size: int) -> float | None:
        """Do what the run `name` needs and the clock must not see.

        Returns the bytes of keys and values that the run will write, where that is known beforehand.
        """
        ...

    async def run(self, workload: str, name: str, size: int) -> None:
        """Do the workload once, under a name that was not used before. Raises if the result is wrong."""
        ...

    async def settle(self) -> None:
        """Bring to its place what still lies elsewhere, so that the store's size can be told."""
        ...

    async def resume(self, name: str, size: int) -> None:
        """W4: go on with a run that another process began, from the disk."""
        ...

    async def close(self) -> None:
        """Give everything back."""
        ...


def adapter_of(variant: str, folder: Path) -> Adapter:
    """Return the adapter of a variant; it imports only what that one needs."""
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
