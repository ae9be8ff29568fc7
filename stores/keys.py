"""Keys: their size, their order, and the way in which a scan reads them, in all stores.

A scan reads in chunks, so no transaction and no lock is held while the caller processes an item.
"""

from collections.abc import Callable, Iterator
from typing import TypeAlias

__all__ = ["CHUNK_BYTES", "CHUNK_ITEMS", "KEY_BYTES_MAX", "Chunk", "check_key", "check_value", "scan_chunks"]

KEY_BYTES_MAX = 511  # the limit of LMDB; in memory, too, so that no program works there and fails on disk
CHUNK_ITEMS = 256
CHUNK_BYTES = 1 << 20

Chunk: TypeAlias = tuple[list[tuple[bytes, bytes]], bool]
"""Items in the order of the scan, and whether the scan ends with them."""

ReadChunk: TypeAlias = Callable[[bytes, bytes | None, bool, bool, int], Chunk]
"""`(prefix, position, skip, reverse, count)`: read up to `count` items of `prefix` from `position` on.

`skip` leaves out the key at `position` itself; the position `None` is after the last key.
"""


def check_key(key: bytes) -> None:
    """Raise `TypeError` or `ValueError` for an invalid key."""
    if not isinstance(key, bytes):
        raise TypeError(f"a key is bytes, not {type(key).__name__}: {key!r}")
    if not 0 < len(key) <= KEY_BYTES_MAX:
        raise ValueError(f"a key has 1 to {KEY_BYTES_MAX} bytes, not {len(key)}: shorten {key[:32]!r}")


def check_value(value: object) -> None:
    """Raise `TypeError` unless `value` is bytes or a buffer of them."""
    if not isinstance(value, bytes | bytearray | memoryview):
        raise TypeError(f"a value is bytes, not {type(value).__name__}: {value!r}")


def scan_chunks(
    read_chunk: ReadChunk, prefix: bytes, *, start: bytes | None, reverse: bool, limit: int | None
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the items of `Store.scan`, read chunk by chunk."""
    position, skip = _last_position(prefix, start) if reverse else (max(prefix, start or b""), False)
    left = limit
    while left is None or left > 0:
        count = CHUNK_ITEMS if left is None else min(left, CHUNK_ITEMS)
        items, ended = read_chunk(prefix, position, skip, reverse, count)
        yield from items
        if ended:
            return
        # The next chunk begins by key, so no key is repeated, whatever was written meanwhile.
        position, skip = items[-1][0], True
        if left is not None:
            left -= len(items)


def _last_position(prefix: bytes, start: bytes | None) -> tuple[bytes | None, bool]:
    """Return the position at which a reverse scan begins, and whether to leave out that key itself."""
    end = _successor(prefix)
    if start is not None and (end is None or start < end):
        return start, False
    return end, True


def _successor(prefix: bytes) -> bytes | None:
    """Return the least bytes greater than every key with this prefix; `None` if there are none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes((stem[-1] + 1,)) if stem else None
