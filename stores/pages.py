"""Pages of an LMDB file, checked without LMDB before LMDB opens the file.

LMDB trusts its file: at a damaged page it reads beyond the end of the map, or an assertion ends the process. So each
open checks the meta pages and, level by level, the first pages of both trees: a bounded number, however large the file
is. Only `verify` and the open of a small file check every page.
"""

from __future__ import annotations

import os
import struct
from collections import deque
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

__all__ = ["PAGES_MAX", "PAGE_BYTES", "Fault", "at_rest", "find_fault", "is_cut_at_birth"]

T = TypeVar("T")

PAGES_MAX = 64  # read by one check
FORMAT = 1  # of LMDB 0.9; files of other formats are left to LMDB
PAGE_BYTES = 4096  # the usual size
_PAGE_BYTES_MAX = 0x8000
_BIRTH_BYTES_MAX = 3 * PAGE_BYTES
_MAGIC = 0xBEEFC0DE
_NONE = (1 << 64) - 1  # as a page number: an empty tree
_DEPTH_MAX = 32

_BRANCH, _LEAF, _OVERFLOW, _META = 0x01, 0x02, 0x04, 0x08
_IS_LARGE, _IS_OTHER = 0x01, 0x06  # flags of a node: its value has its own pages; it is not a plain value

_HEADER = struct.Struct("=QHHHH")  # number, unused, flags, begin and end of the free space
_OVERFLOW_HEADER = struct.Struct("=QHHI")  # number, unused, flags, pages
_NODE = struct.Struct("=HHHH")  # low and high half of the value's size (or of a child's number), flags, size of the key
_NUMBER = struct.Struct("=Q")
_TREE = "IHHQQQQQ"  # page size (of the first tree), flags, depth, branches, leaves, overflow pages, entries, root
_META_PAGE = struct.Struct("=QHHI" + "IIQQ" + _TREE + _TREE + "QQ")


class Fault(NamedTuple):
    """A fault of a file."""

    detail: str
    is_format: bool = False
    """Whether the file is of another format, rather than damaged."""


class _Meta(NamedTuple):
    """One of the two meta pages, which commits write in turn."""

    page_bytes: int
    last_page: int
    commit: int
    """Number of the commit that wrote it."""
    trees: tuple[tuple[str, int, int], ...]
    """Name, root and depth of each."""


def _read_metas(fd: int) -> bytes:
    """Return the bytes that each commit changes: if they are equal twice, there was no commit in between."""
    size = _page_bytes(os.pread(fd, _META_PAGE.size, 0))
    return os.pread(fd, _META_PAGE.size, 0) + os.pread(fd, _META_PAGE.size, size)


def at_rest(fd: int, find: Callable[[], T], tries: int) -> T | None:
    """Return the result of `find` for one state of a file, or `None` if other processes commit during each attempt.

    A page may be reused as soon as another commit is made, so a fault that was found during a commit does not count.
    """
    for _ in range(tries):
        before = _read_metas(fd)
        found = find()
        if not found or _read_metas(fd) == before:
            return found
    return None


def find_fault(fd: int) -> Fault | None:
    """Return the first fault among the meta pages and the upper pages of a file, or `None`.

    A file that LMDB itself refuses as foreign has none here.
    """
    return next(_faults_of_file(fd), None)


def is_cut_at_birth(fd: int) -> bool:
    """Return whether the first write to a file, its two meta pages, was interrupted. Such a file never held data.

    It contains the first part of that write; the rest is missing or zeroes.
    """
    size = os.fstat(fd).st_size
    if not 0 < size <= _BIRTH_BYTES_MAX:
        return False
    content = os.pread(fd, size, 0)
    page = _page_bytes(content)
    written = content.rstrip(b"\0")
    if len(content) >= 2 * page and len(written) > page:
        return False  # both were begun; an incomplete second one is damage
    birth = _birth_page(content, page)
    return len(written) <= page and birth.startswith(written)


def _birth_page(content: bytes, page: int) -> bytes:
    """Return the first page as LMDB creates it, with the map size, which is arbitrary, taken from `content`."""
    at = 32  # of the map size
    map_size = _NUMBER.unpack(content[at : at + 8].ljust(8, b"\0"))[0]
    tree = (0, 0, 0, 0, 0, 0, _NONE)
    fields = (0, 0, _META, 0, _MAGIC, FORMAT, 0, map_size, page, 8, *tree[1:], 0, *tree, 1, 0)
    return _META_PAGE.pack(*fields)


def _page_bytes(content: bytes) -> int:
    """Return the page size that a first page names, or the usual one."""
    if len(content) >= _META_PAGE.size:
        size: int = _META_PAGE.unpack_from(content)[8]
        if 0 < size <= _PAGE_BYTES_MAX and size & (size - 1) == 0:
            return size
    return PAGE_BYTES


