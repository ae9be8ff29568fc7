"""The work inside one LMDB transaction: the checks and writes of a commit, and the next items of a scan."""

from collections.abc import Iterable

import lmdb

from stores.base import Check, Conflict, Delete, Op, Put
from stores.keys import CHUNK_BYTES, KEY_BYTES_MAX, Chunk, check_key

__all__ = ["apply", "read_chunk", "size_of"]


def apply(txn: "lmdb.Transaction[bytes]", ops: Iterable[Op]) -> None:
    """Make all checks, then all writes, then commit. Abort on any error."""
    try:
        _check(txn, ops)
        _write(txn, ops)
        txn.commit()
    except BaseException:
        txn.abort()
        raise


def size_of(ops: Iterable[Op]) -> int:
    """Return how many bytes `ops` would store."""
    return sum(len(op.key) + len(op.value) for op in ops if type(op) is Put)


def read_chunk(
    cursor: "lmdb.Cursor[bytes]",
    prefix: bytes,
    position: bytes | None,
    count: int,
    *,
    skip: bool,
    reverse: bool,
) -> Chunk:
    """Return the next items of a scan; see `stores.keys.ReadChunk`."""
    found = (_seek_down if reverse else _seek_up)(cursor, position, skip=skip)
    if not found:
        return [], True
    items: list[tuple[bytes, bytes]] = []
    size = 0
    for item in cursor.iterprev() if reverse else cursor.iternext():
        if not item[0].startswith(prefix):
            return items, True
        items.append(item)
        size += len(item[1])
        if len(items) >= count or size >= CHUNK_BYTES:
            return items, False
    return items, True


def _check(txn: "lmdb.Transaction[bytes]", ops: Iterable[Op]) -> None:
    for op in ops:
        key = op[0]
        if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES_MAX:
            check_key(key)
        if type(op) is Check and txn.get(key) != op[1]:
            raise Conflict(key)


def _write(txn: "lmdb.Transaction[bytes]", ops: Iterable[Op]) -> None:
    for op in ops:
        if type(op) is Put:
            txn.put(op[0], op[1])
        elif type(op) is Delete:
            txn.delete(op[0])
        elif type(op) is not Check:
            raise TypeError(f"a commit is made of Put, Delete and Check, not {op!r}")


def _seek_up(cursor: "lmdb.Cursor[bytes]", position: bytes | None, *, skip: bool) -> bool:
    found = cursor.set_range(position) if position else cursor.first()
    return cursor.next() if found and skip and cursor.key() == position else found


def _seek_down(cursor: "lmdb.Cursor[bytes]", position: bytes | None, *, skip: bool) -> bool:
    if position is None:
        return cursor.last()
    if not position:
        return False  # nothing is below the empty key
    if not cursor.set_range(position):
        return cursor.last()
    return cursor.prev() if skip or cursor.key() != position else True
