"""The history of one run on disk: its steps, snapshots, items and large values.

Everything that a step changes goes to the store in one commit. A full snapshot is written when the steps
since the last one outweigh it, so the whole stays within a constant of what changed, and a resume reads
little more than the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from beluga_graph.codec import DamagedRecord
from beluga_graph.errors import BelugaError, RunNotFound
from beluga_graph.execution.items import KnownItems
from beluga_graph.execution.result import AttemptResult, NewItems
from beluga_graph.kernel import ops as kinds
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, Snapshot, Token
from beluga_graph.kernel.triggers import (
    NodeFailed,
    NodeFinished,
    RunForked,
    SignalReceived,
    TimerFired,
    TrialBegun,
    TrialBrokenOff,
    Trigger,
)
from beluga_graph.kernel.types import Patch
from beluga_graph.storage.keys import REFERENCE, Keys, Prefix, is_reference, number_of, shape_key
from beluga_graph.storage.outbox_records import published_ops
from beluga_graph.storage.records import PRESENT, RunRecord, decode_record, encode_record
from beluga_graph.storage.sessions import session_items
from stores.base import Check, Delete, Op, Put, Store

__all__ = [
    "History",
    "Stored",
    "check_nodes",
    "folding",
    "last_seq",
    "one_look",
    "read_head",
    "read_shape",
    "read_steps",
    "rebuild",
    "shape_op",
]

INLINE_BYTES = 8 * 1024  # longer values are stored once, under their digest
SNAPSHOT_STEPS = 64
SNAPSHOT_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Stored:
    """One step as it lies on disk."""

    seq: int
    at_ms: int
    trigger: str
    token: str
    attempt: int
    patch: Patch


class History:
    """One run's records. Builds the operations of a commit; reads what attempts ask for."""

    __slots__ = (
        "_ahead",
        "_blobs",
        "_since_bytes",
        "_since_steps",
        "_size",
        "keys",
        "known_items",
        "memo",
        "run_id",
        "store",
    )

    def __init__(self, store: Store, run_id: str, *, size: int = 0, steps_since: int = 0) -> None:
        self.store = store
        self.run_id = run_id
        self.keys = Keys(run_id)
        self.memo: dict[Any, Any] = {}
        self.known_items = KnownItems()
        self._ahead: dict[bytes, bytes] = {}  # what was produced and is not committed yet
        self._blobs: set[bytes] = set()  # large values that this run refers to
        self._size = size  # of the last full snapshot
        self._since_bytes = size if steps_since >= SNAPSHOT_STEPS else 0
        self._since_steps = steps_since

    # Reading.

    def load(self, value: bytes) -> bytes:
        """Return an encoded value whole, following a reference."""
        if not is_reference(value):
            return value
        key = Prefix.VALUE + value[1:]
        found = self._ahead.get(key) or self.store.get(key)
        if found is None:
            raise _lost(self.store, self.run_id, "value", f"{value[1:].hex()} of run {self.run_id!r} is missing")
        blob: bytes = decode_record(key, found)
        return blob

    def put_away(self, encoded: bytes) -> bytes:
        """Return what stands for an encoded value: itself, or a reference by digest if it is large."""
        return encoded if len(encoded) <= INLINE_BYTES else REFERENCE + sha256(encoded).digest()

    def session_items(self, run: Snapshot, start: int = 0) -> Iterator[bytes]:
        """Yield the encoded messages that the run's session began with, from `start` on."""
        return session_items(self.store, run, start)

    def mark_of(self, item: bytes, owner: bytes) -> bytes | None:
        """Return the key that says another owner refers to what a reference stands for; `None` for a plain value."""
        return Prefix.MARK_BY_VALUE + item[1:] + owner if is_reference(item) else None

    def items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items `start` to `stop` of an append field's layer."""
        prefix = self.keys.channel(place, field)
        for index in range(start, stop):
            key = prefix + index.to_bytes(8, "big")
            found = self._ahead.get(key) or self.store.get(key)
            if found is None:
                detail = f"{index} of field {field!r} of run {self.run_id!r} is missing"
                raise _lost(self.store, self.run_id, "item", detail)
            item: bytes = decode_record(key, found)
            yield item

    # Writing.

    def step_ops(
        self, run: Snapshot, trigger: Trigger, patch: Patch, ended: AttemptResult | None, at: int, created_ms: int
    ) -> list[Op]:
        """Return what the next step writes. Call it before `run` applies the patch: it needs to know the past."""
        key = self.keys.step(run.seq + 1)
        record = encode_record(key, (at, *_trigger_fields(trigger), *patch))
        ops: list[Op] = [Check(key, None), Put(key, record)]
        self._since_bytes += len(record)
        self._since_steps += 1
        if ended is not None:
            if ended.blobs:
                ops += self.blob_ops(ended.blobs)
            if ended.items:
                ops += self.item_ops(run, ended.items)
            # Without a finished step, the route was refused and the attempt has failed.
            if ended.messages and (kinds.COUNT_STEP,) in patch.ops:
                ops += published_ops(self.keys, run, ended.trigger.token, ended.messages, at, created_ms)
        if isinstance(trigger, RunForked):  # what the source was asked, the fork is asked anew
            ops += [self._question(run.tokens[token], at) for token in _asking(run)]
        return ops + self._index_ops(run, patch, at)

    def snapshot_ops(self, run: Snapshot, *, force: bool = False) -> list[Op]:
        """Return the write of a full snapshot if the steps since the last one outweigh it. Call it after `apply`."""
        enough = self._since_steps >= SNAPSHOT_STEPS or self._since_bytes >= SNAPSHOT_BYTES
        if not force and not (enough and self._since_bytes >= self._size):
            return []
        key = self.keys.snapshot(run.seq)
        record = encode_record(key, run.to_plain())
        self._size, self._since_bytes, self._since_steps = len(record), 0, 0
        return [Put(key, record)]

    def silenced(self) -> list[Op]:
        """Return what takes the run's doorbells away: the whole run is about to be looked at, or has ended."""
        return [Delete(key) for key, _ in self.store.scan(self.keys.wakeup)]

    def committed(self, ops: Sequence[Op]) -> None:
        """Forget what a commit has brought to the store."""
        if self._ahead:
            for op in ops:
                self._ahead.pop(op.key, None)

    def blob_ops(self, blobs: Sequence[tuple[bytes, bytes]]) -> list[Op]:
        """Return the writes of large values, each once; what they are is readable from now on."""
        ops: list[Op] = []
        for reference, encoded in blobs:
            digest = reference[1:]
            if digest in self._blobs:
                continue
            self._blobs.add(digest)
            by_value, by_run = self.keys.marks(digest)
            if self.store.get(by_run) is None:
                key = Prefix.VALUE + digest
                self._ahead[key] = record = encode_record(key, encoded)
                ops += [Put(by_value, PRESENT), Put(by_run, PRESENT), Put(key, record), self.spared(digest)]
        return ops

    @staticmethod
    def spared(digest: bytes) -> Op:
        """Return what lifts the doom of a large value: it belongs to every commit that refers to one."""
        return Delete(Prefix.GC_CANDIDATE + digest)

    def item_ops(self, run: Snapshot, items: Sequence[NewItems]) -> list[Op]:
        """Return the writes of new items. Call it before `run` applies the patch: it needs the lengths so far."""
        ops: list[Op] = []
        for place, field, new in items:
            prefix = self.keys.channel(place, field)
            start = run.places[place].lengths.get(field, 0)
            for index, item in enumerate(new, start):
                key = prefix + index.to_bytes(8, "big")
                self._ahead[key] = record = encode_record(key, item)
                ops.append(Put(key, record))
        return ops

    def _index_ops(self, run: Snapshot, patch: Patch, at: int) -> list[Op]:
        """Keep the index of timers of runs that go on, and that of questions of runs that have not ended."""
        ops: list[Op] = []
        placed: dict[str, Token] | None = None  # read once for all waits: a fan-out may ask ten thousand questions
        for op in patch.ops:
            kind, *operands = op
            if kind == kinds.ARM_TIMER:
                timer, due = operands
                ops.append(Put(self.keys.timer(due, timer), PRESENT))
            elif kind == kinds.DISARM_TIMER:
                (timer,) = operands
                ops.append(Delete(self.keys.timer(run.timers[timer], timer)))
            elif kind in (kinds.ADD_WAIT, kinds.REMOVE_WAIT) and is_answer(operands[0]):
                _, token = operands
                if kind == kinds.REMOVE_WAIT:
                    ops.append(Delete(self.keys.question(token)))
                else:
                    placed = _placed(patch) if placed is None else placed
                    ops.append(self._question(placed.get(token) or run.tokens[token], at))
            elif kind == kinds.SET_STATUS and operands[0] in (COMPLETED, FAILED, CANCELLED):
                armed = [(new[1], new[2]) for new in patch.ops if new[0] == kinds.ARM_TIMER]  # by this step
                ops += [Delete(self.keys.timer(due, timer)) for timer, due in (*run.timers.items(), *armed)]
                if operands[0] == CANCELLED:  # a run that completed has no token left, one that failed keeps them
                    ops += [Delete(self.keys.question(token)) for token in _asking(run)]
            elif kinds.clears_error(op):
                ops += [Put(self.keys.timer(due, timer), PRESENT) for timer, due in run.timers.items()]
        return ops

    def _question(self, token: Token, at: int) -> Op:
        key = self.keys.question(token.name)
        return Put(key, encode_record(key, (token.name, token.node, at, token.value)))


