"""Verification of one run: replays it from its first snapshot, and compares all its records with the result."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from beluga_graph.codec.references import find_references
from beluga_graph.errors import BelugaError, RunNotFound
from beluga_graph.kernel.ops import APPEND_ITEMS
from beluga_graph.kernel.rules import answer_signal, is_answer
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, WAITING, Snapshot
from beluga_graph.kernel.tokens import Place
from beluga_graph.storage.keys import Keys, Prefix, number_of, shape_key
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.loading import read_steps, rebuild_first
from beluga_graph.storage.records import RunRecord, decode_record, encode_record
from stores.base import Store

__all__ = ["MALFORMED", "faults_of_run"]

MALFORMED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)
"""Exceptions of reading a record whose checksum is good but whose content is wrong."""
_TRIES = 10  # for a run that changes during the check


def faults_of_run(
    store: Store, head: RunRecord, timers: Mapping[bytes, Collection[bytes]], damaged: Collection[bytes]
) -> list[str]:
    """Return the faults of a run; none if it is deleted meanwhile, or changes in each of several attempts.

    `timers` are the keys of timers by run, `damaged` the keys of records that are known to be unreadable.
    """
    keys = Keys(head.run_id)
    for _ in range(_TRIES):
        before = _state(store, keys)
        if before[0] is None:
            return []
        faults = _faults(store, before[0], head.run_id, timers.get(keys.run_key, ()), damaged)
        if not faults or _state(store, keys) == before:
            return faults
    return []


def _faults(store: Store, head: bytes, run_id: str, timers: Collection[bytes], damaged: Collection[bytes]) -> list[str]:
    found: list[str] = []
    try:
        found.extend(_RunCheck(store, RunRecord.decode(Keys(run_id).head, head), timers, damaged).faults())
    except BelugaError as error:
        found.append(str(error))
    except MALFORMED as error:
        found.append(f"one of its records does not have its form ({type(error).__name__}: {error})")
    return found


def _state(store: Store, keys: Keys) -> tuple[bytes | None, ...]:
    """Return records of which every change of a run changes at least one, the run record first."""
    last = next(iter(store.scan(keys.step(0)[:-8], reverse=True, limit=1)), (None,))[0]
    return (*(store.get(key) for key in (keys.head, keys.lease, keys.open, keys.parked, keys.wakeup)), last)


class _RunCheck:
    """One pass over the records of one run."""

    def __init__(self, store: Store, head: RunRecord, timers: Collection[bytes], damaged: Collection[bytes]) -> None:
        self._store, self._head, self._keys = store, head, Keys(head.run_id)
        self._timers, self._damaged = timers, damaged
        self._values: dict[bytes, None] = {}  # digests of the large values that the run refers to
        self._unknown: dict[str, int] = {}  # by name: signals read before the first known step
        self._is_whole = False  # all steps are there
        self._lengths: dict[tuple[str, str], int] = {}  # items of each append field's layer, also of closed places

    def faults(self) -> Iterator[str]:
        """Yield the faults, the worst first."""
        try:
            run = rebuild_first(self._store, self._head.run_id)
        except RunNotFound:
            yield "its first snapshot is missing: nothing of it can be read"
            return
        self._unknown = dict(run.inbox)
        yield from self._replay(run)
        if not self._is_whole:
            return
        yield from self._head_faults(run)
        yield from self._items()
        yield from self._signals(run)
        yield from self._indexes(run)
        yield from self._missing_values()

    def _replay(self, run: Snapshot) -> Iterator[str]:
        """Apply every step again, and compare each full snapshot with the steps before it."""
        self._note_state(run)
        full = {number_of(key): key for key, _ in self._store.scan(self._keys.snapshots)}
        try:
            for step in read_steps(self._store, run.run_id):
                self._note(step.patch.values)
                for op in step.patch.ops:
                    if op[0] == APPEND_ITEMS:
                        _, place, field, count = op
                        start = run.places[place].lengths.get(field, 0)
                        self._lengths[place, field] = max(start + count, self._lengths.get((place, field), 0))
                run.apply(step.patch)
                if run.seq in full and (fault := self._snapshot_fault(full[run.seq], run)):
                    yield fault
        except BelugaError as error:
            yield f"{error}; {self._readable(run)}"
        except MALFORMED as error:
            why = f"step {run.seq + 1} does not fit the steps before it ({type(error).__name__}: {error})"
            yield f"{why}; {self._readable(run)}"
        else:
            self._is_whole = True
            for seq in full:
                if seq > run.seq:
                    yield f"its last step is {run.seq}, and a later one is missing: there is a snapshot of step {seq}"

    def _snapshot_fault(self, key: bytes, run: Snapshot) -> str:
        blob = self._store.get(key)
        if blob is None or key in self._damaged:
            return ""
        plain = decode_record(key, blob)
        if any(len(parts) < len(Place.__slots__) for parts in plain["places"].values()):
            # Stored by a release whose places had no item: steps after this snapshot did not know it either.
            for place in run.places.values():
                place.item = None
        made = Snapshot.from_plain(decode_record(key, encode_record(key, run.to_plain())))
        if Snapshot.from_plain(plain).to_plain() == made.to_plain():
            return ""
        return f"the snapshot of step {run.seq} is not what the steps before it make"

    @staticmethod
    def _readable(run: Snapshot) -> str:
        return f"it can be read, and forked, up to step {run.seq}" if run.seq else "no step of it can be read"

    def _note(self, value: Any) -> None:
        self._values.update(dict.fromkeys(find_references(value)))

    def _note_state(self, run: Snapshot) -> None:
        self._note(run.to_plain())
        for name, place in run.places.items():
            for field, length in place.lengths.items():
                self._lengths[name, field] = length

    def _head_faults(self, run: Snapshot) -> Iterator[str]:
        head = self._head
        if run.run_id != head.run_id:
            yield f"its records are those of run {run.run_id!r}"
        if run.status != head.status:
            yield f"its head says {head.status}, its steps say {run.status}: the last steps are missing"
        if run.plan != head.plan:
            yield f"its head names the graph {head.plan}, its steps {run.plan}"
        for fingerprint in dict.fromkeys((head.plan, run.plan)):
            if self._store.get(shape_key(fingerprint)) is None:
                yield f"the shape {fingerprint} of its graph is missing"

    def _items(self) -> Iterator[str]:
        for (place, field), length in self._lengths.items():
            prefix, expected = self._keys.channel(place, field), 0
            for key, blob in self._store.scan(prefix):
                index = number_of(key)
                if index >= length:
                    break  # from a step whose route was refused; the items of its next attempt will replace them
                if index != expected:
                    break
                expected += 1
                if key not in self._damaged:
                    self._note(decode_record(key, blob))
            if expected < length:
                where = f" at {place!r}" if place else ""
                yield f"item {expected} of the {length} of field {field!r}{where} is missing"

    def _signals(self, run: Snapshot) -> Iterator[str]:
        counts: dict[str, int] = {}
        prefix = self._keys.signals
        for key, blob in self._store.scan(prefix):
            if key in self._damaged:
                return
            name, payload, _ = decode_record(key, blob)
            self._note(payload)
            position, expected = number_of(key), counts.get(name, self._unknown.get(name, 0))
            if position != expected:
                yield f"signal {expected} of the name {name!r} is missing"
            counts[name] = position + 1
        for name, read_until in run.inbox.items():
            known = counts.get(name, self._unknown.get(name, 0))
            if known < read_until:
                yield f"it has read {read_until} signals of the name {name!r}, of which {known} are there"

    def _indexes(self, run: Snapshot) -> Iterator[str]:
        """Compare lease and index entries with the run: engines find work by them."""
        keys = self._keys
        is_open, is_parked = self._store.get(keys.open) is not None, self._store.get(keys.parked) is not None
        ended = run.status in (COMPLETED, CANCELLED)
        if ended and (is_open or is_parked) and keys.parked not in self._damaged:
            yield f"it is {run.status}, but listed among the runs that go on"
        if self._head.moved_to and (is_open or is_parked):
            yield f"it goes on elsewhere, at {self._head.moved_to}, but is listed among the runs that go on here"
        elif not ended and not self._head.moved_to and run.status != FAILED and is_open == is_parked:
            yield (
                "it goes on, but is listed as driven and parked at once"
                if is_open
                else (f"it is {run.status}, but not listed among the runs that go on: no engine will find it")
            )
        if is_parked and run.status not in (WAITING, COMPLETED, CANCELLED):
            yield f"it is {run.status}, but listed as parked"
        yield from self._lease_faults(run, is_parked=is_parked)
        yield from self._timer_faults(run)
        yield from self._question_faults(run)

    def _lease_faults(self, run: Snapshot, *, is_parked: bool) -> Iterator[str]:
        key = self._keys.lease
        blob = self._store.get(key)
        if blob is None:
            yield "its lease is missing"
        elif key not in self._damaged:
            owned = Lease.decode(key, blob).owner != b""
            if owned and (is_parked or self._head.moved_to or run.status in (COMPLETED, CANCELLED)):
                state = "parked" if is_parked else "moved" if self._head.moved_to else run.status
                yield f"it is {state}, but its lease has an owner"

    def _timer_faults(self, run: Snapshot) -> Iterator[str]:
        expected = {self._keys.timer(due, timer): timer for timer, due in run.timers.items()}
        is_over = run.status in (COMPLETED, CANCELLED)
        for key in self._timers:
            if (is_over or self._head.moved_to or key not in expected) and self._store.get(key) is not None:
                yield f"a timer is listed that it does not have ({key.hex()})"
        if not is_over and run.status != FAILED and not self._head.moved_to:
            for key, timer in expected.items():
                if self._store.get(key) is None:
                    yield f"its timer {timer!r} is not listed: it would never fire"

    def _question_faults(self, run: Snapshot) -> Iterator[str]:
        asking = {token: signal for signal, tokens in run.waits.items() if is_answer(signal) for token in tokens}
        expected = {self._keys.question(token): token for token in asking}
        is_over = run.status in (COMPLETED, CANCELLED)
        for key, _ in self._store.scan(self._keys.questions):
            if (is_over or key not in expected) and self._store.get(key) is not None:
                yield f"a question is listed that it does not ask ({key.hex()})"
        for key, token in expected.items() if not is_over else ():
            unread = self._keys.signal(answer_signal(token), run.inbox.get(answer_signal(token), 0))
            if self._store.get(key) is None and self._store.get(unread) is None:
                yield f"its question {token!r} is not listed: it cannot be answered"

    def _missing_values(self) -> Iterator[str]:
        for digest in self._values:
            by_value, by_run = self._keys.marks(digest)
            if self._store.get(Prefix.VALUE + digest) is None:
                yield f"its large value {digest.hex()} is missing"
            elif self._store.get(by_value) is None or self._store.get(by_run) is None:
                yield f"its large value {digest.hex()} is not marked as its own, and could be deleted under it"
