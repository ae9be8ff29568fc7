"""One open LMDB environment, shared by all stores of this process that opened its path.

LMDB's locks belong to (process, file): a second environment on the same files would share them with
the first, and closing either would drop them. So a process has one environment per path, and counts its users.

The environment has two locks of its own, always taken in this order:

- the *turn*: held during each write transaction, and by a begin that is stuck behind a frozen process;
- the *reads*: held during each read transaction. A thread that holds both may replace or close the map.
"""

import mmap
import os
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from time import monotonic, sleep

import lmdb

from stores import files, rewriting
from stores.base import (
    Durability,
    Op,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreError,
    StoreForked,
    StoreFull,
    StoreGone,
    StoreInUse,
    StoreReadOnly,
)
from stores.keys import KEY_BYTES_MAX, Chunk, check_key
from stores.lmdb_errors import explain
from stores.transactions import apply, read_chunk, size_of
from stores.writer import Writer, await_begin

__all__ = ["Environment", "enter"]

LOOK_S = 0.1  # interval of checks that the files are in place, while nothing is written
GROWTHS_MAX = 64  # doublings in one commit: more than an address space allows
REOPENS_MAX = 1000  # after a compaction, a millisecond apart
READ_PATIENCE_S = 5.0  # for a read that needs a larger map, while a commit is stuck

_registry: dict[str, "Environment"] = {}
_registry_lock = threading.RLock()
_alive: "weakref.WeakSet[Environment]" = weakref.WeakSet()  # including environments whose files were deleted


def enter(path: str, durability: Durability, map_size: int, *, read_only: bool = False) -> "Environment":
    """Return this process's environment of `path`; open it if necessary. Each `enter` needs one `leave`."""
    with _registry_lock:
        known = _registry.get(path)
        if known is not None and known.is_in_place:
            known.join(durability, read_only=read_only)
            return known
        opened = _registry[path] = Environment(path, durability, map_size, read_only=read_only)
        return opened


