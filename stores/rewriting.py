"""Rewriting a store's file without its free pages, while nobody else has it open.

LMDB never gives room back: pages that became free are kept for what comes. So the pages in use are copied to a
file beside it, which then takes its place by one rename; a crash leaves the one file or the other, whole.

Two locks keep others out meanwhile. The *gate* is a lock on the folder, shared by each open of ours until LMDB has
the file open: who holds it alone knows that nobody is on the way in. And on the byte by which LMDB counts its
processes, a lock for writing makes every open, also one by lmdb itself, wait until the file is the new one.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic, sleep

import lmdb

from stores.base import StoreInUse
from stores.lmdb_errors import explain, explain_system
from stores.lock_file import fcntl

__all__ = ["PATIENCE_S", "gate_held_alone", "passing_the_gate", "rewrite"]

PATIENCE_S = 5.0  # of an open that finds the file being rewritten
_LOOK_AGAIN_S = 0.01
_TEMPORARY = "compact.tmp"


@contextmanager
def passing_the_gate(path: str) -> Iterator[None]:
    """Open the files of `path` within. Raises `StoreInUse` if another process rewrites them for long."""
    with _gate(path) as gate:
        until = monotonic() + PATIENCE_S
        while not _taken(gate, fcntl.LOCK_SH):
            if monotonic() > until:
                raise StoreInUse(path, "another process is just compacting it")
            sleep(_LOOK_AGAIN_S)
        yield


@contextmanager
def gate_held_alone(path: str, patience_s: float = 0.0) -> Iterator[None]:
    """Let nobody else open `path` within. Raises `StoreInUse` if another process is doing it for so long."""
    with _gate(path) as gate:
        until = monotonic() + patience_s
        while not _taken(gate, fcntl.LOCK_EX):
            if monotonic() >= until:
                raise StoreInUse(path, "another process is just opening or compacting it")
            sleep(_LOOK_AGAIN_S)
        yield


@contextmanager
def _gate(path: str) -> Iterator[int]:
    try:
        gate = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise explain_system(path, error.errno, str(error)) from error
    try:
        yield gate
    finally:
        fcntl.flock(gate, fcntl.LOCK_UN)  # closing alone would leave it to a child that was forked meanwhile
        os.close(gate)


def _taken(gate: int, kind: int) -> bool:
    try:
        fcntl.flock(gate, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def rewrite(raw: "lmdb.Environment", path: str) -> tuple[int, int]:
    """Put a file that has no free pages in the place of the one that `raw` has open, which is left behind.

    Return the size of both. Needs the gate, no other process in the environment and no transaction; from now on `raw`
    may only be closed. Raises a `StoreError`, with the file as it was.
    """
    folder = Path(path)
    temporary, file = folder / _TEMPORARY, folder / "data.mdb"
    before = file.stat().st_size
    try:
        _rewrite(raw, temporary, file)
    except lmdb.Error as error:
        raise explain(path, error, "writing", before) from error
    except OSError as error:
        raise explain_system(path, error.errno, str(error), "writing") from error
    return before, file.stat().st_size


def _rewrite(raw: "lmdb.Environment", temporary: Path, file: Path) -> None:
    shutil.rmtree(temporary, ignore_errors=True)  # what a crash has left
    temporary.mkdir(mode=0o700)
    try:
        copy = temporary / "data.mdb"
        raw.copy(str(temporary), compact=True)
        copy.chmod(file.stat().st_mode & 0o777)
        _sync(copy)  # before it has the name: the name must never lead to less than all of it
        copy.replace(file)
        _sync(file.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
