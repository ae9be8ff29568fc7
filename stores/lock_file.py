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

# File locks keep two processes apart. All that needs them takes `fcntl` from here, so one sentence covers it.
try:
    import fcntl
except ModuleNotFoundError as error:
    raise ImportError(
        f"engines and stores run on Linux and macOS: this Python, on {sys.platform}, has no module fcntl (file locks); "
        "on Windows, use WSL",
        name="fcntl",
    ) from error

__all__ = ["exclude_others", "fcntl", "held_elsewhere", "let_others_in", "open_lock_file", "spoil"]

# struct flock: type, whence, start, length, pid. Elsewhere it has another shape, or LMDB other locks.
KNOWN = sys.platform == "linux" and struct.calcsize("P") == 8
if KNOWN:
    _QUESTION = struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, 0, 1, 0)
    _NOBODY = struct.pack("h", fcntl.F_UNLCK)


def open_lock_file(path: str) -> int:
    """Open the lock file of the environment at `path`, which this process must have open already.

    Close the descriptor after the environment, never before: closing any descriptor of a file drops
    all POSIX locks that the process has on it, LMDB's among them.
    """
    return os.open(Path(path) / "lock.mdb", os.O_RDWR | os.O_CLOEXEC)


def held_elsewhere(lock_fd: int) -> bool:
    """Whether another live process has the environment open. `True` where that can't be found out."""
    if not KNOWN:
        return True
    try:
        return fcntl.fcntl(lock_fd, fcntl.F_GETLK, _QUESTION)[:2] != _NOBODY
    except OSError:  # a file system without locks
        return True


def exclude_others(lock_fd: int) -> bool:
    """Make every other process that opens the environment wait; `False`, and nothing is done, if one has it open."""
    try:
        fcntl.lockf(lock_fd, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)  # in the place of LMDB's lock, which is this process's
    except OSError:
        return False
    return True


def let_others_in(lock_fd: int) -> None:
    """Undo `exclude_others`, and have the environment open as before."""
    fcntl.lockf(lock_fd, fcntl.LOCK_SH, 1)


def spoil(lock_fd: int) -> None:
    """Make the lock file none, just before its environment is closed for good: the next open makes it anew.

    It holds the number of the last transaction, and another data file has another one. Who was made to wait takes
    the lock file for valid; such a process must be refused (`MDB_INVALID`) rather than write over what it missed.
    """
    os.pwrite(lock_fd, bytes(4), 0)  # the magic number