class Environment:
    """The transactions of one path. Safe to use from several threads; refuses to work in a forked child."""

    def __init__(self, path: str, durability: Durability, map_size: int, *, read_only: bool) -> None:
        self.path, self.durability, self.read_only = path, durability, read_only
        self._users = 1
        self._turn = threading.Lock()
        self._reads = threading.Lock()
        self._handed_over: Future[None] | None = None  # the job on the writer thread that holds the turn
        self._writer = Writer(self._work_off)
        self._gone: Callable[[], StoreError] = partial(StoreClosed, path)
        self._files = files.open_environment(path, map_size, sync=durability != "none", read_only=read_only)
        self._raw: lmdb.Environment | None = self._files.raw
        self._look_at, self._is_lost = monotonic() + LOOK_S, False  # when to check that the files are in place
        self._inherited: lmdb.Environment | None = None
        _alive.add(self)

    # ---- users: the caller of `join` holds the registry's lock

    @property
    def is_in_place(self) -> bool:
        """Whether the files that were opened are still at the path; they may have been deleted or replaced."""
        with self._reads:
            return not self._is_lost and self._files.are_in_place

    def join(self, durability: Durability, *, read_only: bool) -> None:
        """Count one more user."""
        with self._reads:
            if self._raw is None:
                raise self._gone()
        if not read_only and self.read_only:
            raise ValueError(f"store {self.path!r} is open in this process to read only: close it first")
        if not read_only and durability != self.durability:
            raise ValueError(
                f"store {self.path!r} is open in this process with durability {self.durability!r}, "
                f"not {durability!r}: use that, or close it first"
            )
        self._users += 1

    def leave(self, patience: float) -> None:
        """Count one user less. The last user closes the environment, after a commit that is under way."""
        with _registry_lock:
            if self._inherited is not None:
                return  # the parent closes it
            self._users -= 1
            # Unmapping under a begin that waits for LMDB's mutex would crash: its thread closes afterwards.
            while not self._users and not self._stuck():
                if self._turn.acquire(timeout=patience):
                    self._shut()
                    self._turn.release()
                    return

    def disown(self) -> None:
        """Disable this copy in a forked child, without side effects on the parent."""
        # Keep it open: closing would release locks and memory that the parent's threads use.
        self._inherited, self._raw = self._inherited or self._raw, None
        self._gone = partial(StoreForked, self.path)
        self._turn, self._reads = threading.Lock(), threading.Lock()

    def _shut(self) -> None:
        """Close everything. Needs the registry's lock and the turn."""
        with self._reads:
            self._files.close()
            self._raw = None
        self._writer.end()
        if _registry.get(self.path) is self:
            del _registry[self.path]

    # ---- reading

    @property
    def shared(self) -> bool:
        """Whether another live process has the environment open."""
        with self._reads:
            if self._raw is None:
                raise self._gone()
            return self._files.held_elsewhere

    def _look(self) -> None:
        """Raise `StoreGone` if the path has other files now, or none: no later open would find the writes."""
        if self._is_lost or not self._files.are_in_place:
            self._is_lost, self._look_at = True, float("-inf")  # permanent: writes made meanwhile are not at the path
            raise StoreGone(self.path)
        self._look_at = monotonic() + LOOK_S

    def get(self, key: bytes) -> bytes | None:
        """Return the value of `key` as it is now, or `None`."""
        if type(key) is not bytes or not 0 < len(key) <= KEY_BYTES_MAX:
            check_key(key)
        while True:
            try:
                with self._reads:
                    if self._raw is None:
                        raise self._gone()
                    if monotonic() > self._look_at:
                        self._look()
                    with self._raw.begin() as txn:
                        return txn.get(key)
            except lmdb.Error as error:
                self._mend_read(error)

    def chunk(self, prefix: bytes, position: bytes | None, skip: bool, reverse: bool, count: int) -> Chunk:  # noqa: FBT001  # the shape of ReadChunk
        """Read the next items of a scan as of now; see `stores.keys.ReadChunk`."""
        while True:
            try:
                with self._reads:
                    if self._raw is None:
                        raise self._gone()
                    if monotonic() > self._look_at:
                        self._look()
                    with self._raw.begin() as txn:
                        return read_chunk(txn.cursor(), prefix, position, count, skip=skip, reverse=reverse)
            except lmdb.Error as error:
                self._mend_read(error)

    def _mend_read(self, error: lmdb.Error) -> None:
        """Return if the read may succeed when repeated. If not, raise the store's error for `error`."""
        if isinstance(error, lmdb.MapResizedError | lmdb.PanicError):
            self._take_turn(READ_PATIENCE_S)
            try:
                if isinstance(error, lmdb.PanicError):
                    self._open_again()
                else:
                    self._remap(0)
            finally:
                self._turn.release()
            return
        if isinstance(error, lmdb.ReadersFullError):
            with self._reads:
                if self._raw is not None and self._raw.reader_check():
                    return
        raise explain(self.path, error) from error

    # ---- writing

    def commit(self, ops: tuple[Op, ...], patience: float) -> None:
        """Apply all of `ops` in one transaction; wait at most `patience` seconds until it can begin."""
        if self.read_only:
            raise StoreReadOnly(self.path, "it was opened to read only")
        if not self._turn.acquire(blocking=False):
            self._take_turn(patience)
        outcome: Future[None] | None = None
        try:
            if self._raw is None:
                raise self._gone()
            if self._files.held_elsewhere:
                outcome = self._hand_over(ops)
            else:
                self._transact(ops)
        finally:
            if outcome is None:
                self._turn.release()
        if outcome is not None:
            await_begin(outcome, self.path, patience)

    def _take_turn(self, patience: float) -> None:
        """Take the turn. Wait for any commit of this process, but not for a stuck begin: raise `StoreBusy` then."""
        until = monotonic() + patience
        while not self._turn.acquire(timeout=max(0.0, until - monotonic())):
            if self._stuck():
                raise StoreBusy(self.path, patience)
            until = monotonic() + patience

    def _stuck(self) -> bool:
        """Return whether the turn is held by a begin whose caller has given up."""
        outcome = self._handed_over
        return outcome is not None and outcome.cancelled()

    def _hand_over(self, ops: tuple[Op, ...]) -> "Future[None]":
        """Pass the turn and `ops` to the writer thread: another process may block the begin forever."""
        outcome: Future[None] = Future()
        self._handed_over = outcome
        self._writer.give(ops, outcome)
        return outcome

    def _work_off(self, ops: tuple[Op, ...], outcome: "Future[None]") -> None:
        """Run a job on the writer thread, with the turn that its caller had taken."""
        failure: BaseException | None = None
        try:
            self._transact(ops, outcome.set_running_or_notify_cancel)
        except BaseException as error:  # noqa: BLE001  # raised to the caller, which waits for it
            failure = error
        abandoned = outcome.cancelled() or not (outcome.running() or outcome.set_running_or_notify_cancel())
        if abandoned:
            with _registry_lock:  # the last user may have left meanwhile; then this thread closes the environment
                if not self._users:
                    self._shut()
        self._handed_over = None
        self._turn.release()  # before the caller continues: it may commit again at once
        if failure is not None and not abandoned:
            outcome.set_exception(failure)
        elif not abandoned:
            outcome.set_result(None)

    def _transact(self, ops: tuple[Op, ...], claim: Callable[[], bool] | None = None) -> None:
        """Run the transaction, and grow the map as needed. If `claim` returns false after the begin, write nothing."""
        for _ in range(GROWTHS_MAX):
            if self._raw is None:
                raise self._gone()
            if monotonic() > self._look_at:
                self._look()
            try:
                txn = self._raw.begin(write=True)
                if claim is not None:
                    if not claim():
                        txn.abort()
                        return
                    claim = None
                apply(txn, ops)
            except lmdb.MapFullError:
                self._grow()
            except lmdb.MapResizedError:
                self._remap(0)  # another process has grown it
            except lmdb.PanicError:
                self._open_again()
            except lmdb.Error as error:
                raise explain(self.path, error, "writing", size_of(ops)) from error
            else:
                if self._files.is_deleted:  # no other process could read the commit
                    self._look()
                return
        raise StoreFull(self.path, f"the map is too small even after {GROWTHS_MAX} doublings")

    def _grow(self) -> None:
        assert self._raw is not None  # a transaction has just ended on it
        size = 2 * self._raw.info()["map_size"]
        try:
            # LMDB releases the old map before it requests the new one, so check first.
            mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=0).close()
        except (OSError, OverflowError) as error:
            raise StoreFull(self.path, f"no address space for a map of {size} bytes: {error}") from error
        self._remap(size)

    def _remap(self, size: int) -> None:
        """Replace the map; `0` means the size that another process has set. Requires the turn."""
        with self._reads:
            if self._raw is None:
                raise self._gone()
            try:
                self._raw.set_mapsize(size)
            except lmdb.Error as error:
                self._raw.close()
                self._raw = None
                self._gone = partial(StoreFull, self.path, str(error))
                raise self._gone() from error

    # ---- copying and compacting

    def copy(self, folder: str) -> None:
        """Copy the current data file into a folder; see `LMDBStore.copy`."""
        with self._reads:
            if self._raw is None:
                raise self._gone()
            try:
                self._raw.copy(folder)
            except lmdb.Error as error:
                raise explain(self.path, error, "copying") from error

    def compact(self, patience: float) -> tuple[int, int]:
        """Rewrite the file without its free pages, with exclusive access; return its size before and after."""
        with _registry_lock:  # so no other thread of this process opens it
            if self._raw is None:
                raise self._gone()
            if self.read_only:
                raise StoreReadOnly(self.path, "it was opened to read only")
            if self._users > 1:
                raise StoreInUse(self.path, "this process has opened it more than once")
            self._take_turn(patience)
            try:
                self._look()  # raises if the file at the path is not this store any more
                with self._reads, rewriting.gate_held_alone(self.path):
                    return self._compact()
            finally:
                self._turn.release()

    def _compact(self) -> tuple[int, int]:
        """Rewrite the file and open it. Requires all locks, and the gate."""
        if self._raw is None:
            raise self._gone()
        lock = self._files.lock
        if lock is None or not lock.exclude_others():
            raise StoreInUse(self.path, "another process has it open")
        map_size = self._raw.info()["map_size"]
        try:
            return rewriting.rewrite(self._raw, self.path)
        finally:
            if self._files.are_in_place:  # the rewrite has failed
                lock.let_others_in()
            else:
                lock.spoil()
                self._reopen(map_size)

    # ---- reopening: with all locks, and without an open transaction

    def _open_again(self) -> None:
        """Reopen the environment after a failed write: LMDB begins no more transactions in it. Requires the turn."""
        with self._reads:
            if self._raw is None:
                raise self._gone()
            try:
                self._raw.begin().abort()
            except lmdb.PanicError:
                self._look()
                with rewriting.passing_the_gate(self.path):
                    self._reopen(self._raw.info()["map_size"])

    def _reopen(self, map_size: int) -> None:
        """Close the open files, and open those at the path. Requires the gate."""
        self._files.close()
        self._raw = None
        for left in reversed(range(REOPENS_MAX)):
            try:
                self._files = files.open_files(
                    self.path, map_size, sync=self.durability != "none", read_only=self.read_only
                )
                break
            except StoreError as error:
                # A program that uses lmdb directly, and is refused for the invalid lock file, delays its repair.
                if left and isinstance(error, StoreDamaged):
                    sleep(0.001)
                    continue
                self._gone = partial(type(error), *error.args)
                _registry.pop(self.path, None)
                raise
        self._raw = self._files.raw


def _after_fork_in_child() -> None:
    global _registry_lock  # noqa: PLW0603  # another thread of the parent may have held it
    _registry_lock = threading.RLock()
    for environment in list(_alive):
        environment.disown()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
