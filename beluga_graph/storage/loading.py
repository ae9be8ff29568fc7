"""Reading of one run's records: its steps, its snapshots, its items and its large values.

No function here needs a plan or user code. Records are read one by one, so another process may delete the run
meanwhile; `detect_deletion` reports that instead of damage.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, NamedTuple

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.codec.references import is_reference, to_reference
from beluga_graph.errors import BelugaError, RunNotFound
from beluga_graph.execution.items import KnownItems
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Patch
from beluga_graph.storage.keys import Keys, Prefix, number_of
from beluga_graph.storage.records import RunRecord, decode_record
from beluga_graph.storage.session_records import read_session_items
from stores.base import Check, Store

__all__ = [
    "LoadedRun",
    "RunReader",
    "StoredStep",
    "UnreadSignal",
    "check_nodes",
    "detect_contradictions",
    "detect_deletion",
    "load_run",
    "read_first_seq",
    "read_last_seq",
    "read_run_record",
    "read_steps",
    "read_steps_back",
    "rebuild",
    "rebuild_first",
]


@dataclass(frozen=True, slots=True)
class StoredStep:
    """One committed step."""

    seq: int
    at_ms: int
    trigger: str
    """Name of the trigger's class."""
    token: str
    """The token, timer, signal or source run that the trigger names; empty if it names none."""
    attempt: int
    """The attempt, the position of the signal, or the step of the source run that the trigger names."""
    patch: Patch


class LoadedRun(NamedTuple):
    """A run rebuilt from its records, with the facts that decide when to write its next full snapshot."""

    run: Snapshot
    snapshot_bytes: int
    """Size of the full snapshot that it was rebuilt from."""
    steps_since: int
    """Number of steps since that snapshot."""


class UnreadSignal(NamedTuple):
    """A signal that a run has not read."""

    name: str
    position: int
    """Its place among the unread signals of its name, from 0."""
    payload: bytes
    at_ms: int
    """When it was accepted."""


class RunReader:
    """Reads the values and items of one run, including those that are not committed yet."""

    __slots__ = ("decoded_cache", "keys", "known_items", "run_id", "store", "uncommitted")

    def __init__(self, store: Store, run_id: str) -> None:
        self.store = store
        self.run_id = run_id
        self.keys = Keys(run_id)
        self.decoded_cache: dict[Any, Any] = {}
        self.known_items = KnownItems()
        self.uncommitted: dict[bytes, bytes] = {}
        """Records that the run has produced and not committed yet, by key."""

    def load(self, value: bytes) -> bytes:
        """Return an encoded value, following a reference. Raises `DamagedRecord`, `RunNotFound`."""
        if not is_reference(value):
            return value
        key = Prefix.VALUE + value[1:]
        found = self.uncommitted.get(key) or self.store.get(key)
        if found is None:
            detail = f"{value[1:].hex()} of run {self.run_id!r} is missing"
            raise _missing_error(self.store, self.run_id, "value", detail)
        blob: bytes = decode_record(key, found)
        return blob

    def to_reference(self, encoded: bytes) -> bytes:
        """Return a reference by digest to a large encoded value, and a smaller value itself."""
        return to_reference(encoded)

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield the encoded items `start` to `stop` of an append field's layer.

        Raises `DamagedRecord`, `RunNotFound`.
        """
        prefix = self.keys.channel(place, field)
        for index in range(start, stop):
            key = prefix + index.to_bytes(8, "big")
            found = self.uncommitted.get(key) or self.store.get(key)
            if found is None:
                detail = f"{index} of field {field!r} of run {self.run_id!r} is missing"
                raise _missing_error(self.store, self.run_id, "item", detail)
            item: bytes = decode_record(key, found)
            yield item

    def read_session_items(self, run: Snapshot, start: int = 0) -> Iterator[bytes]:
        """Yield the encoded messages that the run's session began with, from `start` on. Raises `DamagedRecord`."""
        return read_session_items(self.store, run, start)

    def read_unread_signals(self, run: Snapshot) -> Iterator[UnreadSignal]:
        """Yield the signals that the run has not read as of a snapshot, those of each name in order.

        Answers to questions are among them. Raises `DamagedRecord`.
        """
        for key, blob in self.store.scan(self.keys.signals):
            name, payload, at_ms = decode_record(key, blob)
            position = number_of(key) - run.inbox.get(name, 0)
            if position >= 0:
                yield UnreadSignal(name, position, payload, at_ms)


def read_run_record(store: Store, run_id: str) -> RunRecord:
    """Return the summary of a run without its history. Raises `RunNotFound`, `DamagedRecord`."""
    key = Keys(run_id).head
    blob = store.get(key)
    if blob is None:
        raise _unknown_error(run_id)
    return RunRecord.decode(key, blob)


def read_last_seq(store: Store, run_id: str) -> int:
    """Return the number of committed steps of a run."""
    last = next(iter(store.scan(Keys(run_id).steps, reverse=True, limit=1)), None)
    return 0 if last is None else number_of(last[0])


def read_first_seq(store: Store, run_id: str) -> int:
    """Return the step that the first known steps of a run follow: 0, except for a run recorded from a later step."""
    keys = Keys(run_id)
    if store.get(keys.snapshot(0)) is not None:
        return 0
    first = next(iter(store.scan(keys.steps, limit=1)), None)
    if first is not None:
        return number_of(first[0]) - 1
    begun = next(iter(store.scan(keys.snapshots, limit=1)), None)
    return 0 if begun is None else number_of(begun[0])


