"""The recorder of a run that another driver walks: writes its steps to a store with the records of the local engine.

So the inspector, `fork`, `verify` and the command line read such a run like any other. While the run goes on elsewhere,
its record names that place, and engines on the store refuse to drive it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import RunBusy, RunConflict
from beluga_graph.execution.result import AttemptResult
from beluga_graph.execution.run_ids import check_run_id
from beluga_graph.kernel.rules import answer_signal, is_answer
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, Snapshot
from beluga_graph.kernel.triggers import SignalReceived, Trigger
from beluga_graph.kernel.types import Patch, Value
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.leases import Acquisition, Lease
from beluga_graph.storage.loading import (
    detect_deletion,
    load_run,
    read_first_seq,
    read_last_seq,
    read_run_record,
    rebuild,
)
from beluga_graph.storage.records import PRESENT, RunRecord, decode_record, encode_record
from beluga_graph.storage.run_log import RunLog
from beluga_graph.storage.sessions import end_ops
from beluga_graph.storage.shapes import shape_ops
from stores.base import Conflict, Delete, Op, Put, Store

__all__ = ["RunRecorder", "read_recorded_seq"]

STEPS_AT_ONCE = 256
"""Steps that are committed together, unless `flush` is called before."""


class RunRecorder:
    """Writes one run that another driver walks to a store.

    `run` is the snapshot that the driver changes: the recorder reads it before and after each patch. `shape` is the
    graph that the driver walks. `moved_to` names the place at which the run goes on, in errors of engines on this
    store; with an empty text, engines may drive the run as soon as it is recorded. A run that has ended is at no place.

    Recording a run again is safe: steps that the store has are skipped.

    Example:
        recorder = RunRecorder(store, shape, run, at_ms=started_ms, moved_to="temporal://localhost:7233/default")
        recorder.begin()
        for trigger, patch, result in steps:
            recorder.write(trigger, patch, result, at_ms=trigger.at)
            run.apply(patch)
            recorder.commit()
        recorder.flush()
    """

    def __init__(self, store: Store, shape: Shape, run: Snapshot, *, at_ms: int, moved_to: str = "") -> None:
        self._store, self._shape, self._run = store, shape, run
        self._log = RunLog(store, check_run_id(run.run_id))
        is_over = run.status in (COMPLETED, CANCELLED)
        self._moved_to = moved_to
        self._head = RunRecord(
            run_id=run.run_id,
            flow=shape.name,
            plan=run.plan,
            status=run.status,
            created_ms=at_ms,
            updated_ms=at_ms,
            moved_to="" if is_over else moved_to,
        )
        self._lease = Lease(b"", 1)
        self._last = run.seq  # the last step that is written, or queued
        self._before = run.status  # before the step that is being written
        self._at_ms = at_ms
        self._ops: list[Op] = []
        self._queued = 0

    def begin(
        self,
        *,
        items: Mapping[tuple[str, str], Sequence[bytes]] | None = None,
        blobs: Iterable[tuple[bytes, bytes]] = (),
    ) -> None:
        """Commit the run as it is before its next step, or find it in the store.

        `items` are the encoded items that the append fields have so far, by place and field; `blobs` the references
        that run and items hold, each with its encoded value. A run whose next step is not its first is recorded from
        there on: its earlier steps stay unknown.

        Raises `RunConflict` if the store has another run with this id, one that an engine may drive, or one with
        fewer steps; `RunBusy` if another process has just recorded it.
        """
        if self._store.get(self._log.keys.head) is not None:
            self._find()
            return
        log, run = self._log, self._run
        ops: list[Op] = [*Acquisition.of_new_run(log.keys, self._lease).ops, *log.blob_ops(tuple(blobs))]
        for (place, field), encoded in (items or {}).items():
            ops += log.layer_ops(place, field, encoded)
        ops += [*log.birth_ops(run, self._head), *shape_ops(self._store, self._shape)]
        if run.seq and not run.ended:
            ops += log.question_ops(run, self._at_ms)
            if run.status != FAILED:
                ops += [Put(log.keys.timer(due, timer), PRESENT) for timer, due in run.timers.items()]
        self._commit(ops)

    @property
    def last_seq(self) -> int:
        """The last step that is recorded or queued."""
        return self._last

    def put_values(self, blobs: Iterable[tuple[bytes, bytes]]) -> None:
        """Write large values that the next step or signals refer to: each reference with its encoded value."""
        self._ops += self._log.blob_ops(tuple(blobs))

    def write(self, trigger: Trigger, patch: Patch, result: AttemptResult | None = None, *, at_ms: int) -> None:
        """Collect the writes of the next step. Call it before the run applies the patch.

        `result` is the attempt that the trigger ends: its large values, items and messages are written, too.
        """
        run = self._run
        self._before, self._at_ms = run.status, at_ms
        if run.seq < self._last:
            return
        self._ops += self._log.step_ops(run, trigger, patch, result, at_ms, self._head.created_ms)
        if isinstance(trigger, SignalReceived):
            self._ops += self._signal_ops(trigger.signal, trigger.position, trigger.value, at_ms)

    def commit(self) -> None:
        """Queue the step that was written last. Call it after the run has applied the patch.

        Raises `RunBusy` if another process records the run or drives it; record it again later.
        """
        run, log = self._run, self._log
        if run.seq <= self._last:
            return
        self._last = run.seq
        if run.status != self._before or run.plan != self._head.plan:
            moved_to = "" if run.ended else self._moved_to
            if run.plan != self._head.plan:
                self._ops += shape_ops(self._store, self._shape)
            self._head = replace(
                self._head, status=run.status, updated_ms=self._at_ms, plan=run.plan, moved_to=moved_to
            )
            if run.ended:
                self._ops += end_ops(log, Codec(Registry(), limit="max_value_bytes"), run)
            self._ops += log.status_ops(run, self._head, self._lease.epoch)
        self._ops += log.snapshot_ops(run)
        self._queued += 1
        if self._queued >= STEPS_AT_ONCE or run.ended:
            self.flush()

    def put_signal(self, name: str, position: int, value: Value, *, at_ms: int) -> None:
        """Write a signal, unless the store has it. `at_ms` is the time at which it was accepted.

        A signal that the run has read needs no such call: its step writes it. To keep its time, write it and call
        `flush` before its step.
        """
        self._ops += self._signal_ops(name, position, value, at_ms)

    def flush(self) -> None:
        """Commit the queued steps. Raises `RunBusy` as `commit` does."""
        ops, self._ops, self._queued = self._ops, [], 0
        if ops:
            self._commit([self._lease.claim(self._log.keys.lease), *ops])

    def _commit(self, ops: list[Op]) -> None:
        if self._moved_to:  # the timers fire elsewhere
            ops = [op for op in ops if op.key[:1] != Prefix.TIMER]
        try:
            self._store.commit(*ops)
        except Conflict as error:
            message = "another process records it, or an engine has taken it: record it again later"
            raise RunBusy(self._head.run_id, message) from error
        self._log.on_committed(ops)

    def _signal_ops(self, name: str, position: int, value: Value, at_ms: int) -> list[Op]:
        """Return the write of a signal, unless the store has it. An answer closes its question."""
        key = self._log.keys.signal(name, position)
        ops: list[Op] = []
        if self._store.get(key) is None:
            ops.append(Put(key, encode_record(key, (name, value, at_ms))))
        if is_answer(name):
            ops.append(Delete(self._log.keys.question(name.removeprefix(answer_signal("")))))
        return ops

    def _find(self) -> None:
        """Continue after the last recorded step of the run. Raises `RunConflict`, `RunNotFound`, `DamagedRecord`."""
        run_id, run = self._run.run_id, self._run
        with detect_deletion(self._store, run_id):
            head = read_run_record(self._store, run_id)
            stored, snapshot_bytes, steps_since = load_run(self._store, run_id)
            begun = read_first_seq(self._store, run_id)
            is_same = begun <= run.seq <= stored.seq and _are_equal(run, rebuild(self._store, run_id, run.seq))
            lease = self._store.get(self._log.keys.lease)
        if head.flow != self._shape.name or (begun <= run.seq <= stored.seq and not is_same):
            raise RunConflict(run_id, "the store has another run with this id: record into another store")
        if not is_same:
            known = f"steps {begun + 1} to {stored.seq}" if stored.seq > begun else f"step {begun} only"
            message = f"the store has {known} of it, and cannot continue with step {run.seq + 1}: prune it first"
            raise RunConflict(run_id, message)
        if bool(head.moved_to) != bool(self._moved_to) and not stored.ended:
            message = "an engine on this store may drive it" if self._moved_to else f"it has moved to {head.moved_to}"
            raise RunConflict(run_id, f"{message}: record into another store")
        self._head, self._last = head, stored.seq
        self._lease = Lease(b"", Lease.decode(self._log.keys.lease, lease).epoch if lease is not None else 1)
        self._log = RunLog(self._store, run_id, snapshot_bytes=snapshot_bytes, steps_since=steps_since)


def read_recorded_seq(store: Store, run_id: str) -> int | None:
    """Return the last step that a store has of a run; `None` if it does not have the run."""
    if store.get(Keys(check_run_id(run_id)).head) is None:
        return None
    return max(read_last_seq(store, run_id), read_first_seq(store, run_id))


def _are_equal(first: Snapshot, second: Snapshot) -> bool:
    """Return whether two snapshots are stored as equal records."""
    key = Prefix.SNAPSHOT
    plain = [decode_record(key, encode_record(key, run.to_plain())) for run in (first, second)]
    return bool(plain[0] == plain[1])
