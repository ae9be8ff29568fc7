"""Stores: ordered bytes and atomic conditional commits. The ground of the house; no word of graphs here.

A store maps byte keys to byte values, in key order. All writing is one verb, `commit`: every check
holds and every write lands, or nothing does. What a store promises beyond that is its *durability*:

| durability | acknowledged means | lost by a process crash | lost by a power loss      |
|------------|--------------------|-------------------------|---------------------------|
| `commit`   | written and synced | nothing                 | nothing                   |
| `batch`    | written and synced | nothing                 | nothing                   |
| `none`     | written            | nothing                 | the file may be unusable, |
|            |                    |                         | which a full read reports |

(`commit` and `batch` differ above the store: in `batch` the engine works ahead of its commits.)
"""

# the names say what happened to the store, and are part of its face

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
    """Require that a key has exactly this value before the commit's own writes. Otherwise nothing is written.

    Attributes:
        key: The key.
        expected: The required value; `None` requires that the key is absent.
    """

    key: bytes
    expected: bytes | None


Op: TypeAlias = Put | Delete | Check


class Store(Protocol):
    """What the engine needs of a store. Safe to call from several threads."""

    @property
    def shared(self) -> bool:
        """Whether another live process has this store open now, so that a commit may have to wait for it."""
        ...

    @property
    def private(self) -> bool:
        """Whether no other process can ever see this store, which ends with this process."""
        ...

    @property
    def folder(self) -> Path | None:
        """The folder in which its users on this machine keep lock files; `None` if it has none."""
        ...

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or `None`."""
        ...

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` of the keys with this prefix, in key order.

        `start` skips keys before it (after it, if `reverse`). A scan sees each key as of some moment
        between the call and the yield; no transaction is held open between two yields.
        """
        ...

    def commit(self, *ops: Op) -> None:
        """Do all of `ops` atomically. All checks are made first, against the state before this commit.

        Raises `Conflict` if a check fails (nothing is written), `StoreFull`, `StoreReadOnly`, `StoreBusy`,
        `StoreDamaged`, `StoreFailed`, `StoreGone`, `StoreForked`, `StoreClosed`; `ValueError` for a key of no or more
        than 511 bytes.
        """
        ...

    def close(self) -> None:
        """Release everything. Idempotent; every later call raises `StoreClosed`."""
        ...


class StoreError(Exception):
    """Root of what a store raises.

    StoreError
    ├── Conflict        a check failed; nothing was written
    ├── StoreBusy       the writer lock is held by another process for too long
    │   └── StoreInUse  open elsewhere, where one must have it alone
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
    """A `Check` failed, so nothing was written. `key` is the key that did not hold."""

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"the store's record {self.key!r} is not what the commit expected: read it again and retry"


class StoreBusy(StoreError):
    """Another process has held the writer lock of `path` for `seconds`."""

    def __init__(self, path: str, seconds: float) -> None:
        super().__init__(path, seconds)
        self.path, self.seconds = path, seconds

    def __str__(self) -> str:
        return (
            f"store {self.path!r}: another process has held the writer lock for {self.seconds:g} s; "
            "it may be frozen inside a commit: wake it or end it, then try again"
        )


class StoreInUse(StoreBusy):
    """The store at `path` cannot be had alone, or is had alone by another process; `detail` says how."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, 0.0)
        self.args = (path, detail)
        self.detail = detail

    def __str__(self) -> str:
        return f"store {self.path!r} is in use: {self.detail}; try again once that has ended"


class StoreClosed(StoreError):
    """The store at `path` was closed."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return f"store {self.path!r} is closed: open it again"


class StoreDamaged(StoreError):
    """The file at `path` is not a readable store; `detail` is what its reader said."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return f"store {self.path!r} is damaged: {self.detail}; restore a copy of it"


class StoreFailed(StoreError):
    """The system failed to `action` the store at `path`; `detail` is its error.

    Of a commit nothing is to be relied on: it counts as not made, and what was committed before is kept.
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
    """The store at `path` was open in the parent when this process was forked; LMDB cannot be inherited."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"store {self.path!r} was opened before a fork: "
            "close it before forking and open it on either side, or start the child by spawn"
        )


class StoreFormat(StoreError):
    """The file at `path` has a format that the installed LMDB does not read; `detail` names it."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return (
            f"store {self.path!r} cannot be read by the installed LMDB: {self.detail}; "
            "open it with the release of the package lmdb that wrote it"
        )


class StoreFull(StoreError):
    """The store at `path` has no room; `detail` is what the system said. Nothing was written."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return f"store {self.path!r} is full: {self.detail}; nothing was written; free room and try again"


class StoreGone(StoreError):
    """The files of the store at `path` were deleted, moved or replaced while it was open."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self.path = path

    def __str__(self) -> str:
        return (
            f"store {self.path!r}: its file is gone: it was deleted, moved or replaced while it was open; "
            "nothing more is written: put the files back and open it again, or open a new store"
        )


class StoreReadOnly(StoreError):
    """The store at `path` cannot be written; `detail` is what the system said."""

    def __init__(self, path: str, detail: str) -> None:
        super().__init__(path, detail)
        self.path, self.detail = path, detail

    def __str__(self) -> str:
        return f"store {self.path!r} cannot be written: {self.detail}; give write permission or another path"
