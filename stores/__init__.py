"""Stores for the engine: `MemoryStore` and `LMDBStore`, both with the contract of `stores.base`."""

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
    StoreForked,
    StoreFull,
    StoreReadOnly,
)

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
    "StoreForked",
    "StoreFull",
    "StoreReadOnly",
]
