"""Translation of the errors of LMDB and of the system to those of a store."""

import errno
import os
import resource
from pathlib import Path

import lmdb

from stores.base import StoreDamaged, StoreError, StoreFailed, StoreFormat, StoreFull, StoreReadOnly

__all__ = ["explain", "explain_system"]

_FULL = frozenset((errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.ENOMEM))
_FULL_KINDS = (lmdb.MapFullError, lmdb.TxnFullError, lmdb.ReadersFullError)
_FAILED = frozenset((errno.EIO, errno.ENXIO, errno.ESTALE, errno.ETIMEDOUT))  # errors of the device
_SLACK_BYTES = 1 << 20  # room for the other writes of a commit: pages of the tree, the list of free pages


def explain(path: str, error: lmdb.Error, action: str = "reading", room_bytes: int = 0) -> StoreError | ValueError:
    """Return the exception for `error`, which occurred during `action` at `path` while writing about `room_bytes`."""
    if isinstance(error, lmdb.BadValsizeError):
        return ValueError(f"a key has at most 511 bytes and a value less than 4 GiB: {error}")
    if isinstance(error, _FULL_KINDS):
        return StoreFull(path, str(error))
    if error.code == errno.EIO and _lacks_room(Path(path), room_bytes + _SLACK_BYTES):
        # If the disk becomes full in the middle of a write, LMDB reports it as a defect of the disk.
        return StoreFull(path, f"{error}: a write was cut short")
    if isinstance(error, lmdb.VersionMismatchError):
        return StoreFormat(path, str(error))
    if isinstance(error, lmdb.PanicError):
        return StoreFailed(path, action, f"an earlier write has failed ({error})")
    return explain_system(path, error.code, str(error), action)


def explain_system(path: str, code: int | None, detail: str, action: str = "opening") -> StoreError:
    """Return the exception for an error `code` of the system during `action`. Codes of LMDB are negative."""
    if code in _FULL:
        return StoreFull(path, detail)
    if code in _FAILED:
        return StoreFailed(path, action, f"{errno.errorcode[code]} ({detail})")
    if code is not None and code > 0:
        return StoreReadOnly(path, detail)
    return StoreDamaged(path, detail)


def _lacks_room(folder: Path, room_bytes: int) -> bool:
    try:
        disk = os.statvfs(folder)
        size = (folder / "data.mdb").stat().st_size
    except OSError:
        return False
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    left_by_limit = room_bytes if limit == resource.RLIM_INFINITY else limit - size
    return min(disk.f_bavail * disk.f_frsize, left_by_limit) < room_bytes
