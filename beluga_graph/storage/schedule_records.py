"""The records of a schedule: its definition, which callers write, and its state, which each due time changes.

Every change checks both records as they were read, and keeps the index of due times equal to the state. So of several
processes that act on one due time, one commits, and the others read again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass, fields, replace

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.execution.schedule_rules import (
    CatchUp,
    Overlap,
    ScheduleRule,
    check_schedule_name,
    jitter_delay_ms,
    run_id_at,
)
from beluga_graph.storage.keys import Prefix, due_of, hash16, number_of
from beluga_graph.storage.records import PRESENT, TIME_MAX_MS, decode_record, encode_record
from stores.base import Check, Delete, Op, Put, Store

__all__ = [
    "QUEUE_LENGTH_MAX",
    "Schedule",
    "ScheduleState",
    "StoredSchedule",
    "check_queued_key",
    "create_ops",
    "erase_ops",
    "find_schedule",
    "iter_due",
    "iter_queues",
    "iter_schedules",
    "next_state",
    "read_schedule",
]

QUEUE_LENGTH_MAX = 1_000
"""Starts that may wait for the previous run of a schedule. Further due times are skipped."""


_QUEUED_KEY_BYTES = 25


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """The definition of a schedule."""

    name: str
    flow: str
    """Name of the flow. It is never imported: an engine that has registered a flow of this name starts the runs."""
    rule: ScheduleRule
    value: bytes
    """The input of each run, encoded."""
    overlap: Overlap
    catch_up: CatchUp
    jitter_ms: int
    is_paused: bool = False

    def run_id(self, due_ms: int) -> str:
        """Return the id of the run of a due time."""
        return run_id_at(self.name, self.rule, due_ms)

    def start_ms(self, due_ms: int) -> int:
        """Return the time at which the run of a due time starts: later by the jitter."""
        if not self.jitter_ms:
            return due_ms
        after = self.rule.find_next(due_ms)
        return due_ms + jitter_delay_ms(self.run_id(due_ms), self.jitter_ms, None if after is None else after - due_ms)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleState:
    """The progress of a schedule. Times are milliseconds since the epoch."""

    due_ms: int | None
    """The next due time; `None` if there is none."""
    start_ms: int | None
    """The time at which its run starts: later by the jitter."""
    last_due_ms: int | None = None
    """The last due time that came: its run was started, queued or skipped."""
    last_run: str = ""
    """Id of the run that was started last; empty if there is none."""
    queued: int = 0
    """Number of due times whose run waits for the previous one."""
    skipped: int = 0
    """Number of due times that were skipped, because the previous run had not ended."""
    last_skipped_ms: int | None = None
    """The last due time that was skipped."""
    last_missed_ms: int | None = None
    """The last due time that no engine began in time, and that was not made up for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredSchedule:
    """A schedule as it was read."""

    schedule: Schedule
    state: ScheduleState
    checks: tuple[Check, Check]
    """The conditions that both records are as they were read."""

    def replace_ops(self, schedule: Schedule, state: ScheduleState) -> list[Op]:
        """Return the operations that replace the schedule and its state, if both are as they were read."""
        return [*self.checks, *self._unindex_ops(), *_schedule_ops(schedule), *_state_ops(schedule, state)]

    def advance_ops(self, state: ScheduleState) -> list[Op]:
        """Return the operations that replace the state, if the schedule and its state are as they were read."""
        return [*self.checks, *self._unindex_ops(), *_state_ops(self.schedule, state)]

    def delete_ops(self, store: Store) -> list[Op]:
        """Return the operations that delete the schedule with all that belongs to it, if it is as it was read."""
        keys = (*(check.key for check in self.checks), *(key for key, _ in store.scan(self._queue_prefix)))
        return [*self.checks, *self._unindex_ops(), *map(Delete, keys)]

    def queue_op(self, due_ms: int) -> Put:
        """Return the operation that queues the run of a due time."""
        return Put(self._queue_prefix + due_ms.to_bytes(8, "big"), PRESENT)

    def unqueue_op(self, due_ms: int) -> Delete:
        """Return the operation that takes the run of a due time out of the queue."""
        return Delete(self._queue_prefix + due_ms.to_bytes(8, "big"))

    def find_queued(self, store: Store) -> int | None:
        """Return the oldest due time in the queue; `None` if the queue is empty. Raises `DamagedRecord`."""
        found = next(iter(store.scan(self._queue_prefix, limit=1)), None)
        if found is None:
            return None
        check_queued_key(found[0])
        return number_of(found[0])

    @property
    def index_key(self) -> bytes | None:
        """Key of its entry in the index of due times; `None` while it is paused, and when it is not due any more."""
        return _index_key(self.schedule, self.state)

    @property
    def _queue_prefix(self) -> bytes:
        return Prefix.SCHEDULE_QUEUED + hash16(self.schedule.name)

    def _unindex_ops(self) -> list[Op]:
        key = self.index_key
        return [Delete(key)] if key is not None else []


def create_ops(schedule: Schedule, state: ScheduleState) -> list[Op]:
    """Return the operations that create a schedule, if there is none of its name."""
    return [Check(_key(schedule.name), None), *_schedule_ops(schedule), *_state_ops(schedule, state)]


def next_state(schedule: Schedule, state: ScheduleState, at_ms: int) -> ScheduleState:
    """Return a state in which the schedule is next due after a time. Raises as `ScheduleRule.find_next` does."""
    due_ms = schedule.rule.find_next(at_ms)
    if due_ms is None or due_ms > TIME_MAX_MS:
        return replace(state, due_ms=None, start_ms=None)
    return replace(state, due_ms=due_ms, start_ms=schedule.start_ms(due_ms))