def _faults_of_file(fd: int) -> Iterator[Fault]:
    first = os.pread(fd, _META_PAGE.size, 0)
    if len(first) < _META_PAGE.size or _META_PAGE.unpack(first)[4] != _MAGIC:
        return  # not a file of LMDB 0.9, which LMDB will report
    page = _page_bytes(first)
    metas: list[_Meta] = []
    for number in (0, 1):
        blob = os.pread(fd, _META_PAGE.size, number * page)
        found = _read_meta(blob, number, page) if len(blob) == _META_PAGE.size else Fault("it ends in its meta pages")
        if isinstance(found, Fault):
            yield found
            return
        metas.append(found)
    older, newer = sorted(metas, key=lambda meta: meta.commit)
    if newer.commit - older.commit > 1 or newer.commit == older.commit > 0:
        yield Fault(f"its meta pages are of commits {older.commit} and {newer.commit}, which do not follow each other")
    yield from _faults_of_trees(fd, newer)


def _read_meta(blob: bytes, number: int, page: int) -> _Meta | Fault:
    fields = _META_PAGE.unpack(blob)
    own, _, flags, _, magic, version = fields[:6]
    free, main, (last_page, commit) = fields[8:16], fields[16:24], fields[24:]
    if magic == _MAGIC and version != FORMAT:
        return Fault(f"its format is {version}", is_format=True)
    if magic != _MAGIC or flags != _META or own != number or free[0] != page:
        return Fault(f"meta page {number} is not a meta page")
    if commit and commit % 2 != number:
        return Fault(f"meta page {number} names commit {commit}, which the other one belongs to")
    trees = ("free pages", free[7], free[2]), ("records", main[7], main[2])
    for name, root, depth in trees:
        if (root == _NONE) != (depth == 0) or depth > _DEPTH_MAX:
            return Fault(f"meta page {number} has a tree of {name} of depth {depth} with root {root}")
    return _Meta(page, last_page, commit, trees)


def _faults_of_trees(fd: int, meta: _Meta) -> Iterator[Fault]:
    """Yield the faults of the first pages of the trees, both roots first."""
    waiting = deque((name, root, depth) for name, root, depth in meta.trees if depth)
    for _ in range(PAGES_MAX):
        if not waiting:
            return
        name, number, depth = waiting.popleft()
        children = _check_page(fd, meta, number, is_leaf=depth == 1)
        if isinstance(children, str):
            yield Fault(f"page {number}, in the tree of {name}, {children}")
            return
        waiting.extend((name, child, depth - 1) for child in children)


def _check_page(fd: int, meta: _Meta, number: int, *, is_leaf: bool) -> list[int] | str:
    """Return the children of a page, or its fault."""
    size = meta.page_bytes
    if not 1 < number <= meta.last_page:
        return f"is not one of the file's {meta.last_page + 1} pages"
    blob = os.pread(fd, size, number * size)
    if len(blob) < size:
        return "is cut off"
    own, _, flags, lower, upper = _HEADER.unpack_from(blob)
    if own != number:
        return f"calls itself page {own}"
    if flags != (_LEAF if is_leaf else _BRANCH):
        return f"is not a {'leaf' if is_leaf else 'branch'} (flags {flags:#x})"
    count = (lower - _HEADER.size) // 2
    if not _HEADER.size < lower <= upper <= size or lower % 2:
        return "has no room for the entries that it names"
    children: list[int] = []
    for at in struct.unpack_from(f"={count}H", blob, _HEADER.size):
        if not upper <= at <= size - _NODE.size:
            return "has an entry that is not within it"
        low, high, node_flags, key_size = _NODE.unpack_from(blob, at)
        end = at + _NODE.size + key_size
        if not is_leaf:
            children.append(low | high << 16 | node_flags << 32)
        elif node_flags & _IS_OTHER:
            return f"has an entry of a kind that no store has (flags {node_flags:#x})"
        elif node_flags & _IS_LARGE:
            problem = end + _NUMBER.size > size or _large(fd, meta, _NUMBER.unpack_from(blob, end)[0], low | high << 16)
            if problem:
                return problem if isinstance(problem, str) else "has an entry that is cut off"
            end = 0
        else:
            end += low | high << 16
        if end > size:
            return "has an entry that is cut off"
    return children


def _large(fd: int, meta: _Meta, number: int, value_bytes: int) -> str:
    """Return the fault of the pages of a large value; an empty text if they are sound."""
    pages = (_HEADER.size - 1 + value_bytes) // meta.page_bytes + 1
    if not 1 < number <= meta.last_page + 1 - pages:
        return f"has a large value at page {number}, which is not one of the file's {meta.last_page + 1} pages"
    header = os.pread(fd, _OVERFLOW_HEADER.size, number * meta.page_bytes)
    if len(header) < _OVERFLOW_HEADER.size or _OVERFLOW_HEADER.unpack(header)[::2] != (number, _OVERFLOW):
        return f"has a large value at page {number}, where none begins"
    if _OVERFLOW_HEADER.unpack(header)[3] != pages:
        return f"has a large value at page {number} of another length"
    return ""
