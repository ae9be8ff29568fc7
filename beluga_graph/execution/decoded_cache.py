"""A cache of decoded records that never change, shared by the runs of one engine."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any

__all__ = ["BYTES_MAX", "DecodedCache"]

BYTES_MAX = 32 * 1024 * 1024  # of encoded records


class DecodedCache:
    """Decoded objects by key, shared by all runs: a caller must copy any part that can be changed.

    When the cache is full, the least recently used entry is dropped. The entry in use stays, however large it is.
    """

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._entries: OrderedDict[Hashable, Any] = OrderedDict()
        self._sizes: dict[Hashable, int] = {}
        self._size = 0

    def get_or_create(self, key: Hashable, create: Callable[[], Any]) -> Any:
        """Return the entry of a key, created if it does not exist."""
        if key not in self._entries:
            self._entries[key] = create()
            self._sizes[key] = 0
        self._entries.move_to_end(key)
        return self._entries[key]

    def add_size(self, key: Hashable, size: int) -> None:
        """Count bytes added to the entry used last, and drop other entries to make room."""
        self._sizes[key] += size
        self._size += size
        while self._size > self._bytes_max and len(self._entries) > 1:
            oldest, _ = self._entries.popitem(last=False)
            self._size -= self._sizes.pop(oldest)