# Reading.


def read_schedule(store: Store, schedule_hash: bytes) -> StoredSchedule | None:
    """Return the schedule with this hash of its name; `None` if there is none. Raises `DamagedRecord`."""
    key, state_key = Prefix.SCHEDULE + schedule_hash, Prefix.SCHEDULE_STATE + schedule_hash
    while (blob := store.get(key)) is not None:
        state_blob = store.get(state_key)
        if state_blob is not None:
            schedule = _decode(key, blob)
            state = ScheduleState(**dict(zip(_STATE_FIELDS, decode_record(state_key, state_blob), strict=True)))
            return StoredSchedule(
                schedule=schedule, state=state, checks=(Check(key, blob), Check(state_key, state_blob))
            )
        if store.get(key) == blob and store.get(state_key) is None:  # else it was deleted or replaced meanwhile
            raise DamagedRecord(
                f"schedule {_decode(key, blob).name!r}", "has no state: unschedule it, and schedule it again"
            )
    return None


def find_schedule(store: Store, name: str) -> StoredSchedule | None:
    """Return the schedule of a name; `None` if there is none. Raises `DamagedRecord`."""
    return read_schedule(store, hash16(name))


def erase_ops(store: Store, name: str) -> list[Op]:
    """Return the operations that delete all records of a schedule, whatever they contain."""
    schedule_hash = hash16(name)
    due = (key for key, _ in store.scan(Prefix.SCHEDULE_DUE) if key[9:] == schedule_hash)
    queued = (key for key, _ in store.scan(Prefix.SCHEDULE_QUEUED + schedule_hash))
    return [Delete(key) for key in (_key(name), Prefix.SCHEDULE_STATE + schedule_hash, *due, *queued)]


def iter_schedules(store: Store) -> Iterator[StoredSchedule]:
    """Yield all schedules. Raises `DamagedRecord`."""
    for key, _ in store.scan(Prefix.SCHEDULE):
        found = read_schedule(store, key[1:])
        if found is not None:
            yield found


def iter_due(store: Store) -> Iterator[tuple[int, bytes]]:
    """Yield the time of each schedule at which its next run starts, and the hash of its name, the earliest first."""
    for key, _ in store.scan(Prefix.SCHEDULE_DUE):
        yield due_of(key), key[9:]


def iter_queues(store: Store) -> Iterator[bytes]:
    """Yield the hashes of the schedules that have starts in their queues."""
    start = Prefix.SCHEDULE_QUEUED
    while (found := next(iter(store.scan(Prefix.SCHEDULE_QUEUED, start=start, limit=1)), None)) is not None:
        schedule_hash = found[0][1:17]
        yield schedule_hash
        start = max(found[0] + b"\x00", Prefix.SCHEDULE_QUEUED + schedule_hash + b"\xff" * 9)  # past it in any case


def check_queued_key(key: bytes) -> None:
    """Raise `DamagedRecord` for a key in the queues of schedules that ends with no time: it could not be taken out."""
    if len(key) != _QUEUED_KEY_BYTES or number_of(key) > TIME_MAX_MS:
        raise DamagedRecord(f"the queued start at key {key!r:.80}", "names no time: unschedule its schedule")


def _decode(key: bytes, blob: bytes) -> Schedule:
    name, flow, rule, value, overlap, catch_up, jitter_ms, is_paused = decode_record(key, blob)
    if _key(name) != key:
        raise DamagedRecord(f"the schedule at key {key!r}", f"is another one, {name!r:.80}")
    cron, every_ms, timezone, start_ms, given_ms = rule
    if (cron is None) == (every_ms is None):
        raise DamagedRecord(f"schedule {name!r:.80}", "has no rule, or two")
    try:
        check_schedule_name(name)
    except ValueError as error:
        raise DamagedRecord("a schedule", str(error)) from None
    return Schedule(
        name=name,
        flow=flow,
        rule=ScheduleRule(cron=cron, every_ms=every_ms, timezone=timezone, start_ms=start_ms, given_ms=given_ms),
        value=value,
        overlap=overlap,
        catch_up=catch_up,
        jitter_ms=jitter_ms,
        is_paused=is_paused,
    )


# Writing.

_STATE_FIELDS = tuple(field.name for field in fields(ScheduleState))


def _key(name: str) -> bytes:
    return Prefix.SCHEDULE + hash16(name)


def _index_key(schedule: Schedule, state: ScheduleState) -> bytes | None:
    """Return the key of the index entry; `None` for a schedule that is paused, or not due any more."""
    if schedule.is_paused or state.start_ms is None:
        return None
    return Prefix.SCHEDULE_DUE + state.start_ms.to_bytes(8, "big") + hash16(schedule.name)


def _schedule_ops(schedule: Schedule) -> list[Op]:
    key, rule = _key(schedule.name), schedule.rule
    row = (
        schedule.name,
        schedule.flow,
        (rule.cron, rule.every_ms, rule.timezone, rule.start_ms, rule.given_ms),
        schedule.value,
        schedule.overlap,
        schedule.catch_up,
        schedule.jitter_ms,
        schedule.is_paused,
    )
    return [Put(key, encode_record(key, row))]


def _state_ops(schedule: Schedule, state: ScheduleState) -> list[Op]:
    key, index = Prefix.SCHEDULE_STATE + hash16(schedule.name), _index_key(schedule, state)
    ops: list[Op] = [Put(key, encode_record(key, astuple(state)))]
    return ops if index is None else [*ops, Put(index, PRESENT)]