def read_steps(store: Store, run_id: str, after: int = 0, until: int | None = None) -> Iterator[StoredStep]:
    """Yield the committed steps `after` < seq <= `until`, in order. Raises `DamagedRecord`, `RunNotFound`.

    Of a run that was recorded from a later step on, it yields the steps that are known.
    """
    keys = Keys(run_id)
    expected = after + 1
    for key, blob in store.scan(keys.steps, start=keys.step(after + 1)):
        seq = number_of(key)
        if until is not None and seq > until:
            return
        if seq > expected == after + 1 and seq == read_first_seq(store, run_id) + 1:
            expected = seq
        if seq != expected:
            raise _missing_error(store, run_id, "step", f"{expected} of run {run_id!r} is missing")
        expected += 1
        yield _decode_step(key, blob)


def read_steps_back(store: Store, run_id: str, until: int) -> Iterator[StoredStep]:
    """Yield the committed steps with seq <= `until` that are stored, the last one first. Raises `DamagedRecord`."""
    keys = Keys(run_id)
    for key, blob in store.scan(keys.steps, start=keys.step(until), reverse=True):
        yield _decode_step(key, blob)


def _decode_step(key: bytes, blob: bytes) -> StoredStep:
    at, kind, token, attempt, values, ops, events = decode_record(key, blob)
    return StoredStep(number_of(key), at, kind, token, attempt, Patch(values, ops, events))


def rebuild(store: Store, run_id: str, seq: int | None = None) -> Snapshot:
    """Return a run as of step `seq`, the last by default. Raises `RunNotFound`, `DamagedRecord`."""
    return load_run(store, run_id, seq).run


def rebuild_first(store: Store, run_id: str) -> Snapshot:
    """Return a run as it was before its first known step. Raises `RunNotFound`, `DamagedRecord`."""
    return rebuild(store, run_id, read_first_seq(store, run_id))


def load_run(store: Store, run_id: str, seq: int | None = None) -> LoadedRun:
    """Rebuild a run as of step `seq`, the last by default, from the newest full snapshot and the steps since.

    Raises `RunNotFound`, `DamagedRecord`.
    """
    if seq is not None and not 0 <= seq < 2**63:
        raise RunNotFound(run_id, f"it has no step {seq}: steps are counted from 1")
    run, snapshot_bytes = _read_snapshot(store, run_id, seq)
    steps = 0
    with detect_contradictions(run_id):
        for step in read_steps(store, run_id, run.seq, seq):
            run.apply(step.patch)
            steps += 1
    if seq is not None and run.seq != seq:
        raise RunNotFound(run_id, f"it has no step {seq}: its last is {run.seq}")
    return LoadedRun(run, snapshot_bytes, steps)


def _read_snapshot(store: Store, run_id: str, seq: int | None) -> tuple[Snapshot, int]:
    """Return the newest full snapshot up to step `seq`, and its size."""
    keys = Keys(run_id)
    newest = keys.snapshot(2**63 if seq is None else seq)
    found = next(iter(store.scan(keys.snapshots, start=newest, reverse=True, limit=1)), None)
    if found is None:
        first = read_first_seq(store, run_id)
        raise RunNotFound(run_id, f"its steps up to {first} are not known") if first else _unknown_error(run_id)
    key, blob = found
    run = Snapshot.from_plain(decode_record(key, blob))
    if (run.run_id, run.seq) != (run_id, number_of(key)):
        detail = f"of run {run_id!r} at key {key!r} is that of {run.run_id!r:.80}, step {run.seq}"
        raise DamagedRecord("the snapshot", detail)
    return run, len(blob)


@contextmanager
def detect_deletion(store: Store, run_id: str) -> Iterator[Check]:
    """Read the records of one run in the block; yield the condition that it was not deleted: its first snapshot.

    Another process may delete the run during the block, and start a new run of the same id. The records read then
    have holes, or belong to two runs. Raises `RunNotFound` in both cases, instead of the error that they led to,
    and if the run does not exist.
    """
    keys = Keys(run_id)
    key = keys.first_snapshot
    birth = store.get(key)
    if birth is None:
        read_run_record(store, run_id)  # both records are written in one commit, and deleted in one
        key = keys.snapshot(read_first_seq(store, run_id))
        birth = store.get(key)
    if birth is None:
        raise _missing_error(store, run_id, "snapshot", f"{number_of(key)} of run {run_id!r} is missing")
    try:
        yield Check(key, birth)
    except BelugaError as error:
        if store.get(key) != birth:
            raise _deleted_error(run_id) from error
        raise
    if store.get(key) != birth:
        raise _deleted_error(run_id)


@contextmanager
def detect_contradictions(run_id: str) -> Iterator[None]:
    """Fold over the records of a run in the block. Raises `DamagedRecord` if sound records contradict each other."""
    try:
        yield
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        detail = f"of run {run_id!r} contradicts itself: {type(error).__name__}: {error}"
        raise DamagedRecord("the history", detail) from error


def check_nodes(run: Snapshot, shape: Shape) -> None:
    """Raise `DamagedRecord` if the run is at a node that its graph does not have."""
    for node in [*(token.node for token in run.tokens.values()), *(scope.node for scope in run.scopes.values())]:
        if node not in shape.nodes:
            detail = f"of run {run.run_id!r} names {node!r:.80}, which is not in its graph {shape.name!r}"
            raise DamagedRecord("the snapshot", detail)


def _missing_error(store: Store, run_id: str, what: str, detail: str) -> BelugaError:
    """Return the error for a missing record: `RunNotFound` if the run was deleted, else `DamagedRecord`."""
    return _deleted_error(run_id) if store.get(Keys(run_id).head) is None else DamagedRecord(f"the {what}", detail)


def _deleted_error(run_id: str) -> RunNotFound:
    return RunNotFound(run_id, "it was deleted while it was read")


def _unknown_error(run_id: str) -> RunNotFound:
    return RunNotFound(
        run_id, "no such run in this store; `engine.runs()`, or `beluga-graph runs`, lists those there are"
    )
