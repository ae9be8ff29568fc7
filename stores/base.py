"""Stores: ordered bytes and atomic conditional commits. They know nothing of graphs.

A store maps byte keys to byte values, in key order. `commit` is the only way to write: either every check holds and
every write is made, or nothing is written. Beyond that, the *durability* of a store says how safe a commit is:

| durability | acknowledged means | lost by a process crash | lost by a power loss      |
|------------|--------------------|-------------------------|---------------------------|
| `commit`   | written and synced | nothing                 | nothing                   |
| `batch`    | written and synced | nothing                 | nothing                   |
| `none`     | written            | nothing                 | the file may be unusable, |
|            |                    |                         | which a full read reports |

(`commit` and `batch` differ in the engine: in `batch` it works ahead of its commits.)
"""

# The errors are named by their cause, without a suffix: the names are public.

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal, NamedTuple, Protocol, TypeAlias

__all__ = [
    "Check",
    "Conflict",
    "Delete",
    "Durability",
    "Op",
    "Put",
    "Store",
    "StoreBusy",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreFailed",
    "StoreForked",
    "StoreFormat",
    "StoreFull",
    "StoreGone",
    "StoreInUse",
    "StoreReadOnly",
]

Durability: TypeAlias = Literal["commit", "batch", "none"]


class Put(NamedTuple):
    """Write a value under a key, replacing any earlier value.

    Attributes:
        key: The key, 1 to 511 bytes.
        value: The value.
    """

    key: bytes
    value: bytes


class Delete(NamedTuple):
    """Remove a key. A missing key is not an error.

    Attributes:
        key: The key.
    """

    key: bytes


class Check(NamedTuple):
    """Require that a key has exactly this value before the commit's own writes. If it differs, nothing is written.

    Attributes:
        key: The key.
        expected: The required value; `None` requires that the key is absent.
    """

    key: bytes
    expected: bytes | None


Op: TypeAlias = Put | Delete | Check


class Store(Protocol):
    """The interface of all stores. Its methods may be called from several threads."""

    @property
    def shared(self) -> bool:
        """Whether another live process has this store open now. A commit may then have to wait for that process."""
        ...

    @property
    def private(self) -> bool:
        """Whether this store exists only in this process."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder for lock files of the processes on this machine that use the store; `None` if there is none."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or `None`."""
        ...

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` for the keys with this prefix, in key order.

        `start` skips keys before it (after it, if `reverse`). Each item is as of some moment between the call and the
        yield; no transaction is open between two yields. For example, `scan(b"S", reverse=True, limit=1)` yields the
        last item whose key begins with `S`.
        """
        ...

    def commit(self, *ops: Op) -> None:
        """Apply all of `ops` atomically. All checks are made first, against the state before this commit.

        For example, `commit(Check(key, None), Put(key, value))` creates a key, and raises `Conflict` if it exists.

        Raises `Conflict` if a check fails (nothing is written), `StoreFull`, `StoreReadOnly`, `StoreBusy`,
        `StoreDamaged`, `StoreFailed`, `StoreGone`, `StoreForked`, `StoreClosed`; `ValueError` for a key that is
        empty or has more than 511 bytes.
        """
        ...

    def close(self) -> None:
        """Release all resources. Idempotent; every later call of another method raises `StoreClosed`."""
        ...


class StoreError(Exception):
    """Base class of the errors of stores.

    StoreError
    ├── Conflict        a check failed; nothing was written
    ├── StoreBusy       the writer lock is held by another process for too long
    │   └── StoreInUse  open elsewhere, while exclusive access is needed
    ├── StoreClosed     used after close
    ├── StoreDamaged    the file is not a readable store
    ├── StoreFailed     the system failed to read or write; the file may well be sound
    ├── StoreForked     used in a forked child
    ├── StoreFormat     the file has a format that the installed library does not read
    ├── StoreFull       the disk, or the map, has no room
    ├── StoreGone       the files were deleted or replaced while the store was open
    └── StoreReadOnly   the path cannot be written
    """


class Conflict(StoreError):
    """A `Check` failed, so nothing was written.

    Attributes:
        key: The key whose value differs from the expected one.
    """

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the store's record {self.key!r} is not what the commit expected: read it again and retry"


class StoreBusy(StoreError):
    """Another process has held the writer lock for too long.

    Attributes:
        path: The store's folder.
        seconds: How long the commit has waited.
    """

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(path, seconds)
        self.path, self.seconds = path, seconds

    def __str__(self) -> str:
        return (
            f"store {self.path!r}: another process has held the writer lock for {self.seconds:g} s; "
            "it may be frozen inside a commit: wake it or end it, then try again"
        )


class StoreInUse(StoreBusy):
    """The store cannot be used exclusively, or another process uses it exclusively.

    Attributes:
        path: The store's folder.
        seconds: Always 0.
        detail: Who uses the store.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, 0.0)
        self.args = (path, detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"store {self.path!r} is in use: {self.detail}; try again once that has ended"


class StoreClosed(StoreError):
    """The store was closed.

    Attributes:
        path: The store's folder.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"store {self.path!r} is closed: open it again"


class StoreDamaged(StoreError):
    """The file is not a readable store.

    Attributes:
        path: The store's folder.
        detail: The damage, as the reader of the file reports it.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return f"store {self.path!r} is damaged: {self.detail}; restore a copy of it"


class StoreFailed(StoreError):
    """The system failed to read or write the store.

    A commit that raises this counts as not made. Earlier commits are kept.

    Attributes:
        path: The store's folder.
        action: What the store was doing, such as `writing`.
        detail: The error of the system.
    """

    def __init__(self, path: str, action: str, detail: str) -> None:
        super().__init__(path, action, detail)
        self.path, self.action, self.detail = path, action, detail

    def __str__(self) -> str:
        return (
            f"store {self.path!r}: {self.detail} while {self.action}; what was committed before is kept: "
            "check the disk, then try again"
        )


class StoreForked(StoreError):
    """The store was open in the parent when this process was forked. LMDB cannot be inherited.

    Attributes:
        path: The store's folder.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"store {self.path!r} was opened before a fork: "
            "close it before forking and open it on either side, or start the child by spawn"
        )


class StoreFormat(StoreError):
    """The file has a format that the installed LMDB does not read.

    Attributes:
        path: The store's folder.
        detail: The format.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return (
            f"store {self.path!r} cannot be read by the installed LMDB: {self.detail}; "
            "open it with the release of the package lmdb that wrote it"
        )


class StoreFull(StoreError):
    """The disk or the map has no room. Nothing was written.

    Attributes:
        path: The store's folder.
        detail: The error of the system.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return f"store {self.path!r} is full: {self.detail}; nothing was written; free room and try again"


class StoreGone(StoreError):
    """The files of the store were deleted, moved or replaced while it was open.

    Attributes:
        path: The store's folder.
    """

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"store {self.path!r}: its file is gone: it was deleted, moved or replaced while it was open; "
            "nothing more is written: put the files back and open it again, or open a new store"
        )


class StoreReadOnly(StoreError):
    """The store cannot be written.

    Attributes:
        path: The store's folder.
        detail: The error of the system, or the reason.
    """

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return f"store {self.path!r} cannot be written: {self.detail}; give write permission or another path"
