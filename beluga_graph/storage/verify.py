"""Verification of a store: every record, and every run with all that belongs to it.

`forms` checks the form of each record as it is decoded, `verify_run` checks one run. This module checks how records
refer to each other, and reports records that belong to no run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.errors import BelugaError
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.storage.keys import (
    Keys,
    Prefix,
    correlation_prefix,
    event_id_key,
    event_key,
    hash16,
    marked_digest,
    run_key_of,
    shape_key,
)
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.loading import read_run_record
from beluga_graph.storage.records import PRESENT, PRESENT_KINDS, RunRecord, decode_record
from beluga_graph.storage.schedule_records import check_queued_key, read_schedule
from beluga_graph.storage.session_records import Session
from beluga_graph.storage.verify_run import MALFORMED, faults_of_run
from stores.base import Store

__all__ = ["Damage", "StoreReport", "verify_store"]

_LABELS: Final = {
    Prefix.RUN: "heads",
    Prefix.LEASE: "leases",
    Prefix.OWNER: "owners",
    Prefix.SNAPSHOT: "snapshots",
    Prefix.STEP: "steps",
    Prefix.ITEM: "items",
    Prefix.VALUE: "large values",
    Prefix.MARK_BY_VALUE: "index entries",
    Prefix.MARK_BY_RUN: "index entries",
    Prefix.SHAPE: "shapes",
    Prefix.SIGNAL: "signals",
    Prefix.SESSION: "sessions",
    Prefix.SESSION_ITEM: "messages",
    Prefix.OPEN: "index entries",
    Prefix.PARKED: "parked runs",
    Prefix.TIMER: "index entries",
    Prefix.WAKEUP: "wakeups",
    Prefix.CANCEL: "index entries",
    Prefix.QUESTION: "questions",
    Prefix.OUTBOX: "messages to publish",
    Prefix.TOMBSTONE: "tombstones",
    Prefix.GC_CANDIDATE: "doomed values",
    Prefix.SCHEDULE: "schedules",
    Prefix.SCHEDULE_STATE: "states of schedules",
    Prefix.SCHEDULE_DUE: "index entries",
    Prefix.SCHEDULE_QUEUED: "queued starts",
    Prefix.EVENT: "bus events",
    Prefix.EVENT_ID: "bus event ids",
    Prefix.CORRELATION: "index entries",
    Prefix.CURSOR: "bus cursors",
    Prefix.DEAD_LETTER: "dead letters",
    Prefix.EDGE: "observed edges",
    Prefix.CLAIM: "claims",
}
_WAKEUP_BYTES = 8
_INDEXES: Final = (Prefix.OPEN, Prefix.PARKED, Prefix.QUESTION, Prefix.TIMER)
"""Kinds that are written and deleted in one commit with the run's own records."""
_PARTS_OF_RUNS: Final = (
    Prefix.LEASE,
    Prefix.SNAPSHOT,
    Prefix.STEP,
    Prefix.ITEM,
    Prefix.SIGNAL,
    Prefix.OUTBOX,
    Prefix.CANCEL,
    Prefix.WAKEUP,
    Prefix.MARK_BY_RUN,
)
"""Kinds whose keys continue with a run, beside the indexes. A run without a record should have none of them."""
_RESTORE = "restore a copy of the store"


@dataclass(frozen=True, slots=True)
class Damage:
    """One damaged record, a run of which something is missing, or a damaged page of the file."""

    where: str
    """The key in hexadecimal, the run's id, or the file's name."""
    detail: str
    advice: str = _RESTORE
    """How to repair it."""


@dataclass(frozen=True, slots=True)
class StoreReport:
    """The records and runs that a verification has read, and the damage it has found."""

    records: dict[str, int]
    """How many records were read, by kind."""
    runs: int
    """How many runs were rebuilt."""
    damage: tuple[Damage, ...]


def verify_store(store: Store) -> StoreReport:
    """Read every record, and check every run. A run that goes on meanwhile is checked as of some moment."""
    return _Verification(store).report()


