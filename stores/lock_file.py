"""The lock file of an LMDB environment. It shows whether another process has the environment open.

Each process that has an environment open keeps a POSIX read lock on the first byte of `lock.mdb`, and the kernel
releases it when the process ends in any way. So `LockFile` asks the kernel whether it could lock that byte for
writing. This takes under a microsecond, needs no registration, and notices programs that use LMDB directly. Locks of
the calling process do not count.
"""

import os
import struct
import sys
from pathlib import Path
from time import monotonic

# File locks separate processes. All modules import `fcntl` from here, so that there is one error text.
try:
    import fcntl
except ModuleNotFoundError as error:
    raise ImportError(
        f"engines and stores run on Linux and macOS: this Python, on {sys.platform}, has no module fcntl (file locks); "
        "on Windows, use WSL",
        name="fcntl",
    ) from error

__all__ = ["LockFile", "fcntl"]

FRESH_S = 0.001  # how long an answer is reused

# struct flock: type, whence, start, length, pid. On other systems it differs, or LMDB uses other locks.
KNOWN = sys.platform == "linux" and struct.calcsize("P") == 8
if KNOWN:
    _QUESTION = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    _NOBODY = struct.pack("h", fcntl.F_UNLCK)


class LockFile:
    """The lock file of an environment that this process has open.

    Close it after the environment, never before: closing any descriptor of a file drops all POSIX locks that the
    process has on it, including those of LMDB.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CLOEXEC)
        self._held, self._asked = False, float("-inf")  # the last answer, and its time

    @property
    def held_elsewhere(self) -> bool:
        """Whether another live process has the environment open. `True` if that is unknown.

        The kernel is asked at most once a millisecond.
        """
        now = monotonic()
        if now - self._asked > FRESH_S:
            self._held, self._asked = self._ask(), now
        return self._held

    @property
    def is_deleted(self) -> bool:
        """Whether the file was deleted, or is closed. Other processes then lock another file."""
        return self._fd < 0 or not os.fstat(self._fd).st_nlink

    def exclude_others(self) -> bool:
        """Make opens by other processes wait. Return `False`, and do nothing, if another process has it open."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)  # replaces LMDB's lock of this process
        except OSError:
            return False
        return True

    def let_others_in(self) -> None:
        """Undo `exclude_others`: this process has the environment open as before."""
        fcntl.lockf(self._fd, fcntl.LOCK_SH, 1)

    def spoil(self) -> None:
        """Invalidate the lock file just before its environment is closed, so that the next open creates it again.

        The lock file holds the number of the last transaction, which differs in another data file. A process that was
        made to wait considers the lock file valid; it must be refused (`MDB_INVALID`), or it would overwrite commits
        that it has not seen.
        """
        os.pwrite(self._fd, bytes(4), 0)  # the magic number

    def close(self) -> None:
        """Close it. Idempotent."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _ask(self) -> bool:
        if not KNOWN:
            return True
        try:
            return fcntl.fcntl(self._fd, fcntl.F_GETLK, _QUESTION)[:2] != _NOBODY
        except OSError:  # a file system without locks
            return True
