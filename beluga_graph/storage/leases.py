"""Leases: the right to advance one run, held by one owner, with an epoch.

An owner is an engine. It lives until its record expires; it renews the record. On one machine it must also hold the
lock on its file: a process id proves nothing. In a store that is private to a process, the process itself knows which
of its owners live. A lease names owner and epoch. Every commit of a run checks the lease, so an owner that has lost it
cannot write, however late it wakes up.

Records are untrusted. The name of a lock file is derived from the owner's id alone. An owner with a malformed record
counts as dead, so the record keeps no other owner out. If that owner lives, its next renewal repairs the record, and
until then the epoch protects its runs.
"""

from __future__ import annotations

import logging
import os
import secrets
import socket
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple
from weakref import WeakValueDictionary

from beluga_graph.clock import SystemClock
from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.records import decode_record, encode_record
from stores.base import Check, Delete, Op, Put, Store, StoreError
from stores.lock_file import fcntl

__all__ = [
    "LEASE_S",
    "Acquisition",
    "FreeLease",
    "Lease",
    "Owner",
    "has_living_owner",
    "is_driven_elsewhere",
    "is_held_elsewhere",
    "is_on_this_machine",
    "owner_is_alive",
    "read_free_lease",
]

LEASE_S = 10.0  # an owner whose last renewal is older counts as dead
RENEW_S = 2.5
_DAY_MS = 86_400_000
_CLOCK = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)  # also counts the time in which the machine sleeps
_ID_BYTES = 16

_log = logging.getLogger("beluga_graph.storage.leases")
# Owners of this process that have begun and not ended, in all stores. Weak: an owner that is garbage does not live.
_living: WeakValueDictionary[bytes, Owner] = WeakValueDictionary()


@dataclass(frozen=True, slots=True)
class Lease:
    """The right to advance one run."""

    owner: bytes
    """Id of the owner that holds it; empty while the lease is free."""
    epoch: int
    """Grows by one with each new holder."""

    def encode(self, key: bytes) -> bytes:
        """Return the lease as a record."""
        return encode_record(key, (self.owner, self.epoch))

    def claim(self, key: bytes) -> Check:
        """Return the condition of every commit of the run: this lease is still in force."""
        return Check(key, self.encode(key))

    @classmethod
    def decode(cls, key: bytes, blob: bytes) -> Lease:
        """Return the lease from its record. Raises `DamagedRecord`."""
        return cls(*decode_record(key, blob))


class FreeLease(NamedTuple):
    """A lease that no other living owner holds, as it was read."""

    lease: Lease
    """Its owner is empty if it was given back."""
    record: bytes | None
    """The stored record, if there is one."""
    dead: Check | None = None
    """The condition that the former owner has not come back: a frozen process may wake up and renew its record."""


class Acquisition(NamedTuple):
    """The authority of the first commit that an owner makes in a run: the commit takes the lease.

    Every later commit of that owner claims the lease instead; see `Lease.claim`.
    """

    ops: tuple[Op, ...]

    @classmethod
    def of_new_run(cls, keys: Keys, lease: Lease) -> Acquisition:
        """Take the lease of a run that does not exist yet and is not being deleted."""
        return cls((Check(keys.head, None), Check(keys.tombstone, None), Put(keys.lease, lease.encode(keys.lease))))

    @classmethod
    def of_free_lease(cls, keys: Keys, lease: Lease, held: FreeLease, seq: int) -> Acquisition:
        """Take a lease that was free when it was read, unless it or the run, then at step `seq`, has changed since."""
        return cls(
            (
                *([held.dead] if held.dead is not None else []),
                Check(keys.lease, held.record),
                Check(keys.step(seq + 1), None),
                Put(keys.lease, lease.encode(keys.lease)),
            )
        )


class _OwnerRecord(NamedTuple):
    """The content of an owner's record."""

    machine: str
    lock_file: str  # its name, for people who read the record; never used as a path
    expires_ms: int

    @classmethod
    def decode(cls, key: bytes, blob: bytes, now_ms: int) -> _OwnerRecord:
        """Return the content of an owner's record. Raises `DamagedRecord` for content that no owner writes."""
        if len(key) != 1 + _ID_BYTES:
            raise DamagedRecord(f"the owner at key {key!r:.80}", f"has an id of {len(key) - 1} bytes, not {_ID_BYTES}")
        known = cls(*decode_record(key, blob))
        if known.expires_ms > now_ms + _DAY_MS:  # clocks may differ, but not by so much
            raise DamagedRecord(f"the owner at key {key!r}", f"expires at {known.expires_ms}, more than a day from now")
        return known


