"""The log of one run: the writes of its steps, snapshots, items and large values.

Everything that a step changes goes to the store in one commit. A full snapshot is written when the steps since
the last one outweigh it. So the records stay within a constant factor of the changes, and a resume reads little
more than the snapshot.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from beluga_graph.codec.references import is_reference
from beluga_graph.execution.result import AttemptResult, NewItems
from beluga_graph.kernel import ops as kinds
from beluga_graph.kernel.rules import is_answer
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
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.loading import RunReader, load_run
from beluga_graph.storage.outbox_records import message_ops
from beluga_graph.storage.records import PRESENT, RunRecord, encode_record
from stores.base import Check, Delete, Op, Put, Store

__all__ = ["RunLog", "open_log", "reference_ops", "unmark"]

SNAPSHOT_STEPS = 64
SNAPSHOT_BYTES = 64 * 1024

_INDEXED = frozenset(  # kinds of operations that may change an index
    (kinds.ARM_TIMER, kinds.DISARM_TIMER, kinds.ADD_WAIT, kinds.REMOVE_WAIT, kinds.SET_STATUS, kinds.SET_ERROR)
)


class RunLog:
    """Builds the writes of one run's commits, and keeps the reader that sees them before they are committed."""

    __slots__ = ("_blobs", "_since_bytes", "_since_steps", "_size", "keys", "reader", "run_id", "store")

    def __init__(self, store: Store, run_id: str, *, snapshot_bytes: int = 0, steps_since: int = 0) -> None:
        self.store = store
        self.run_id = run_id
        self.reader = RunReader(store, run_id)
        self.keys = self.reader.keys
        self._blobs: set[bytes] = set()  # digests of large values that this run refers to
        self._size = snapshot_bytes  # of the last full snapshot
        self._since_bytes = snapshot_bytes if steps_since >= SNAPSHOT_STEPS else 0
        self._since_steps = steps_since

    def birth_ops(self, run: Snapshot, head: RunRecord) -> list[Op]:
        """Return the writes with which a run enters the store: its summary, index entry and first snapshot."""
        ops: list[Op] = [Put(self.keys.head, head.encode(self.keys.head)), *self.snapshot_ops(run, force=True)]
        return ops if head.moved_to else [Put(self.keys.open, PRESENT), *ops]

    def status_ops(self, run: Snapshot, head: RunRecord, epoch: int) -> list[Op]:
        """Return the writes after a step that changed the status or the graph of a run; `head` has the new ones.

        A run that has ended or failed gives back its lease, which has this epoch. Call it after `apply`.
        """
        keys = self.keys
        ops: list[Op] = [Put(keys.head, head.encode(keys.head))]
        if run.ended:
            ops += [*self.clear_wakeup_ops(), Delete(keys.cancel)]
        if run.status in (COMPLETED, FAILED, CANCELLED):
            ops += [Delete(keys.open), Put(keys.lease, Lease(b"", epoch).encode(keys.lease))]
        elif not head.moved_to:
            ops.append(Put(keys.open, PRESENT))
        return ops

    def step_ops(
        self, run: Snapshot, trigger: Trigger, patch: Patch, ended: AttemptResult | None, at: int, created_ms: int
    ) -> list[Op]:
        """Return the writes of the next step. Call it before `run` applies the patch: it needs the state before it."""
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
                ops += message_ops(self.keys, run, ended.trigger.token, ended.messages, at, created_ms)
        if isinstance(trigger, RunForked):  # a fork asks the pending questions of its source again
            ops += self.question_ops(run, at)
        ops += self._index_ops(run, patch, at)
        return ops

    def snapshot_ops(self, run: Snapshot, *, force: bool = False) -> list[Op]:
        """Return the write of a full snapshot if the steps since the last one outweigh it. Call it after `apply`."""
        enough = self._since_steps >= SNAPSHOT_STEPS or self._since_bytes >= SNAPSHOT_BYTES
        if not force and not (enough and self._since_bytes >= self._size):
            return []
        key = self.keys.snapshot(run.seq)
        record = encode_record(key, run.to_plain())
        self._size, self._since_bytes, self._since_steps = len(record), 0, 0
        return [Put(key, record)]

    def clear_wakeup_ops(self) -> list[Op]:
        """Return the deletes of the run's wakeups: the whole run is about to be read, or has ended."""
        return [Delete(key) for key, _ in self.store.scan(self.keys.wakeup)]

    def on_committed(self, ops: Sequence[Op]) -> None:
        """Called after a commit: its records are read from the store from now on."""
        uncommitted = self.reader.uncommitted
        if uncommitted:
            for op in ops:
                uncommitted.pop(op.key, None)

    def blob_ops(self, blobs: Sequence[tuple[bytes, bytes]]) -> list[Op]:
        """Return the writes of large values, each once. The reader finds the values from now on."""
        ops: list[Op] = []
        for reference, encoded in blobs:
            digest = reference[1:]
            if digest in self._blobs:
                continue
            self._blobs.add(digest)
            by_value, by_run = self.keys.marks(digest)
            if self.store.get(by_run) is None:
                key = Prefix.VALUE + digest
                self.reader.uncommitted[key] = record = encode_record(key, encoded)
                ops += [Put(by_value, PRESENT), Put(by_run, PRESENT), Put(key, record), unmark(digest)]
        return ops

    def item_ops(self, run: Snapshot, items: Sequence[NewItems]) -> list[Op]:
        """Return the writes of new items. Call it before `run` applies the patch: it needs the lengths so far."""
        ops: list[Op] = []
        for place, field, new in items:
            ops += self.layer_ops(place, field, new, run.places[place].lengths.get(field, 0))
        return ops

    def layer_ops(self, place: str, field: str, items: Iterable[bytes], start: int = 0) -> list[Op]:
        """Return the writes of items of one append field's layer, from index `start` on."""
        ops: list[Op] = []
        prefix = self.keys.channel(place, field)
        for index, item in enumerate(items, start):
            key = prefix + index.to_bytes(8, "big")
            self.reader.uncommitted[key] = record = encode_record(key, item)
            ops.append(Put(key, record))
        return ops

    def question_ops(self, run: Snapshot, at: int) -> list[Op]:
        """Return the writes that list the pending questions of a run whose earlier steps are not in this store."""
        return [self._question_op(run.tokens[token], at) for token in _waiting_for_answer(run)]

    def _index_ops(self, run: Snapshot, patch: Patch, at: int) -> list[Op]:
        """Return the changes of two indexes: timers of runs that have not ended, and pending questions."""
        ops: list[Op] = []
        created: dict[str, Token] | None = None  # built once for all waits: a fan-out may ask ten thousand questions
        for op in patch.ops:
            if op[0] not in _INDEXED:
                continue
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
                    created = _created_tokens(patch) if created is None else created
                    ops.append(self._question_op(created.get(token) or run.tokens[token], at))
            elif kind == kinds.SET_STATUS and operands[0] in (COMPLETED, FAILED, CANCELLED):
                armed = [operands for kind, *operands in patch.ops if kind == kinds.ARM_TIMER]  # by this step
                ops += [Delete(self.keys.timer(due, timer)) for timer, due in (*run.timers.items(), *armed)]
                if operands[0] == CANCELLED:  # a completed run has no tokens, and a failed run keeps its questions
                    ops += [Delete(self.keys.question(token)) for token in _waiting_for_answer(run)]
            elif kind == kinds.SET_ERROR and kinds.clears_error(op):
                ops += [Put(self.keys.timer(due, timer), PRESENT) for timer, due in run.timers.items()]
        return ops

    def _question_op(self, token: Token, at: int) -> Op:
        key = self.keys.question(token.name)
        return Put(key, encode_record(key, (token.name, token.node, at, token.value)))


def open_log(store: Store, run_id: str) -> tuple[Snapshot, RunLog]:
    """Return a run as of its last step, and its log. Raises `RunNotFound`, `DamagedRecord`."""
    run, snapshot_bytes, steps_since = load_run(store, run_id)
    return run, RunLog(store, run_id, snapshot_bytes=snapshot_bytes, steps_since=steps_since)


def unmark(digest: bytes) -> Op:
    """Return the delete of a large value's garbage mark. Every commit that refers to a large value includes it."""
    return Delete(Prefix.GC_CANDIDATE + digest)


def reference_ops(item: bytes, owner: bytes) -> list[Op]:
    """Return the writes with which another owner refers to the large value behind an item; none for a plain one."""
    if not is_reference(item):
        return []
    digest = item[1:]
    return [Put(Prefix.MARK_BY_VALUE + digest + owner, PRESENT), unmark(digest)]


def _waiting_for_answer(run: Snapshot) -> list[str]:
    """Return the tokens that wait for a person's answer."""
    return [token for signal, tokens in run.waits.items() if is_answer(signal) for token in tokens]


def _created_tokens(patch: Patch) -> dict[str, Token]:
    """Return the tokens that a patch creates, by name."""
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
