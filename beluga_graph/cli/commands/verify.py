"""Checking: the file of a store page by page, then every record, and every run against all that belongs to it.

The file comes first, and without LMDB: over a page that is not what it should be LMDB may end the process.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import typer

from beluga_graph import BelugaError
from beluga_graph.cli.console import open_store, print_json, require_store
from beluga_graph.cli.exit_codes import Exit, print_error
from beluga_graph.cli.options import Json, command, default_store
from beluga_graph.cli.options import Store as StorePath
from beluga_graph.codec import DamagedRecord
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED
from beluga_graph.storage.keys import KINDS, Keys, Prefix, hash16
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.records import PRESENT, RunRecord, decode_record
from beluga_graph.storage.run_log import read_head
from beluga_graph.storage.sessions import Session
from beluga_graph.storage.verify_run import MALFORMED, faults_of_run
from stores.base import Store
from stores.verifying import find_damage

__all__ = ["Checked", "Damage", "check", "check_path"]

app = typer.Typer()

_NAMES = {
    "H": "heads",
    "L": "leases",
    "O": "owners",
    "N": "snapshots",
    "S": "steps",
    "C": "items",
    "V": "large values",
    "P": "shapes",
    "I": "signals",
    "Y": "messages",
    "Z": "sessions",
    "B": "questions",
    "G": "parked runs",
    "D": "doorbells",
    "Q": "messages to publish",
    "E": "tombstones",
    "J": "doomed values",
    "e": "bus events",
    "d": "bus event ids",
    "c": "bus cursors",
    "x": "dead letters",
    "o": "observed edges",
}
_MARKS = "WXATKt"  # index entries: the key says all, the value is one byte
_RING_BYTES = 8
_RUN_IN_INDEX = {"A": slice(1, 17), "G": slice(1, 17), "B": slice(1, 17), "T": slice(9, 25)}


_OF_A_RUN = "LNSCIQKDX"  # kinds whose key goes on with a run, beside those of the index above
_RESTORE = "restore a copy of the store"
_FINDINGS_MAX = 20  # of a file; more say nothing new


@dataclass(frozen=True, slots=True)
class Damage:
    """One record that is not what was written, a run of which something is missing, or a bad page of the file."""

    where: str
    """The key in hexadecimal, the run's id, or the file's name."""
    detail: str
    advice: str = _RESTORE
    """The way out."""


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check has read and found."""

    records: dict[str, int]
    """How many, by kind."""
    runs: int
    damage: tuple[Damage, ...]


@command(app)
def verify(store: StorePath = default_store, json: Json = False) -> None:
    """Check a store for damage: its file, every record, every run.

    Exits with 1 if something is damaged. It needs no code of the flows, changes nothing, and may run while other
    processes use the store. If pages of the file are damaged, nothing else is read. Each line names a run or a
    record, the damage, and how to repair it.
    """
    checked = check_path(store)
    if json:
        print_json(checked)
    else:
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in checked.records.items()) or "none"
        typer.echo(f"records read: {sum(checked.records.values()):,} ({kinds}); runs rebuilt: {checked.runs:,}")
        for found in checked.damage:
            print_error(f"{found.where}: {found.detail}; {found.advice}")
        if not checked.damage:
            typer.echo("no damage")
    if checked.damage:
        raise typer.Exit(Exit.error)


def check_path(path: Path) -> Checked:
    """Check the store at a path; of a damaged file nothing else is read.

    Raises `CommandError` if there is no store, `StoreDamaged` or `StoreFormat` if the file is none of LMDB's.
    """
    findings = find_damage(require_store(path))
    if findings:
        left = len(findings) - _FINDINGS_MAX
        more = [f"and {left:,} more of the kind"] if left > 0 else []
        return Checked({}, 0, tuple(Damage("data.mdb", text) for text in [*findings[:_FINDINGS_MAX], *more]))
    with open_store(path) as store:
        return check(store)


def check(store: Store) -> Checked:
    """Read every record, and check every run. A run that goes on meanwhile is checked as of some moment."""
    return _Check(store).result()


