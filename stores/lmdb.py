"""The store on disk: one LMDB environment in one folder. The only store that survives its process."""

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from stores.base import Durability, Op, StoreClosed
from stores.environment import Environment, enter
from stores.keys import Chunk, walk

__all__ = ["LMDBStore"]

# Address space, not disk: the file grows with what it holds.
MAP_BYTES = 16 << 30 if struct.calcsize("P") == 8 else 1 << 30
BUSY_TIMEOUT_S = 5.0


class LMDBStore:
    """The store in the folder `path`, made (for its owner only) if it is missing.

    Any number of processes of one machine may have it open; commits take turns. Stores of one process
    with the same path share one LMDB environment, so they must agree on `durability`, and the first
    one's `map_size` counts. The map grows when it is full, whoever filled it.

    A process that is frozen inside a commit keeps all others from committing: they raise `StoreBusy`
    after `busy_timeout` seconds, having written nothing, until it wakes or dies. A process that dies
    inside a commit leaves nothing of it behind and holds up nobody.

    Not for network file systems. Not across a fork: in the child every call raises `StoreForked`. While
    a store is open, its process must not copy or read `lock.mdb` by other means: that drops its locks.

    With `read_only` the store is only looked at: it must be there, also on a medium or in a folder that cannot be
    written; a commit raises `StoreReadOnly`. Where its lock file cannot be used, no other process may write to it.

    A store whose files are deleted, moved or replaced while it is open raises `StoreGone`, at the latest after a tenth
    of a second, and from each commit. After a write that failed (`StoreFailed`) the store is opened again by itself.

    Raises `StoreReadOnly`, `StoreFull`, `StoreDamaged` or `StoreFormat` if the path cannot be made or is no store,
    and `ValueError` if this process has it open with another durability.
    """

    def __init__(
        self,
        path: str | os.PathLike[str],
        *,
        durability: Durability = "commit",
        map_size: int = MAP_BYTES,
        busy_timeout: float = BUSY_TIMEOUT_S,
        read_only: bool = False,
    ) -> None:
        if durability not in get_args(Durability):
            raise ValueError(f"durability {durability!r}: give one of {', '.join(get_args(Durability))}")
        if map_size <= 0 or busy_timeout <= 0:
            raise ValueError(f"map_size {map_size!r}, busy_timeout {busy_timeout!r}: both must be above 0")
        self.path = str(Path(path).resolve())
        self.durability: Durability = durability
        self.busy_timeout = busy_timeout
        self._closing = threading.Lock()
        self._environment: Environment | None = enter(self.path, durability, map_size, read_only=read_only)

    @property
    def shared(self) -> bool:
        """Whether another live process has this path open, by this class or by lmdb itself.

        Exact on Linux; elsewhere always `True`.
        """
        return self._open().shared

    @property
    def private(self) -> bool:
        """Always `False`: any process of this machine may open the path."""
        return False

    @property
    def folder(self) -> Path:
        """The store's folder; files of other names than `data.mdb` and `lock.mdb` may lie there, too."""
        return Path(self.path)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or `None`."""
        return self._open().get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` of the keys with this prefix, in key order; see `Store.scan`."""
        self._open()
        return walk(self._chunk, prefix, start=start, reverse=reverse, limit=limit)

    def commit(self, *ops: Op) -> None:
        """Do all of `ops` in one transaction, or none and raise; see `Store.commit`.

        While another process has the path open the transaction runs on a thread of the environment,
        else on the caller's. A commit that raised `StoreBusy` will not land later.
        """
        self._open().commit(ops, self.busy_timeout)

    def compact(self) -> tuple[int, int]:
        """Rewrite the file without its free pages; return its size in bytes before and after.

        It never shrinks otherwise. This needs room on the disk for what is in use, and the store for itself: it
        raises `StoreInUse`, a `StoreBusy`, if another process has it open or this one has more than once; opens that
        come meanwhile wait for a while. A crash at any moment leaves the file as it was or as it is then, and at
        most a folder `compact.tmp`, which the next `compact` removes.
        """
        return self._open().compact(self.busy_timeout)

    def copy(self, folder: str | os.PathLike[str]) -> None:
        """Copy the store as of now into an empty folder, beside all who write to it. The copy is a store as well."""
        self._open().copy(str(folder))

    def close(self) -> None:
        """Give the path back. Idempotent; every later call raises `StoreClosed`."""
        with self._closing:  # two threads must not give it back twice
            environment, self._environment = self._environment, None
        if environment is not None:
            environment.leave(self.busy_timeout)

    def _open(self) -> Environment:
        environment = self._environment  # read once: another thread may close the store
        if environment is None:
            raise StoreClosed(self.path)
        return environment

    def _chunk(self, prefix: bytes, position: bytes | None, skip: bool, reverse: bool, count: int) -> Chunk:  # noqa: FBT001  # the shape of ReadChunk
        return self._open().chunk(prefix, position, skip, reverse, count)