def _asking(run: Snapshot) -> list[str]:
    """Return the tokens that wait for a person's answer."""
    return [token for signal, tokens in run.waits.items() if is_answer(signal) for token in tokens]


def _placed(patch: Patch) -> dict[str, Token]:
    """Return the tokens that a patch puts, by name."""
    rows = ((kinds.token_name(op), *op) for op in patch.ops if op[0] == kinds.PUT_TOKEN)
    return {name: Token(name, node, place, patch.values[i], state) for name, _, place, node, _, _, i, state, _ in rows}


def _trigger_fields(trigger: Trigger) -> tuple[str, str, int]:
    kind = type(trigger).__name__
    if isinstance(trigger, NodeFinished):
        return kind, trigger.token, trigger.attempt
    if isinstance(trigger, NodeFailed | TrialBegun | TrialBrokenOff):
        return kind, trigger.token, trigger.attempt
    if isinstance(trigger, TimerFired):
        return kind, trigger.timer, 0
    if isinstance(trigger, RunForked):
        return kind, trigger.source, trigger.seq
    if isinstance(trigger, SignalReceived):
        return kind, trigger.signal, trigger.position
    return kind, "", 0


def read_steps(store: Store, run_id: str, after: int = 0, until: int | None = None) -> Iterator[Stored]:
    """Yield the committed steps `after` < seq <= `until`, in order. Raises `DamagedRecord`."""
    keys = Keys(run_id)
    expected = after + 1
    for key, blob in store.scan(keys.steps, start=keys.step(after + 1)):
        seq = number_of(key)
        if until is not None and seq > until:
            return
        if seq != expected:
            raise _lost(store, run_id, "step", f"{expected} of run {run_id!r} is missing")
        expected += 1
        at, kind, token, attempt, values, ops, events = decode_record(key, blob)
        yield Stored(seq, at, kind, token, attempt, Patch(values, ops, events))


