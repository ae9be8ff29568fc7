"""Stores for the engine: `MemoryStore` and `LMDBStore`, both with the contract of `stores.base`.

`LMDBStore` is imported when it is first named: a program that stays in memory never loads lmdb.
"""

from typing import TYPE_CHECKING

from stores.base import (
    Check,
    Conflict,
    Delete,
    Durability,
    Op,
    Put,
    Store,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreFailed,
    StoreForked,
    StoreFormat,
    StoreFull,
    StoreGone,
    StoreInUse,
    StoreReadOnly,
)
from stores.memory import MemoryStore

if TYPE_CHECKING:
    from stores.lmdb import LMDBStore

__all__ = [
    "Check",
    "Conflict",
    "Delete",
    "Durability",
    "LMDBStore",
    "MemoryStore",
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


def __getattr__(name: str) -> type:
    if name != "LMDBStore":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from stores.lmdb import LMDBStore as Late  # noqa: PLC0415  # late on purpose: see above

    globals()[name] = Late
    return Late


def __dir__() -> list[str]:
    return __all__
