"""The store in memory: the whole contract except durability. For tests, and for runs that may be lost."""

import threading
from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator
from itertools import chain, islice
from pathlib import Path

from stores.base import Check, Conflict, Delete, Op, Put, StoreClosed
from stores.keys import CHUNK_BYTES, KEY_BYTES_MAX, Chunk, check_key, check_value, scan_chunks

__all__ = ["MemoryStore"]


class MemoryStore:
    """A store that exists as long as its object.

    A commit changes a dict only. The next scan updates the key order, once for all commits before it: keys in growing
    order cost almost nothing, other keys O(log n) each.

    Attributes:
        path: Always `:memory:`.
        shared: Always false.
        private: Always true.
        folder: Always `None`.
    """

    path = ":memory:"
    shared = False
    private = True
    folder: Path | None = None

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._values: dict[bytes, bytes] = {}
        self._order = _SortedKeys()
        self._unsorted: set[bytes] = set()  # keys added or deleted since `_order` was updated
        self._closed = False

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key`, or `None`."""
        check_key(key)
        with self._lock:  # a reader must not see half of a commit
            if self._closed:
                raise StoreClosed(self.path)
            return self._values.get(key)

    def scan(
        self, prefix: bytes, *, start: bytes | None = None, reverse: bool = False, limit: int | None = None
    ) -> Iterator[tuple[bytes, bytes]]:
        """Yield `(key, value)` for the keys with this prefix, in key order; see `Store.scan`."""
        if self._closed:
            raise StoreClosed(self.path)
        return scan_chunks(self._chunk, prefix, start=start, reverse=reverse, limit=limit)

    def commit(self, *ops: Op) -> None:
        """Apply all of `ops`, or raise `Conflict` and apply none; see `Store.commit`."""
        with self._lock:
            if self._closed:
                raise StoreClosed(self.path)
            values = self._values
            for op in ops:  # all errors are raised before the first write
                kind, key = type(op), op[0]
                if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES_MAX:
                    check_key(key)
                if kind is Put:
                    check_value(op[1])  # type: ignore[misc]  # mypy doesn't narrow by `kind`
                elif kind is Check:
                    if values.get(key) != op[1]:  # type: ignore[misc]  # as above
                        raise Conflict(key)
                elif kind is not Delete:
                    raise TypeError(f"a commit is made of Put, Delete and Check, not {op!r}")
            self._write(ops)

    def close(self) -> None:
        """Delete all records. Idempotent; every later call of another method raises `StoreClosed`."""
        with self._lock:
            self._closed = True
            self._values = {}
            self._order = _SortedKeys()
            self._unsorted = set()

    def _write(self, ops: Iterable[Op]) -> None:
        values = self._values
        for op in ops:
            if type(op) is Put:
                key, value = op
                if key not in values:
                    self._unsorted.add(key)
                values[key] = value if type(value) is bytes else bytes(value)
            elif type(op) is Delete and values.pop(op.key, None) is not None:
                self._unsorted.add(op.key)

    def _chunk(self, prefix: bytes, position: bytes | None, skip: bool, reverse: bool, count: int) -> Chunk:  # noqa: FBT001  # the shape of ReadChunk
        with self._lock:
            if self._closed:
                raise StoreClosed(self.path)
            if self._unsorted:
                self._order.settle(self._unsorted, self._values)
                self._unsorted = set()
            order = self._order
            keys = order.down(position, skip=skip) if reverse else order.up(position or b"", skip=skip)
            items: list[tuple[bytes, bytes]] = []
            size = 0
            for key in keys:
                if not key.startswith(prefix):
                    return items, True
                value = self._values[key]
                items.append((key, value))
                size += len(value)
                if len(items) >= count or size >= CHUNK_BYTES:
                    return items, False
            return items, True


class _SortedKeys:
    """Distinct keys in order, in blocks: an insertion moves one block's tail, never the whole list."""

    __slots__ = ("_blocks", "_lasts")

    BLOCK = 512

    def __init__(self) -> None:
        self._blocks: list[list[bytes]] = []
        self._lasts: list[bytes] = []  # the last key of each block

    def settle(self, touched: set[bytes], present: dict[bytes, bytes]) -> None:
        """Update the keys to those of `present`, which differ in `touched` at most."""
        if len(touched) * 4 > len(present):
            keys = sorted(present)
            self._blocks = [keys[i : i + self.BLOCK] for i in range(0, len(keys), self.BLOCK)]
            self._lasts = [block[-1] for block in self._blocks]
            return
        for key in sorted(touched):
            if key in present:
                self._add(key)
            else:
                self._discard(key)

    def up(self, position: bytes, *, skip: bool) -> Iterator[bytes]:
        """Iterate the keys from `position` on, upward."""
        at = bisect_left(self._lasts, position)
        if at == len(self._blocks):
            return iter(())
        block = self._blocks[at]
        first = bisect_right(block, position) if skip else bisect_left(block, position)
        return chain(islice(block, first, None), chain.from_iterable(islice(self._blocks, at + 1, None)))

    def down(self, position: bytes | None, *, skip: bool) -> Iterator[bytes]:
        """Iterate the keys from `position` on, downward; from the last one if it is `None`."""
        at = len(self._blocks) if position is None else bisect_left(self._lasts, position)
        if position is not None and at < len(self._blocks):
            block = self._blocks[at]
            end = bisect_left(block, position) if skip else bisect_right(block, position)
            yield from reversed(block[:end])
        for index in range(at - 1, -1, -1):
            yield from reversed(self._blocks[index])

    def _add(self, key: bytes) -> None:
        if not self._blocks:
            self._blocks, self._lasts = [[key]], [key]
            return
        at = min(bisect_left(self._lasts, key), len(self._blocks) - 1)
        block = self._blocks[at]
        index = bisect_left(block, key)
        if index < len(block) and block[index] == key:
            return
        insort(block, key)
        if len(block) > 2 * self.BLOCK:
            self._blocks.insert(at + 1, block[self.BLOCK :])
            self._lasts.insert(at + 1, block[-1])
            del block[self.BLOCK :]
        self._lasts[at] = block[-1]

    def _discard(self, key: bytes) -> None:
        at = bisect_left(self._lasts, key)
        if at == len(self._blocks):
            return
        block = self._blocks[at]
        index = bisect_left(block, key)
        if block[index] != key:
            return
        del block[index]
        if block:
            self._lasts[at] = block[-1]
        else:
            del self._blocks[at], self._lasts[at]