class _Check:
    """One pass over a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._counts: Counter[str] = Counter()
        self._damage: list[Damage] = []
        self._damaged: set[bytes] = set()  # keys of what cannot be read
        self._heads: list[RunRecord] = []
        self._timers: dict[bytes, list[bytes]] = {}  # keys, by run
        self._owned: dict[bytes, Counter[str]] = {}  # records by run, of which the head is looked for afterwards

    def result(self) -> Checked:
        """Check all."""
        for key, blob in self._store.scan(b""):
            letter = chr(key[0])
            kind = _NAMES.get(letter, "index entries" if letter in _MARKS else "unknown")
            self._counts[kind] += 1
            try:
                self._read(letter, key, blob)
            except BelugaError as error:
                self._report(key, str(error))
            except MALFORMED as error:
                detail = f"has not the form that it should have ({type(error).__name__}: {error})"
                self._report(key, str(DamagedRecord(f"the record among the {kind}", detail)))
            else:
                if letter in _OF_A_RUN:
                    self._owned.setdefault(key[1:17], Counter())[kind] += 1
        for head in self._heads:
            for fault in faults_of_run(self._store, head, self._timers, self._damaged):
                advice = f"{_RESTORE}, or cancel and prune the run"
                self._damage.append(Damage(head.run_id, fault, advice))
        self._find_orphans()
        return Checked(dict(sorted(self._counts.items())), len(self._heads), tuple(self._damage))

    def _report(self, key: bytes, detail: str) -> None:
        self._damaged.add(key)
        self._damage.append(Damage(key.hex(), detail))

    def _read(self, letter: str, key: bytes, blob: bytes) -> None:
        """Read one record. Raises `DamagedRecord` for one that is not what it should be."""
        if letter in _RUN_IN_INDEX:
            self._check_index(key, key[_RUN_IN_INDEX[letter]])
        if letter in _MARKS:
            self._check_mark(letter, key, blob)
            return
        if letter == "D":
            if len(blob) != _RING_BYTES:
                raise DamagedRecord("the doorbell", f"has {len(blob)} bytes, not {_RING_BYTES}")
            return
        if letter not in KINDS:
            raise DamagedRecord("the record", "is of no kind that is known")
        content = decode_record(key, blob)
        look = _LOOKS.get(letter)
        if look is not None:
            look(self, key, blob, content)

    # Index entries.

    def _check_index(self, key: bytes, run: bytes) -> None:
        """Refuse an index entry of a run that is not there. A run and its entries come and go in one commit each."""
        if key[:1] == Prefix.TIMER:
            self._timers.setdefault(run, []).append(key)
        head = Prefix.RUN + run
        if self._is_missing(head) and self._store.get(key) is not None and self._is_missing(head):
            raise DamagedRecord("the index entry", f"points to a run that is not there: {run.hex()}")

    def _check_mark(self, letter: str, key: bytes, blob: bytes) -> None:
        if blob != PRESENT:
            raise DamagedRecord("the index entry", "is not the one byte that it should be")
        if letter == "W":
            digest, owner = key[1:33], key[33:]
            self._check_paired(key, Prefix.VALUE + digest, f"the large value {digest.hex()}")
            if self._is_missing(Prefix.SESSION + owner):
                self._check_paired(
                    key, Prefix.MARK_BY_RUN + owner + digest, f"the other mark of the large value {digest.hex()}"
                )
        elif letter == "X":
            digest = key[17:]
            self._check_paired(
                key, Prefix.MARK_BY_VALUE + digest + key[1:17], f"the other mark of the large value {digest.hex()}"
            )
        elif letter == "t":
            self._check_paired(key, Prefix.EVENT + key[17:], "the event of a correlation id")

    def _check_paired(self, key: bytes, other: bytes, what: str) -> None:
        """Refuse a record that came, and would go, in one commit with another one that is not there."""
        if self._is_missing(other) and self._store.get(key) is not None and self._is_missing(other):
            raise DamagedRecord(what, "is missing")

    def _is_missing(self, key: bytes) -> bool:
        return self._store.get(key) is None

    # Records that say more than themselves.

    def _head(self, key: bytes, blob: bytes, _: object) -> None:
        head = RunRecord.decode(key, blob)
        if Keys(head.run_id).head != key:
            raise DamagedRecord("the head", f"of run {head.run_id!r} is under the key of another run")
        self._heads.append(head)

    def _lease(self, key: bytes, blob: bytes, _: object) -> None:
        Lease.decode(key, blob)

    def _value(self, key: bytes, _: bytes, content: bytes) -> None:
        digest = key[1:]
        if sha256(content).digest() != digest:
            raise DamagedRecord("the large value", "is not what its key says")
        if self._is_unmarked(digest) and self._store.get(key) is not None and self._is_unmarked(digest):
            raise DamagedRecord("the large value", "belongs to no run and no session: its marks are missing")

    def _is_unmarked(self, digest: bytes) -> bool:
        marks = self._store.scan(Prefix.MARK_BY_VALUE + digest, limit=1)
        return next(iter(marks), None) is None and self._is_missing(Prefix.GC_CANDIDATE + digest)

    def _shape(self, key: bytes, _: bytes, content: dict[str, object]) -> None:
        if Shape.from_plain(content).fingerprint.encode() != key[1:]:
            raise DamagedRecord("the shape", "is that of another graph")

    def _session(self, key: bytes, _: bytes, fields: tuple[object, ...]) -> None:
        session = Session(*fields)  # type: ignore[arg-type]  # what does not fit is damage
        if session.key != key:
            raise DamagedRecord("the session", f"{session.id!r} of flow {session.flow!r} is under another key")
        for index in range(session.length):
            self._check_paired_now(key, session, session.item(index), f"message {index} of session {session.id!r}")
        if session.run:
            run = read_head(self._store, session.run) if not self._is_missing(Keys(session.run).head) else None
            if (run is None or run.status in (COMPLETED, CANCELLED)) and self._holds(key, session):
                raise DamagedRecord("the session", f"{session.id!r} is held by run {session.run!r}, which has ended")

    def _check_paired_now(self, key: bytes, session: Session, other: bytes, what: str) -> None:
        if self._is_missing(other) and self._holds(key, session):
            raise DamagedRecord(what, "is missing")

    def _holds(self, key: bytes, session: Session) -> bool:
        """Whether a session is as it was read: a run may end, and give it back, meanwhile."""
        blob = self._store.get(key)
        return blob is not None and Session(*decode_record(key, blob)) == session

    def _message(self, key: bytes, _: bytes, __: object) -> None:
        self._check_paired(key, Prefix.SESSION + key[1:17], "the session of a message")

    def _event(self, key: bytes, _: bytes, fields: tuple[object, ...]) -> None:
        """An event of the bus is found by its id and by its correlation id."""
        event_id, correlation_id = str(fields[1]), str(fields[3])
        self._check_paired(key, Prefix.EVENT_ID + hash16(event_id), f"the position of event {event_id!r}")
        self._check_paired(
            key, Prefix.CORRELATION + hash16(correlation_id) + key[1:], f"the correlation of event {event_id!r}"
        )

    def _event_id(self, key: bytes, _: bytes, position: int) -> None:
        at = Prefix.EVENT + position.to_bytes(8, "big")
        self._check_paired(key, at, f"event {position} of the bus")
        blob = self._store.get(at)
        with suppress(DamagedRecord):  # of the event, which is reported for itself
            if blob is not None and hash16(str(decode_record(at, blob)[1])) != key[1:]:
                self._report(key, f"position {position} of the bus is that of another event")

    # What has lost its head.

    def _find_orphans(self) -> None:
        """Report the records of runs that have no head: a run comes and goes whole, or leaves a tombstone."""
        for run, kinds in sorted(self._owned.items()):
            if not (self._is_missing(Prefix.RUN + run) and self._is_missing(Prefix.TOMBSTONE + run)):
                continue
            if not any(self._has_records(kind, run) for kind in _OF_A_RUN):
                continue  # deleted meanwhile
            held = ", ".join(f"{kind} {count:,}" for kind, count in sorted(kinds.items()))
            detail = f"its head is missing, so it is not among the runs; left of it are: {held}"
            self._damage.append(Damage(self._name_of(run), detail))

    def _has_records(self, kind: str, run: bytes) -> bool:
        return next(iter(self._store.scan(kind.encode() + run, limit=1)), None) is not None

    def _name_of(self, run: bytes) -> str:
        """Return the id of a run without a head, out of its first snapshot, or its key."""
        key = Prefix.SNAPSHOT + run + bytes(8)
        blob = self._store.get(key)
        try:
            return str(decode_record(key, blob)["run_id"]) if blob is not None else run.hex()
        except (BelugaError, *MALFORMED):
            return run.hex()


_LOOKS: dict[str, Callable[[_Check, bytes, bytes, Any], None]] = {
    "H": _Check._head,  # noqa: SLF001 - of this module
    "L": _Check._lease,  # noqa: SLF001
    "V": _Check._value,  # noqa: SLF001
    "P": _Check._shape,  # noqa: SLF001
    "Z": _Check._session,  # noqa: SLF001
    "Y": _Check._message,  # noqa: SLF001
    "e": _Check._event,  # noqa: SLF001
    "d": _Check._event_id,  # noqa: SLF001
}