def rebuild(store: Store, run_id: str, seq: int | None = None) -> tuple[Snapshot, History]:
    """Return a run as of step `seq` (the last by default): the newest full snapshot before it, and the steps since.

    No plan is consulted and no user code is needed. Raises `RunNotFound`, `DamagedRecord`.
    """
    if seq is not None and not 0 <= seq < 2**63:
        raise RunNotFound(run_id, f"it has no step {seq}: steps are counted from 1")
    keys = Keys(run_id)
    newest = keys.snapshot(2**63 if seq is None else seq)
    found = next(iter(store.scan(keys.snapshots, start=newest, reverse=True, limit=1)), None)
    if found is None:
        raise RunNotFound(
            run_id, "no such run in this store; `engine.runs()`, or `beluga-graph runs`, lists those there are"
        )
    key, blob = found
    run = Snapshot.from_plain(decode_record(key, blob))
    if (run.run_id, run.seq) != (run_id, number_of(key)):
        raise DamagedRecord(
            "the snapshot", f"of run {run_id!r} at key {key!r} is that of {run.run_id!r:.80}, step {run.seq}"
        )
    steps = 0
    with folding(run_id):
        for step in read_steps(store, run_id, run.seq, seq):
            run.apply(step.patch)
            steps += 1
    if seq is not None and run.seq != seq:
        raise RunNotFound(run_id, f"it has no step {seq}: its last is {run.seq}")
    return run, History(store, run_id, size=len(blob), steps_since=steps)


