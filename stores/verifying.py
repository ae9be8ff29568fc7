"""Verification of a whole file: every page, by the verifier of py-lmdb, which reads the file without LMDB."""

import os
from pathlib import Path
from tempfile import TemporaryDirectory

from lmdb.verify import VerifyError, verify

from stores import pages
from stores.base import StoreDamaged, StoreFormat
from stores.lmdb import LMDBStore

__all__ = ["find_damage"]

_TRIES = 3  # while other processes write


def find_damage(path: str | os.PathLike[str]) -> list[str]:
    """Return the faults of the file of the store at `path`; an empty list if every page is sound.

    Other processes may write meanwhile. If they commit during every attempt, a copy is verified, which takes as much
    disk space as the file. Raises `StoreDamaged` if the file is not one of LMDB's, `StoreFormat` if it has another
    format, and `OSError`.
    """
    fd = os.open(Path(path) / "data.mdb", os.O_RDONLY | os.O_CLOEXEC)
    try:
        findings = pages.at_rest(fd, lambda: _find(str(path), fd), _TRIES)
    finally:
        os.close(fd)
    if findings is not None:
        return findings
    store = LMDBStore(path, read_only=True)
    try:
        with TemporaryDirectory() as folder:
            store.copy(folder)
            return list(verify(folder))  # type: ignore[no-untyped-call]  # lmdb has types, this module none
    finally:
        store.close()


def _find(path: str, fd: int) -> list[str]:
    if os.fstat(fd).st_size == 0 or pages.is_cut_at_birth(fd):
        return []  # never written; the next open creates it
    fault = pages.find_fault(fd)
    if fault is not None and fault.is_format:
        raise StoreFormat(path, fault.detail)
    try:
        findings = list(verify(path))  # type: ignore[no-untyped-call]  # as above
    except VerifyError as error:
        if fault is None:
            raise StoreDamaged(path, str(error)) from error
        findings = [str(error)]
    return findings if fault is None or findings else [fault.detail]
