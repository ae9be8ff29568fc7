"""The files of an LMDB environment: made, opened, and told apart."""

import contextlib
import os
from pathlib import Path

import lmdb
from lmdb.verify import verify

from stores.base import StoreDamaged, StoreReadOnly
from stores.lmdb_errors import explain, explain_system
from stores.lock_file import open_lock_file
from stores.rewriting import passing_the_gate

__all__ = ["inode", "open_environment", "open_files"]

READERS_MAX = 510  # read transactions at one moment, of all processes; each process has one at most


def open_environment(path: str, map_size: int, *, sync: bool) -> tuple["lmdb.Environment", int]:
    """Open, or make, the environment in the folder `path`. Return it with a descriptor of its lock file.

    Close the descriptor after the environment. Raises `StoreReadOnly`, `StoreFull`, `StoreDamaged`, `StoreInUse`,
    or `ValueError` if this process has it open by other means.
    """
    folder = Path(path)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except FileExistsError as error:
        raise StoreReadOnly(path, "it is a file, and a store is a folder") from error
    except OSError as error:
        raise explain_system(path, error.errno, str(error)) from error
    with passing_the_gate(path):
        return open_files(path, map_size, sync=sync)


def open_files(path: str, map_size: int, *, sync: bool) -> tuple["lmdb.Environment", int]:
    """Open an environment whose folder is there, as `open_environment`, for one who is through the gate."""
    folder = Path(path)
    opened = _open(path, map_size, sync=sync)
    try:
        opened.reader_check()  # frees what killed readers hold: the pages they saw, and their slots
        _mend_length(folder, opened)
        return opened, open_lock_file(path)
    except OSError as error:
        opened.close()
        raise explain_system(path, error.errno, str(error)) from error
    except lmdb.Error as error:
        opened.close()
        raise explain(path, error) from error
    except StoreDamaged:
        opened.close()
        raise


def inode(path: str) -> tuple[int, int] | None:
    """Return what tells this environment's file from one deleted and made anew at the same path."""
    with contextlib.suppress(OSError):
        status = (Path(path) / "data.mdb").stat()
        return status.st_dev, status.st_ino
    return None


def _open(path: str, map_size: int, *, sync: bool) -> "lmdb.Environment":
    try:
        return lmdb.open(
            path,
            map_size=map_size,
            create=False,  # the folder, that is: it was made above, with a mode of its own
            mode=0o600,
            sync=sync,
            max_readers=READERS_MAX,
            max_spare_txns=1,  # the last read transaction is kept, reset, for the next one
        )
    except lmdb.Error as error:
        if error.code == 0:
            raise ValueError(f"{error} LMDB allows that once: close it there, or use that store") from error
        raise explain(path, error) from error


def _mend_length(folder: Path, opened: "lmdb.Environment") -> None:
    """Refuse a file that was cut off, as by a power loss.

    LMDB trusts its file: reading a page beyond the end is SIGBUS, and a page of zeroes an assertion that
    ends the process. A sound file may be short too, by pages that were taken and never needed. py-lmdb's
    verifier, which reads the file without LMDB, tells the two apart; a sound one is given its length.
    """
    length = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
    file = folder / "data.mdb"
    if file.stat().st_size >= length:
        return
    findings: list[str] = verify(str(folder))  # type: ignore[no-untyped-call]  # lmdb has types, this module none
    if findings:
        raise StoreDamaged(str(folder), f"the file was cut off: {'; '.join(findings[:3])}")
    if not hasattr(os, "posix_fallocate"):
        return  # macOS: the pages that lack are not read before they are written; only, each open verifies
    fd = os.open(file, os.O_RDWR | os.O_CLOEXEC)
    try:
        # It never shortens, so it is harmless if another process extends the file at the same time.
        os.posix_fallocate(fd, length - 1, 1)
    finally:
        os.close(fd)