def read_head(store: Store, run_id: str) -> RunRecord:
    """Return what is known of a run without reading it. Raises `RunNotFound`, `DamagedRecord`."""
    key = Keys(run_id).head
    blob = store.get(key)
    if blob is None:
        raise RunNotFound(
            run_id, "no such run in this store; `engine.runs()`, or `beluga-graph runs`, lists those there are"
        )
    return RunRecord.decode(key, blob)


def last_seq(store: Store, run_id: str) -> int:
    """Return how many steps of a run are on disk."""
    last = next(iter(store.scan(Keys(run_id).steps, reverse=True, limit=1)), None)
    return 0 if last is None else number_of(last[0])


@contextmanager
def one_look(store: Store, run_id: str) -> Iterator[bytes]:
    """Read the records of one run, which is there all the time; yield the record that it was born with.

    Records are read one by one, and another process may delete the run meanwhile, and start another one of its id.
    What was read then has holes, or is of two runs: neither is damage. Raises `RunNotFound` for a run that is not
    there, or not any more, in place of what that led to.
    """
    key = Keys(run_id).first_snapshot
    birth = store.get(key)
    if birth is None:
        read_head(store, run_id)  # a run has both from one commit on, and loses both in one
        birth = store.get(key)
    if birth is None:
        raise _lost(store, run_id, "snapshot", f"0 of run {run_id!r} is missing")
    try:
        yield birth
    except BelugaError as error:
        if store.get(key) != birth:
            raise _deleted(run_id) from error
        raise
    if store.get(key) != birth:
        raise _deleted(run_id)


@contextmanager
def folding(run_id: str) -> Iterator[None]:
    """Fold over the records of a run. Each may be sound and contradict another: then `DamagedRecord` is raised."""
    try:
        yield
    except (AssertionError, AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        detail = f"of run {run_id!r} contradicts itself: {type(error).__name__}: {error}"
        raise DamagedRecord("the history", detail) from error


def check_nodes(run: Snapshot, shape: Shape) -> None:
    """Refuse a run that stands at nodes which its graph has not. Raises `DamagedRecord`."""
    for node in [*(token.node for token in run.tokens.values()), *(scope.node for scope in run.scopes.values())]:
        if node not in shape.nodes:
            detail = f"of run {run.run_id!r} names {node!r:.80}, which is not in its graph {shape.name!r}"
            raise DamagedRecord("the snapshot", detail)


def _lost(store: Store, run_id: str, what: str, detail: str) -> BelugaError:
    """Return what to raise for a record that a run should have: if the run is deleted, nothing is damaged."""
    return _deleted(run_id) if store.get(Keys(run_id).head) is None else DamagedRecord(f"the {what}", detail)


def _deleted(run_id: str) -> RunNotFound:
    return RunNotFound(run_id, "it was deleted while it was read")


def shape_op(store: Store, shape: Shape) -> list[Op]:
    """Return the write of a plan's shape, unless it is stored."""
    key = shape_key(shape.fingerprint)
    return [] if store.get(key) is not None else [Put(key, encode_record(key, shape.to_plain()))]


def read_shape(store: Store, fingerprint: str) -> Shape | None:
    """Return the stored shape of a fingerprint. Raises `DamagedRecord`."""
    key = shape_key(fingerprint)
    blob = store.get(key)
    if blob is None:
        return None
    shape = Shape.from_plain(decode_record(key, blob))
    if shape.fingerprint != fingerprint:
        raise DamagedRecord("the shape", f"{fingerprint} is that of {shape.fingerprint!r:.80}")
    return shape
