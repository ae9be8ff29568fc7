"""Records: every value in a store has a version and a checksum, and the checksum covers its key.

An index entry needs no content: its value is the one byte `PRESENT`. The value of a wakeup is 8 random bytes.
All other values are records.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.codec.records import seal, unseal
from beluga_graph.codec.references import is_reference
from beluga_graph.errors import RunConflict
from beluga_graph.storage.forms import (
    Form,
    among,
    binary,
    both,
    count,
    encoded,
    few,
    flag,
    integer,
    maybe,
    row,
    session,
    status,
    text,
    value,
)
from beluga_graph.storage.keys import Prefix, hash16
from beluga_graph.storage.shape_forms import is_shape
from beluga_graph.storage.snapshot_forms import is_snapshot
from beluga_graph.storage.step_forms import is_step

__all__ = ["PRESENT", "PRESENT_KINDS", "TIME_MAX_MS", "RunRecord", "decode_record", "encode_record", "fits"]

TIME_MAX_MS: Final = 253_370_764_799_999
"""The end of the year 9998. Calendars end a year later, in every time zone."""
PRESENT: Final = b"\x01"
"""Value of an index entry: the key says everything."""
PRESENT_KINDS: Final = frozenset(
    (
        Prefix.OPEN,
        Prefix.TIMER,
        Prefix.CANCEL,
        Prefix.MARK_BY_VALUE,
        Prefix.MARK_BY_RUN,
        Prefix.CORRELATION,
        Prefix.SCHEDULE_DUE,
        Prefix.SCHEDULE_QUEUED,
    )
)
"""Kinds whose value is `PRESENT`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunRecord:
    """Summary of a run, for lists of runs. It is written when one of its fields changes, not at every step."""

    run_id: str
    flow: str
    plan: str
    """Fingerprint of the plan."""
    status: str
    created_ms: int
    updated_ms: int
    moved_to: str = ""
    """The place at which a run goes on that has moved out of this store; empty for a run of this store.

    No engine drives a run that has moved: neither the index of open runs nor that of timers lists it."""

    def ensure_here(self) -> None:
        """Raise `RunConflict` if the run has moved."""
        if self.moved_to:
            message = f"it goes on elsewhere, at {self.moved_to}: use it there; this store lets you read and fork it"
            raise RunConflict(self.run_id, message)

    def encode(self, key: bytes) -> bytes:
        """Return the summary as the record for its key."""
        fields = (self.run_id, self.flow, self.plan, self.status, self.created_ms, self.updated_ms)
        # Earlier releases read the records of runs that have not moved, and refuse those of runs that have.
        return seal(key[0], (*fields, self.moved_to) if self.moved_to else fields, key)

    @classmethod
    def decode(cls, key: bytes, blob: bytes) -> RunRecord:
        """Return the summary from its record. Raises `DamagedRecord`, also for the summary of another run."""
        run_id, flow, plan, status, created, updated, *moved_to = decode_record(key, blob)
        if hash16(run_id) != key[1:]:
            raise DamagedRecord(f"the head at key {key!r}", f"is that of another run, {run_id!r:.80}")
        head = cls(run_id=run_id, flow=flow, plan=plan, status=status, created_ms=created, updated_ms=updated)
        return replace(head, moved_to=moved_to[0]) if moved_to else head


def encode_record(key: bytes, payload: Any) -> bytes:
    """Return a payload as the record for `key`. It is valid under that key only."""
    return seal(key[0], payload, key)


def decode_record(key: bytes, blob: bytes) -> Any:
    """Return the payload of the record at `key`. Raises `DamagedRecord`, also if it lacks the form of its kind."""
    payload = unseal(key[0], blob, key)
    if not fits(key[:1], payload):
        what = f"the record of kind {key[0]} at key {key!r}"
        raise DamagedRecord(what, f"has a good checksum but not the form of its kind: {payload!r:.80}")
    return payload


def fits(prefix: bytes, payload: Any) -> bool:
    """Return whether a payload has the form of the records whose keys begin with this prefix.

    That includes the references inside the record. Other code checks references to other records.
    """
    return _FORMS[prefix](payload, 0)


_MESSAGE = row(text, text, text, text, text, integer, encoded)
_TIME = both(count, lambda at_ms: at_ms <= TIME_MAX_MS)
_SCHEDULE = row(
    text,  # name
    text,  # flow
    row(maybe(text), maybe(both(_TIME, lambda every_ms: every_ms >= 1_000)), text, maybe(_TIME), _TIME),  # rule
    both(binary, lambda part: not is_reference(part)),  # input
    among("skip", "queue", "allow"),
    among("last", "all", "none"),
    _TIME,  # jitter
    flag,  # whether it is paused
)
_SCHEDULE_STATE = both(
    row(maybe(_TIME), maybe(_TIME), maybe(_TIME), text, few, count, maybe(_TIME), maybe(_TIME)),
    lambda parts: (parts[0] is None) == (parts[1] is None),  # a due time, and the start of its run
)
_FORMS: dict[bytes, Form] = {
    Prefix.RUN: row(text, text, text, status, integer, integer, text, optional=1),  # only of a run that has moved
    Prefix.LEASE: row(binary, count),
    Prefix.OWNER: row(text, text, integer),
    Prefix.SNAPSHOT: is_snapshot,
    Prefix.STEP: is_step,
    Prefix.ITEM: encoded,
    Prefix.VALUE: binary,
    Prefix.SHAPE: is_shape,
    Prefix.SIGNAL: row(text, value, integer),
    Prefix.SESSION: session,
    Prefix.SESSION_ITEM: encoded,
    Prefix.PARKED: count,
    Prefix.QUESTION: row(text, text, integer, value),
    Prefix.OUTBOX: _MESSAGE,
    Prefix.TOMBSTONE: row(text, binary),
    Prefix.GC_CANDIDATE: binary,
    Prefix.SCHEDULE: _SCHEDULE,
    Prefix.SCHEDULE_STATE: _SCHEDULE_STATE,
    Prefix.EVENT: _MESSAGE,
    Prefix.EVENT_ID: count,
    Prefix.CURSOR: row(text, count),
    Prefix.DEAD_LETTER: row(text, count, text, integer, integer),
    Prefix.EDGE: row(text, text, text),
    Prefix.CLAIM: binary,
}