class _Verification:
    """One pass over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: Counter[str] = Counter()
        self._damage: list[Damage] = []
        self._damaged: set[bytes] = set()  # keys of unreadable records
        self._heads: list[RunRecord] = []
        self._timers: dict[bytes, list[bytes]] = {}  # keys, by run
        self._owned: dict[
            bytes, Counter[str]
        ] = {}  # number of records by run, whose run records are checked at the end

    def report(self) -> StoreReport:
        """Verify all records and runs."""
        for key, blob in self._store.scan(b""):
            label = _LABELS.get(key[:1], "unknown")
            self._counts[label] += 1
            try:
                self._read(key, blob)
            except BelugaError as error:
                self._report(key, str(error))
            except MALFORMED as error:
                detail = f"does not have its form ({type(error).__name__}: {error})"
                self._report(key, str(DamagedRecord(f"the record among the {label}", detail)))
            else:
                if key[:1] in _PARTS_OF_RUNS:
                    self._owned.setdefault(run_key_of(key), Counter())[label] += 1
        for head in self._heads:
            for fault in faults_of_run(self._store, head, self._timers, self._damaged):
                advice = f"{_RESTORE}, or cancel and prune the run"
                self._damage.append(Damage(head.run_id, fault, advice))
        self._find_orphans()
        return StoreReport(dict(sorted(self._counts.items())), len(self._heads), tuple(self._damage))

    def _report(self, key: bytes, detail: str) -> None:
        self._damaged.add(key)
        self._damage.append(Damage(key.hex(), detail))

    def _read(self, key: bytes, blob: bytes) -> None:
        """Read one record. Raises `DamagedRecord` if it is malformed or does not fit other records."""
        kind = key[:1]
        if kind in _INDEXES:
            self._check_index(key, run_key_of(key))
        if kind in PRESENT_KINDS:
            self._check_mark(key, blob)
            return
        if kind == Prefix.WAKEUP:
            if len(blob) != _WAKEUP_BYTES:
                raise DamagedRecord("the wakeup", f"has {len(blob)} bytes, not {_WAKEUP_BYTES}")
            return
        if kind not in _LABELS:
            raise DamagedRecord("the record", "is of no kind that is known")
        content = decode_record(key, blob)
        look = _CHECKS.get(kind)
        if look is not None:
            look(self, key, blob, content)

    # Index entries.

    def _check_index(self, key: bytes, run_key: bytes) -> None:
        """Raise for an index entry without its run: both are written and deleted in the same commits."""
        if key[:1] == Prefix.TIMER:
            self._timers.setdefault(run_key, []).append(key)
        head = Prefix.RUN + run_key
        if self._is_missing(head) and self._store.get(key) is not None and self._is_missing(head):
            raise DamagedRecord("the index entry", f"points to a run that is not there: {run_key.hex()}")

    def _check_mark(self, key: bytes, blob: bytes) -> None:
        if blob != PRESENT:
            raise DamagedRecord("the index entry", "is not the one byte that it should be")
        kind = key[:1]
        if kind == Prefix.MARK_BY_VALUE:
            digest, owner = key[1:33], key[33:]
            self._check_paired(key, Prefix.VALUE + digest, f"the large value {digest.hex()}")
            if self._is_missing(Prefix.SESSION + owner):
                other = Prefix.MARK_BY_RUN + owner + digest
                self._check_paired(key, other, f"the other mark of the large value {digest.hex()}")
        elif kind == Prefix.MARK_BY_RUN:
            digest = marked_digest(key)
            other = Prefix.MARK_BY_VALUE + digest + run_key_of(key)
            self._check_paired(key, other, f"the other mark of the large value {digest.hex()}")
        elif kind in (Prefix.SCHEDULE_DUE, Prefix.SCHEDULE_QUEUED):
            schedule = key[9:] if kind == Prefix.SCHEDULE_DUE else key[1:17]
            self._check_paired(key, Prefix.SCHEDULE + schedule, "the schedule of an index entry")
            if kind == Prefix.SCHEDULE_QUEUED:
                check_queued_key(key)
        elif kind == Prefix.CORRELATION:
            self._check_paired(key, Prefix.EVENT + key[17:], "the event of a correlation id")

    def _check_paired(self, key: bytes, other: bytes, what: str) -> None:
        """Raise for a record without the other record that is written and deleted in the same commits."""
        if self._is_missing(other) and self._store.get(key) is not None and self._is_missing(other):
            raise DamagedRecord(what, "is missing")

    def _is_missing(self, key: bytes) -> bool:
        return self._store.get(key) is None

    # Records that refer to other records.

    def _head(self, key: bytes, blob: bytes, _: object) -> None:
        head = RunRecord.decode(key, blob)
        self._heads.append(head)

    def _lease(self, key: bytes, blob: bytes, _: object) -> None:
        Lease.decode(key, blob)

    def _claim(self, key: bytes, _: bytes, content: bytes) -> None:
        if sha256(content).digest() != key[1:]:
            raise DamagedRecord("the large value", "is not what its key says")

    def _value(self, key: bytes, blob: bytes, content: bytes) -> None:
        self._claim(key, blob, content)
        digest = key[1:]
        if self._is_unmarked(digest) and self._store.get(key) is not None and self._is_unmarked(digest):
            raise DamagedRecord("the large value", "belongs to no run and no session: its marks are missing")

    def _is_unmarked(self, digest: bytes) -> bool:
        marks = self._store.scan(Prefix.MARK_BY_VALUE + digest, limit=1)
        return next(iter(marks), None) is None and self._is_missing(Prefix.GC_CANDIDATE + digest)

    def _shape(self, key: bytes, _: bytes, content: dict[str, object]) -> None:
        if shape_key(Shape.from_plain(content).fingerprint) != key:
            raise DamagedRecord("the shape", "is that of another graph")

    def _session(self, key: bytes, _: bytes, fields: tuple[object, ...]) -> None:
        session = Session(*fields)  # type: ignore[arg-type]  # values of other types are damage
        if session.key != key:
            raise DamagedRecord("the session", f"{session.id!r} of flow {session.flow!r} is under another key")
        for index in range(session.length):
            self._check_paired_now(key, session, session.item(index), f"message {index} of session {session.id!r}")
        if session.run:
            run = read_run_record(self._store, session.run) if not self._is_missing(Keys(session.run).head) else None
            if (run is None or run.status in (COMPLETED, CANCELLED)) and self._holds(key, session):
                raise DamagedRecord("the session", f"{session.id!r} is held by run {session.run!r}, which has ended")

    def _check_paired_now(self, key: bytes, session: Session, other: bytes, what: str) -> None:
        if self._is_missing(other) and self._holds(key, session):
            raise DamagedRecord(what, "is missing")

    def _holds(self, key: bytes, session: Session) -> bool:
        """Return whether a session is unchanged since it was read: a run may end and return it meanwhile."""
        blob = self._store.get(key)
        return blob is not None and Session(*decode_record(key, blob)) == session

    def _schedule(self, key: bytes, _: bytes, __: object) -> None:
        """Check that a schedule has its state, and that the index has its next due time."""
        stored = read_schedule(self._store, key[1:])
        index = stored.index_key if stored is not None else None
        if stored is None or index is None or not self._is_missing(index):
            return
        if all(self._store.get(check.key) == check.expected for check in stored.checks):  # else it goes on meanwhile
            raise DamagedRecord(f"schedule {stored.schedule.name!r}", "is not in the index of due times")

    def _schedule_state(self, key: bytes, _: bytes, __: object) -> None:
        self._check_paired(key, Prefix.SCHEDULE + key[1:], "the schedule of a state")

    def _message(self, key: bytes, _: bytes, __: object) -> None:
        self._check_paired(key, Prefix.SESSION + key[1:17], "the session of a message")

    def _event(self, key: bytes, _: bytes, fields: tuple[object, ...]) -> None:
        """Check that an event of the bus is found by its id and by its correlation id."""
        event_id, correlation_id = str(fields[1]), str(fields[3])
        self._check_paired(key, event_id_key(event_id), f"the position of event {event_id!r}")
        self._check_paired(key, correlation_prefix(correlation_id) + key[1:], f"the correlation of event {event_id!r}")

    def _event_id(self, key: bytes, _: bytes, position: int) -> None:
        at = event_key(position)
        self._check_paired(key, at, f"event {position} of the bus")
        blob = self._store.get(at)
        with suppress(DamagedRecord):  # the damage of the event is reported separately
            if blob is not None and hash16(str(decode_record(at, blob)[1])) != key[1:]:
                self._report(key, f"position {position} of the bus is that of another event")

    # Records without a run record.

    def _find_orphans(self) -> None:
        """Report records of runs that have no run record: a deletion that is under way has a tombstone."""
        for run_key, kinds in sorted(self._owned.items()):
            if not (self._is_missing(Prefix.RUN + run_key) and self._is_missing(Prefix.TOMBSTONE + run_key)):
                continue
            if not any(self._has_records(prefix + run_key) for prefix in _PARTS_OF_RUNS):
                continue  # deleted meanwhile
            held = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))
            detail = f"its head is missing, so it is not among the runs; left of it are: {held}"
            self._damage.append(Damage(self._name_of(run_key), detail))

    def _has_records(self, prefix: bytes) -> bool:
        return next(iter(self._store.scan(prefix, limit=1)), None) is not None

    def _name_of(self, run_key: bytes) -> str:
        """Return the id of a run without a run record: from its first snapshot, or its hash."""
        key = Prefix.SNAPSHOT + run_key + bytes(8)
        blob = self._store.get(key)
        try:
            return str(decode_record(key, blob)["run_id"]) if blob is not None else run_key.hex()
        except (BelugaError, *MALFORMED):
            return run_key.hex()


_CHECKS: Final[dict[bytes, Callable[[_Verification, bytes, bytes, Any], None]]] = {
    Prefix.RUN: _Verification._head,  # noqa: SLF001 - of this module
    Prefix.LEASE: _Verification._lease,  # noqa: SLF001
    Prefix.VALUE: _Verification._value,  # noqa: SLF001
    Prefix.CLAIM: _Verification._claim,  # noqa: SLF001
    Prefix.SHAPE: _Verification._shape,  # noqa: SLF001
    Prefix.SESSION: _Verification._session,  # noqa: SLF001
    Prefix.SESSION_ITEM: _Verification._message,  # noqa: SLF001
    Prefix.SCHEDULE: _Verification._schedule,  # noqa: SLF001
    Prefix.SCHEDULE_STATE: _Verification._schedule_state,  # noqa: SLF001
    Prefix.EVENT: _Verification._event,  # noqa: SLF001
    Prefix.EVENT_ID: _Verification._event_id,  # noqa: SLF001
}
