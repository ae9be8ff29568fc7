"""Recent: what was decoded of stored records that never change, kept for the runs to come."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["BYTES_MOST", "DecodedCache"]

BYTES_MOST = 32 * 1024 * 1024  # of the encoded records


class DecodedCache:
    """What runs have in common, by key. The least recently used goes first; the one in use stays, however large.

    Runs share what is kept here: each has to copy what could be changed.
    """

    def __init__(self, bytes_most: int = BYTES_MOST) -> None:
        self._bytes_most = bytes_most
        self._kept: OrderedDict[Hashable, Any] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._size = 0

    def entry(self, key: Hashable, make: Callable[[], Any]) -> Any:
        """Return what is kept under a key; if nothing is, make it."""
        if key not in self._kept:
            self._kept[key] = make()
            self._sizes[key] = 0
        self._kept.move_to_end(key)
        return self._kept[key]

    def grew(self, key: Hashable, size: int) -> None:
        """Count what was added to the entry that is in use; let others go for it."""
        self._sizes[key] += size
        self._size += size
        while self._size > self._bytes_most and len(self._kept) > 1:
            oldest, _ = self._kept.popitem(last=False)
            self._size -= self._sizes.pop(oldest)
