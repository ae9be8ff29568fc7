"""Raw stores: exactly the bytes that the engine commits, in the same transactions, without the engine.

The engine first runs the workload on a store that records its commits; the replay of that recording is timed.
Checks are omitted: they write nothing.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple, Protocol

import lmdb

from benchmarks.flows import visits
from benchmarks.ours import Ours
from stores.base import Check, Delete, Op, Put
from stores.memory import MemoryStore

__all__ = ["Lmdb", "Recording", "Replay", "Sqlite"]

RECORDED_STEPS = 1_000  # of W9; longer runs repeat these steps under new numbers
_COUNTED_FROM = 25  # bytes of a key that ends in a number of eight bytes
_NUMBER_MAX = 1 << 32


class Recording:
    """A store in memory that records the writes of each commit."""

    shared = False
    private = True
    folder = None

    def __init__(self) -> None:
        self._store = MemoryStore()
        self.commits: list[tuple[Op, ...]] = []

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or `None`."""
        return self._store.get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield the items under a prefix."""
        return self._store.scan(prefix, start=start, reverse=reverse, limit=limit)

    def commit(self, *ops: Op) -> None:
        """Apply `ops` and record their writes."""
        self._store.commit(*ops)
        self.commits.append(tuple(op for op in ops if type(op) is not Check))

    def close(self) -> None:
        """Release everything."""
        self._store.close()


class Raw(Protocol):
    """A store without an engine."""

    def commit(self, ops: tuple[Op, ...]) -> None:
        """Write all in one transaction."""
        ...

    def last_key(self) -> bytes:
        """Read the last key."""
        ...

    def settle(self) -> None:
        """Write all pending data to the store's own file."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class Lmdb:
    """Raw LMDB."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self._environment = lmdb.open(str(folder / "raw"), map_size=16 << 30, sync=sync)

    def commit(self, ops: tuple[Op, ...]) -> None:
        """Write all in one transaction."""
        with self._environment.begin(write=True) as txn:
            for op in ops:
                if type(op) is Put:
                    txn.put(op[0], op[1])
                else:
                    txn.delete(op[0])

    def last_key(self) -> bytes:
        """Read the last key."""
        with self._environment.begin() as txn, txn.cursor() as cursor:
            cursor.last()
            return bytes(cursor.key())

    def settle(self) -> None:
        """Do nothing: LMDB has only one file."""

    def close(self) -> None:
        """Close it."""
        self._environment.close()


class Sqlite:
    """Raw SQLite with a write-ahead log."""

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self._connection = sqlite3.connect(folder / "raw.sqlite", isolation_level=None)
        self._connection.execute("PRAGMA journal_mode=WAL")
        self._connection.execute(f"PRAGMA synchronous={'FULL' if sync else 'NORMAL'}")
        self._connection.execute("CREATE TABLE IF NOT EXISTS t(k BLOB PRIMARY KEY, v BLOB) WITHOUT ROWID")

    def commit(self, ops: tuple[Op, ...]) -> None:
        """Write all in one transaction."""
        execute = self._connection.execute
        execute("BEGIN IMMEDIATE")
        for op in ops:
            if type(op) is Put:
                execute("INSERT OR REPLACE INTO t VALUES(?, ?)", op)
            else:
                execute("DELETE FROM t WHERE k = ?", (op[0],))
        execute("COMMIT")

    def last_key(self) -> bytes:
        """Read the last key."""
        (key,) = self._connection.execute("SELECT max(k) FROM t").fetchone()
        return bytes(key)

    def settle(self) -> None:
        """Empty the log into the file."""
        self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close it."""
        self._connection.close()


class _Track(NamedTuple):
    """A recording, and the number of its replays."""

    commits: list[tuple[Op, ...]]
    rounds: int


class Replay:
    """Runs workloads by replaying the writes of the engine."""

    def __init__(self, opener: Callable[[], Raw]) -> None:
        self._opener = opener
        self._store: Raw | None = None
        self._tracks: dict[str, _Track] = {}

    async def open(self) -> None:
        """Open the store."""
        self._store = self._opener()

    async def close(self) -> None:
        """Close the store."""
        self._raw.close()

    @property
    def _raw(self) -> Raw:
        assert self._store is not None, "open the adapter first"
        return self._store

    async def prepare(self, workload: str, name: str, size: int) -> float | None:
        """Record the commits of the engine; return their bytes."""
        length = min(size, RECORDED_STEPS) if workload == "w9" else size
        recording = Recording()
        ours = Ours("commit", Path(), recording)
        await ours.open()
        await ours.prepare(workload, name, length)
        at, visits.at = visits.at, None
        await ours.run(workload, name, length)
        visits.at = at
        track = self._tracks[name] = _Track(recording.commits, max(1, size // length))
        await ours.close()
        return sum(len(op[0]) + len(op[1]) for ops in track.commits for op in ops if type(op) is Put) * (track.rounds)

    async def run(self, workload: str, name: str, size: int) -> None:
        """Write the recording."""
        commit = self._raw.commit
        track = self._tracks.pop(name)
        for ops in track.commits:
            commit(ops)
        for number in range(1, track.rounds):
            for ops in track.commits:
                commit(tuple(_moved(op, number * RECORDED_STEPS) for op in ops))
        if workload in ("w4", "w9"):
            visits(size - 1)

    async def settle(self) -> None:
        """Write all pending data to the store's own file."""
        self._raw.settle()

    async def resume(self, name: str, size: int) -> None:
        """Read the last record, the minimum that any resume must do."""
        del name
        self._raw.last_key()
        visits(size - 1)


def _moved(op: Op, by: int) -> Op:
    """Return the operation with the key of a later step."""
    key = op[0]
    number = int.from_bytes(key[-8:], "big")
    if len(key) < _COUNTED_FROM or number > _NUMBER_MAX:
        return op
    key = key[:-8] + (number + by).to_bytes(8, "big")
    return Put(key, op[1]) if type(op) is Put else Delete(key)