class Owner:
    """This engine as an owner: a record in the store, renewed from a thread of its own, and a locked file.

    The thread is separate from the event loop, so a node that blocks the loop does not cost the lease.
    """

    def __init__(self, store: Store) -> None:
        self.id = secrets.token_bytes(_ID_BYTES)
        self.key = Prefix.OWNER + self.id
        self._store = store
        self._file: int | None = None
        self._path: Path | None = None
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._clock = SystemClock()
        self._begun = False
        self._lock = threading.Lock()
        self._renewing = threading.Lock()
        self._term = 0
        self._renewed = (0.0, 0)  # time by `_CLOCK` in seconds, and by the wall clock in milliseconds

    @property
    def begun(self) -> bool:
        """Whether the store has this engine's record."""
        return self._begun

    def now_ms(self) -> int:
        """Return the time by which leases expire: always that of the wall clock, also if the runs use another clock."""
        return self._clock.now_ms()

    @property
    def term(self) -> int | None:
        """Number of the current period in which the record has been valid without a gap; `None` if it may have expired.

        A lease that this owner held is still its own while the term is the same. After a pause (a frozen process,
        a sleeping machine, a store that refused renewals) the term is another number, or `None` until `renew`.
        """
        return self._term if self._is_valid() else None

    def _is_valid(self) -> bool:
        if self._thread is None:
            return True  # the record does not expire
        since_s, since_ms = self._renewed
        # Others judge by the wall clock, which may have been set since. Half a lease is enough margin for both.
        passed_s = max(time.clock_gettime(_CLOCK) - since_s, (self._clock.now_ms() - since_ms) / 1000)
        return passed_s < LEASE_S / 2

    def renew(self) -> None:
        """Write the record again, which makes it valid for `LEASE_S` from now on. Raises the errors of the store."""
        with self._renewing:
            now = time.clock_gettime(_CLOCK), self._clock.now_ms()
            self._store.commit(self._record())
            if not self._is_valid():
                self._term += 1
            self._renewed = now

    def begin(self) -> None:
        """Take the file lock, write the record, and start to renew it. Idempotent; callable from any thread.

        In a private store the record needs no renewal: this process knows that the owner lives. Raises the errors of
        the store. Then no lock and no record are left, and the next call tries again.
        """
        with self._lock:
            if self._begun:
                return
            if self._store.folder is not None:
                self._path = _lock_file(self._store.folder, self.id)
                self._file = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
                fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._term += 1
            self._renewed = time.clock_gettime(_CLOCK), self._clock.now_ms()
            try:
                self._store.commit(*_sweep_ops(self._store, self.now_ms()), self._record())
            except BaseException:
                self._unlock()
                raise
            self._begun = True
            _living[self.id] = self
            if not self._store.private:
                self._stop = threading.Event()
                self._thread = threading.Thread(target=self._keep_renewing, name="beluga-graph-lease", daemon=True)
                self._thread.start()

    def end(self) -> None:
        """Stop renewing, and delete the record and the file. Idempotent."""
        with self._lock:
            if not self._begun:
                return
            self._begun = False
            _living.pop(self.id, None)
            if self._thread is not None:
                self._stop.set()
                self._thread.join()
                self._thread = None
            try:
                self._store.commit(Delete(self.key))
            except StoreError as error:  # it will expire instead
                _log.warning("the owner's record was not removed: %s", error)
            self._unlock()

    def _unlock(self) -> None:
        if self._file is not None and self._path is not None:
            self._path.unlink(missing_ok=True)
            os.close(self._file)
        self._file = self._path = None

    def _record(self) -> Put:
        expires_ms = self._clock.now_ms() + round(LEASE_S * 1000)
        return Put(
            self.key,
            encode_record(self.key, _OwnerRecord(_machine(), self._path.name if self._path else "", expires_ms)),
        )

    def _keep_renewing(self) -> None:
        while not self._stop.wait(RENEW_S):
            try:
                self.renew()
            except StoreError as error:  # the next renewal may succeed; if none does, the leases are lost
                _log.warning("the owner's record was not renewed: %s", error)


