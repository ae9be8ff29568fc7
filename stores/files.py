"""The files of an LMDB environment: creates them, opens them, and notices if other files replace them."""

import contextlib
import errno
import os
from collections.abc import Iterator
from pathlib import Path

import lmdb
from lmdb.verify import VerifyError, verify

from stores import pages
from stores.base import StoreDamaged, StoreFormat, StoreReadOnly
from stores.lmdb_errors import explain, explain_system
from stores.lock_file import LockFile
from stores.rewriting import PATIENCE_S, gate_held_alone, passing_the_gate

__all__ = ["Files", "open_environment", "open_files"]

_LOOKS_MAX = 100  # attempts to read a file that other processes write to
READERS_MAX = 510  # simultaneous read transactions of all processes; each process has at most one


class Files:
    """An open environment with its lock file."""

    def __init__(self, path: str, raw: "lmdb.Environment", lock: LockFile | None) -> None:
        self.raw = raw
        """LMDB's handle."""
        self.lock = lock
        """The lock file; `None` if the environment is read without one."""
        self._path = Path(path) / "data.mdb"
        self._data = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        status = os.fstat(self._data)
        self._inode: tuple[int, int] | None = (status.st_dev, status.st_ino)

    @property
    def is_deleted(self) -> bool:
        """Whether the data file has been deleted. Cheap enough for each commit."""
        return not os.fstat(self._data).st_nlink

    @property
    def are_in_place(self) -> bool:
        """Whether these files are still at the path; they may have been deleted, moved or replaced."""
        return self._inode_now() == self._inode and (self.lock is None or not self.lock.is_deleted)

    @property
    def held_elsewhere(self) -> bool:
        """Whether another live process has the environment open; `True` if that is unknown."""
        return self.lock is None or self.lock.held_elsewhere

    def close(self) -> None:
        """Close the environment, then the lock file: the other order would drop this process's locks. Idempotent."""
        self.raw.close()
        if self.lock is not None:
            self.lock.close()
        if self._data >= 0:
            os.close(self._data)
            self._data = -1

    def _inode_now(self) -> tuple[int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_dev, status.st_ino


def open_environment(path: str, map_size: int, *, sync: bool, read_only: bool = False) -> Files:
    """Open the environment in the folder `path`, and create it unless it is `read_only`.

    Raises `StoreReadOnly`, `StoreFull`, `StoreDamaged`, `StoreFormat`, `StoreInUse`, or `ValueError` if this process
    has it open without this package.
    """
    folder = Path(path)
    if not read_only:
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        except FileExistsError as error:
            raise StoreReadOnly(path, "it is a file, and a store is a folder") from error
        except OSError as error:
            raise explain_system(path, error.errno, str(error)) from error
        _clear_interrupted_creation(path)
    with passing_the_gate(path):
        return open_files(path, map_size, sync=sync, read_only=read_only)


def open_files(path: str, map_size: int, *, sync: bool, read_only: bool = False) -> Files:
    """Open an environment whose folder exists, like `open_environment`. The caller must have passed the gate."""
    folder = Path(path)
    _check_pages(path)
    if read_only:
        return _open_to_read(path, map_size)
    raw = _open(path, map_size, sync=sync)
    try:
        raw.reader_check()  # frees the pages and slots of killed readers
        _mend_length(folder, raw)
        return Files(path, raw, LockFile(folder))
    except OSError as error:
        raw.close()
        raise explain_system(path, error.errno, str(error)) from error
    except lmdb.Error as error:
        raw.close()
        raise explain(path, error) from error
    except StoreDamaged:
        raw.close()
        raise


def _open_to_read(path: str, map_size: int) -> Files:
    """Open an environment to read it, without a lock file if that cannot be used."""
    folder = Path(path)
    lock: LockFile | None = None
    try:
        raw = _open(path, map_size, sync=True, readonly=True)
        with contextlib.suppress(OSError):  # on a read-only file system LMDB uses no lock file
            lock = LockFile(folder)
    except StoreReadOnly:
        raw = _open(path, map_size, sync=True, readonly=True, lock=False)
    opened = Files(path, raw, lock)
    try:
        _check_length(folder, raw)
    except StoreDamaged:
        opened.close()
        raise
    return opened


def _open(path: str, map_size: int, *, sync: bool, readonly: bool = False, lock: bool = True) -> "lmdb.Environment":
    try:
        return lmdb.open(
            path,
            map_size=map_size,
            create=False,  # the folder was created above, with its own mode
            mode=0o600,
            sync=sync,
            readonly=readonly,
            lock=lock,
            max_readers=READERS_MAX,
            max_spare_txns=1,  # the last read transaction is kept, reset, for the next one
        )
    except OSError as error:  # there is no file
        raise explain_system(path, error.errno, str(error)) from error
    except lmdb.Error as error:
        if error.code == 0:
            raise ValueError(f"{error} LMDB allows that once: close it there, or use that store") from error
        raise explain(path, error) from error


@contextlib.contextmanager
def _data_file(path: str) -> Iterator[int | None]:
    """Open the data file to read it. Yield `None` if it is missing or unreadable: LMDB will report why."""
    try:
        fd = os.open(Path(path) / "data.mdb", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        yield None
        return
    try:
        yield fd
    finally:
        os.close(fd)


def _clear_interrupted_creation(path: str) -> None:
    """Truncate a file whose creation was interrupted, so that LMDB creates it. It holds no data; LMDB refuses it."""
    with _data_file(path) as fd:
        if fd is None or not _is_cut_at_birth(fd):
            return
    # With exclusive access: another process may be creating it at this moment.
    with gate_held_alone(path, PATIENCE_S), _data_file(path) as fd:
        if fd is None or not _is_cut_at_birth(fd):
            return
        try:
            os.truncate(Path(path) / "data.mdb", 0)
        except OSError as error:
            raise explain_system(path, error.errno, str(error)) from error


def _is_cut_at_birth(fd: int) -> bool:
    try:
        return pages.is_cut_at_birth(fd)
    except IsADirectoryError:  # LMDB refuses it
        return False


def _check_pages(path: str) -> None:
    """Refuse a file at which LMDB would end the process. A small file is verified whole, others in part."""
    with _data_file(path) as fd:
        if fd is None:
            return
        try:
            fault = pages.at_rest(fd, lambda: pages.find_fault(fd) or _fault_of_small_file(path, fd), _LOOKS_MAX)
        except OSError as error:
            if error.errno == errno.EISDIR:  # LMDB refuses it
                return
            raise explain_system(path, error.errno, str(error)) from error
    if fault is not None and fault.is_format:
        raise StoreFormat(path, fault.detail)
    if fault is not None:
        raise StoreDamaged(path, fault.detail)


def _fault_of_small_file(path: str, fd: int) -> pages.Fault | None:
    if os.fstat(fd).st_size > pages.PAGES_MAX * pages.PAGE_BYTES:
        return None
    try:
        findings: list[str] = verify(path)  # type: ignore[no-untyped-call]  # lmdb has types, this module none
    except VerifyError:  # not a file of LMDB, which LMDB will report
        return None
    return pages.Fault("; ".join(findings[:3])) if findings else None


def _check_length(folder: Path, opened: "lmdb.Environment") -> int:
    """Refuse a file that was cut off, as by a power loss. If only free pages are missing, return the full length.

    LMDB trusts its file: reading a page beyond the end raises SIGBUS, and a page of zeroes fails an assertion that
    ends the process. A sound file may be short, too, by pages that were allocated and never used. The verifier of
    py-lmdb, which reads the file without LMDB, distinguishes the two.
    """
    length: int = (opened.info()["last_pgno"] + 1) * opened.stat()["psize"]
    if (folder / "data.mdb").stat().st_size >= length:
        return 0
    try:
        findings: list[str] = verify(str(folder))  # type: ignore[no-untyped-call]  # lmdb has types, this module none
    except VerifyError as error:
        findings = [str(error)]
    if findings:
        raise StoreDamaged(str(folder), f"the file was cut off: {'; '.join(findings[:3])}")
    return length


def _mend_length(folder: Path, opened: "lmdb.Environment") -> None:
    """Extend a sound file that is too short to its full length."""
    length = _check_length(folder, opened)
    if not length or not hasattr(os, "posix_fallocate"):
        return  # macOS: missing pages are never read before they are written, but each open verifies the file
    fd = os.open(folder / "data.mdb", os.O_RDWR | os.O_CLOEXEC)
    try:
        # This never shortens the file, so another process may extend it at the same time.
        os.posix_fallocate(fd, length - 1, 1)
    finally:
        os.close(fd)
