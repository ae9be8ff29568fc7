"""Rewriting a store's file without its free pages, while no other process has it open.

LMDB never returns space to the disk: it keeps free pages for later writes. So the pages in use are copied to a file
beside it, which then replaces it by one rename. A crash leaves either the old file or the new one, complete.

Two locks exclude other processes meanwhile. The *gate* is a lock on the folder. Each open by this package shares it
until LMDB has the file open, so a process that holds it exclusively knows that no other open is under way. And a write
lock on the byte by which LMDB counts its processes makes every open, including those by lmdb itself, wait until the
new file is in place.
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

PATIENCE_S = 5.0  # for an open while the file is being rewritten
_LOOK_AGAIN_S = 0.01
_TEMPORARY = "compact.tmp"


@contextmanager
def passing_the_gate(path: str) -> Iterator[None]:
    """Share the gate, so that the body can open the files. Raises `StoreInUse` if a rewrite takes too long."""
    with _gate(path) as gate:
        until = monotonic() + PATIENCE_S
        while not _try_lock(gate, fcntl.LOCK_SH):
            if monotonic() > until:
                raise StoreInUse(path, "another process is just compacting it")
            sleep(_LOOK_AGAIN_S)
        yield


@contextmanager
def gate_held_alone(path: str, patience_s: float = 0.0) -> Iterator[None]:
    """Hold the gate exclusively, so that no other process opens `path`. Raises `StoreInUse` after `patience_s`."""
    with _gate(path) as gate:
        until = monotonic() + patience_s
        while not _try_lock(gate, fcntl.LOCK_EX):
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


def _try_lock(gate: int, kind: int) -> bool:
    try:
        fcntl.flock(gate, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def rewrite(raw: "lmdb.Environment", path: str) -> tuple[int, int]:
    """Replace the file that `raw` has open by one without free pages; return the size of both.

    Requires the gate, no other process in the environment, and no open transaction. Afterwards `raw` still has the old
    file, and may only be closed. If this raises a `StoreError`, the file is unchanged.
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
    shutil.rmtree(temporary, ignore_errors=True)  # left by a crash
    temporary.mkdir(mode=0o700)
    try:
        copy = temporary / "data.mdb"
        raw.copy(str(temporary), compact=True)
        copy.chmod(file.stat().st_mode & 0o777)
        _sync(copy)  # before the rename: the file of that name must always be complete
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
