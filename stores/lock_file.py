"""Whether another process has an LMDB environment open, asked of its lock file.

Each process that has an environment open keeps a POSIX read lock on the first byte of `lock.mdb`, and
the kernel drops it when the process ends, however it ends. So "could I lock that byte for writing?" is
the question. It takes under a microsecond, needs no registration, and sees programs that use LMDB
directly. Locks of one's own process never answer it.
"""

import os
import struct
import sys
from pathlib import Path
from time import monotonic

# File locks keep two processes apart. All that needs them takes `fcntl` from here, so one sentence covers it.
try:
    import fcntl
except ModuleNotFoundError as error:
    raise ImportError(
        f"engines and stores run on Linux and macOS: this Python, on {sys.platform}, has no module fcntl (file locks); "
        "on Windows, use WSL",
        name="fcntl",
    ) from error

__all__ = ["LockFile", "fcntl"]

FRESH_S = 0.001  # how long an answer is good for

# struct flock: type, whence, start, length, pid. Elsewhere it has another shape, or LMDB other locks.
KNOWN = sys.platform == "linux" and struct.calcsize("P") == 8
if KNOWN:
    _QUESTION = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    _NOBODY = struct.pack("h", fcntl.F_UNLCK)


class LockFile:
    """The lock file of an environment that this process has open.

    Close it after the environment, never before: closing any descriptor of a file drops all POSIX locks that the
    process has on it, LMDB's among them.
    """

    def __init__(self, folder: Path) -> None:
        self._fd = os.open(folder / "lock.mdb", os.O_RDWR | os.O_CLOEXEC)
        self._held, self._asked = False, float("-inf")  # the last answer, and when it was given

    @property
    def held_elsewhere(self) -> bool:
        """Whether another live process has the environment open. `True` where that can't be found out.

        Asked at most once a millisecond: a commit just after another question need not ask again.
        """
        now = monotonic()
        if now - self._asked > FRESH_S:
            self._held, self._asked = self._ask(), now
        return self._held

    @property
    def is_deleted(self) -> bool:
        """Whether the file is in no folder any more, or closed: other processes lock another one then."""
        return self._fd < 0 or not os.fstat(self._fd).st_nlink

    def exclude_others(self) -> bool:
        """Make every other process that opens the environment wait; return `False`, doing nothing, if one has it."""
        try:
            fcntl.lockf(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)  # in the place of LMDB's lock, of this process
        except OSError:
            return False
        return True

    def let_others_in(self) -> None:
        """Undo `exclude_others`, and have the environment open as before."""
        fcntl.lockf(self._fd, fcntl.LOCK_SH, 1)

    def spoil(self) -> None:
        """Make the lock file invalid just before its environment is closed for good, so that the next open remakes it.

        It holds the number of the last transaction, and another data file has another one. A process that was made
        to wait takes the lock file for valid; it must be refused (`MDB_INVALID`) rather than write over what it
        missed.
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