def read_free_lease(store: Store, own: Owner, run_id: str) -> FreeLease | None:
    """Return the lease of a run, or `None` while another living owner holds it. Raises `DamagedRecord`."""
    key = Keys(run_id).lease
    record = store.get(key)
    lease = Lease(b"", 0) if record is None else Lease.decode(key, record)
    dead = None
    if lease.owner not in (b"", own.id):
        owner_key = Prefix.OWNER + lease.owner
        dead = Check(owner_key, store.get(owner_key))  # read before the owner is judged
    return None if is_held_elsewhere(store, lease, own) else FreeLease(lease, record, dead)


def is_driven_elsewhere(store: Store, run_key: bytes, own: Owner) -> bool:
    """Return whether another living owner holds the lease of the run with this hash. Raises `DamagedRecord`."""
    key = Prefix.LEASE + run_key
    record = store.get(key)
    return record is not None and is_held_elsewhere(store, Lease.decode(key, record), own)


def is_held_elsewhere(store: Store, lease: Lease, own: Owner) -> bool:
    """Return whether another living owner holds a lease."""
    return lease.owner not in (b"", own.id) and owner_is_alive(store, lease.owner, own.now_ms())


def owner_is_alive(store: Store, owner: bytes, now_ms: int) -> bool:
    """Return whether an owner still holds its leases."""
    key = Prefix.OWNER + owner
    blob = store.get(key)
    if blob is None:
        return False
    if store.private:
        return owner in _living
    try:
        known = _OwnerRecord.decode(key, blob, now_ms)
    except DamagedRecord:  # every engine that begins reports it
        return False
    if known.expires_ms <= now_ms:
        return False
    return known.machine != _machine() or store.folder is None or _is_locked(_lock_file(store.folder, owner))


def has_living_owner(store: Store, now_ms: int) -> bool:
    """Return whether any engine lives that has driven a run in this store, or may."""
    return any(owner_is_alive(store, key[1:], now_ms) for key, _ in store.scan(Prefix.OWNER))


def is_on_this_machine(store: Store, owner: bytes, now_ms: int) -> bool:
    """Return whether a living owner is an engine on this machine."""
    key = Prefix.OWNER + owner
    blob = store.get(key)
    return store.private or (blob is not None and _OwnerRecord.decode(key, blob, now_ms).machine == _machine())


def _sweep_ops(store: Store, now_ms: int) -> list[Op]:
    """Return the operations that delete the records of dead owners, and delete their files at once.

    An owner on this machine is dead when its file is unlocked: a frozen process keeps the lock and may wake up. An
    owner on another machine, or in a store without a folder, counts as dead a day after its record expired. A
    malformed record is logged and kept, so that `verify` reports it.
    """
    ops: list[Op] = []
    for key, blob in store.scan(Prefix.OWNER):
        owner = key[1:]
        try:
            known = _OwnerRecord.decode(key, blob, now_ms)
        except DamagedRecord as error:
            _log.warning("a record of an owner is left alone, and keeps no run from others: %s", error)
            continue
        if store.private:
            gone = owner not in _living
        elif store.folder is not None and known.machine == _machine():
            gone = not _is_locked(_lock_file(store.folder, owner))
        else:
            gone = known.expires_ms + _DAY_MS < now_ms
        if gone:
            ops.append(Delete(key))
            if store.folder is not None:
                _lock_file(store.folder, owner).unlink(missing_ok=True)
    return ops


def _lock_file(folder: Path, owner: bytes) -> Path:
    """Return the path of an owner's lock file. It depends on the id alone: a stored name could be any path."""
    return folder / f"owner-{owner.hex()}.lock"


def _is_locked(path: Path) -> bool:
    try:
        file = os.open(path, os.O_RDWR)
    except FileNotFoundError:
        return False
    except PermissionError:  # the file of another user: only the expiry decides
        return True
    try:
        # Shared: two processes that check at the same moment must not take each other for the owner.
        fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(file)
    return False


def _machine() -> str:
    """Return the id of this boot of this machine: a file lock proves nothing about another one."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return socket.gethostname()
