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

if sys.platform == "linux":
    import fcntl

__all__ = ["held_elsewhere", "open_lock_file"]

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
    return os.open(Path(path) / "lock.mdb", os.O_RDONLY | os.O_CLOEXEC)


def held_elsewhere(lock_fd: int) -> bool:
    """Whether another live process has the environment open. `True` where that can't be found out."""
    if not KNOWN:
        return True
    try:
        return fcntl.fcntl(lock_fd, fcntl.F_GETLK, _QUESTION)[:2] != _NOBODY
    except OSError:  # a file system without locks
        return True
