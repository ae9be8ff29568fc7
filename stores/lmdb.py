"""The store on disk: one LMDB environment in one folder. Its records survive the process."""

import os
import struct
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

from stores.base import Durability, Op, StoreClosed
from stores.environment import Environment, enter
from stores.keys import Chunk, scan_chunks

__all__ = ["LMDBStore"]

# Address space, not disk: the file grows with its content.
MAP_BYTES = 16 << 30 if struct.calcsize("P") == 8 else 1 << 30
BUSY_TIMEOUT_S = 5.0


class LMDBStore:
    """The store in the folder `path`, which is created (for its owner only) if it is missing.

    Any number of processes of one machine may have it open; their commits take turns. Stores of one process with the
    same path share one LMDB environment, so they must have the same `durability`, and the `map_size` of the first one
    is used. The map grows when it is full, whichever process filled it.

    A process that is frozen inside a commit keeps all others from committing: until it wakes or dies, they raise
    `StoreBusy` after `busy_timeout` seconds and write nothing. A process that dies inside a commit leaves no part of
    it behind and blocks no other process.

    Network file systems are not supported. Neither is a fork: in the child every call raises `StoreForked`. While a
    store is open, its process must not open `lock.mdb` in any other way, such as to copy it: that drops its locks.

    With `read_only` the store must exist, and a commit raises `StoreReadOnly`. The store may be on a medium or in a
    folder that cannot be written. If its lock file cannot be used, no other process may write to it.

    If the files are deleted, moved or replaced while the store is open, reads raise `StoreGone` after at most a tenth
    of a second, and every commit raises it at once. After a failed write (`StoreFailed`) the store reopens itself.

    Attributes:
        path: The absolute path of the folder.
        durability: See `stores.base`.
        busy_timeout: How many seconds a commit waits for the writer lock.

    Raises `StoreReadOnly`, `StoreFull`, `StoreDamaged` or `StoreFormat` if the path cannot be created or is not a
    store, and `ValueError` if this process has it open with another durability.
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
        """Whether another live process has this path open, with this class or with lmdb itself.

        Exact on Linux; always `True` on other systems.
        """
        return self._open().shared

    @property
    def private(self) -> bool:
        """Always `False`: any process of this machine may open the path."""
        return False

    @property
    def folder(self) -> Path:
        """The store's folder. It may contain files other than `data.mdb` and `lock.mdb`."""
        return Path(self.path)

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or `None`."""
        return self._open().get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` for the keys with this prefix, in key order; see `Store.scan`."""
        self._open()
        return scan_chunks(self._chunk, prefix, start=start, reverse=reverse, limit=limit)

    def commit(self, *ops: Op) -> None:
        """Apply all of `ops` in one transaction, or raise and apply none; see `Store.commit`.

        While another process has the path open, the transaction runs on a thread of the environment, and on the
        caller's thread if not. A commit that raised `StoreBusy` is never made later.
        """
        self._open().commit(ops, self.busy_timeout)

    def compact(self) -> tuple[int, int]:
        """Rewrite the file without its free pages; return its size in bytes before and after.

        The file never shrinks in any other way. This needs disk space for the pages in use, and exclusive access: it
        raises `StoreInUse`, a `StoreBusy`, if another process has the store open, or this process has it open more
        than once. Opens during the rewrite wait for a while. A crash at any moment leaves the old file or the new
        one, and at most a folder `compact.tmp`, which the next `compact` deletes.
        """
        return self._open().compact(self.busy_timeout)

    def copy(self, folder: str | os.PathLike[str]) -> None:
        """Copy the current state into an empty folder, while other processes may write. The copy is a store, too."""
        self._open().copy(str(folder))

    def close(self) -> None:
        """Close the store. Idempotent; every later call of another method raises `StoreClosed`."""
        with self._closing:  # two threads must not close it twice
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
