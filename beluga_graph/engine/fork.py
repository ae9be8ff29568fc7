"""Forks: a new run that begins where another one was."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from beluga_graph.codec import DamagedRecord
from beluga_graph.errors import RunConflict, StateError
from beluga_graph.events import revive
from beluga_graph.execution.state_view import AttemptState
from beluga_graph.inspection.compatibility import has_changed
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Patch, Value
from beluga_graph.plan import Plan
from beluga_graph.storage.keys import Keys, marked_digest, number_of
from beluga_graph.storage.records import PRESENT, decode_record, encode_record
from beluga_graph.storage.run_log import History, one_look, rebuild
from stores.base import Check, Op, Put, Store

__all__ = ["forked"]


def forked(
    store: Store,
    plan: Plan,
    run_id: str,
    seq: int,
    new_id: str,
    *,
    update: Mapping[str, Any],
    replace: Mapping[str, Any],
) -> tuple[Snapshot, History, list[Op]]:
    """Return the snapshot that a fork begins with, its history, and the writes that copy what it refers to.

    Raises `RunNotFound`, `RunConflict` for a step after the end, `GraphChanged`, `StateError`.
    """
    with one_look(store, run_id) as birth:
        return _forked(store, plan, run_id, seq, new_id, update, replace, birth)


def _forked(
    store: Store,
    plan: Plan,
    run_id: str,
    seq: int,
    new_id: str,
    update: Mapping[str, Any],
    replace: Mapping[str, Any],
    birth: bytes,
) -> tuple[Snapshot, History, list[Op]]:
    run, _ = rebuild(store, run_id, seq)
    if not run.tokens and not run.ended:
        raise RunConflict(run_id, "before step 1 it has not begun: fork it from a later step, or start a new run")
    if run.ended:
        raise RunConflict(run_id, f"after step {seq} it is {run.status}: fork it from an earlier step")
    has_changed(run, plan, store)  # raises if it did where the run stands; else the fork takes the new graph
    run.run_id, run.seq, run.plan = new_id, 0, plan.fingerprint
    history = History(store, new_id)
    source, target = Keys(run_id), history.keys
    changed = _Changed(run, plan, history, run_id, replace) if replace or update else None
    born = Check(source.first_snapshot, birth)  # or the source is being deleted, and the copy has holes
    ops: list[Op] = [born, *_items(store, run, run_id, target), *_marks(store, source, target)]
    ops += _unread(store, run, source, target)
    run.inbox = {}  # what was read is not copied: the fork's own signals are counted from the first
    if changed is not None:
        ops += changed.updated(update)
    return run, history, ops


def _items(store: Store, run: Snapshot, run_id: str, target: Keys) -> Iterator[Op]:
    source = Keys(run_id)
    for name, place in run.places.items():
        for field, length in place.lengths.items():
            before, after = source.channel(name, field), target.channel(name, field)
            for index in range(length):
                number = index.to_bytes(8, "big")
                blob = store.get(before + number)
                if blob is None:  # else the fork would have the hole, too
                    raise DamagedRecord("the item", f"{index} of field {field!r} of run {run_id!r} is missing")
                yield Put(after + number, encode_record(after + number, decode_record(before + number, blob)))


def _marks(store: Store, source: Keys, target: Keys) -> Iterator[Op]:
    for key, _ in store.scan(source.value_marks):
        digest = marked_digest(key)
        for mark in target.marks(digest):
            yield Put(mark, PRESENT)
        yield History.spared(digest)


def _unread(store: Store, run: Snapshot, source: Keys, target: Keys) -> Iterator[Op]:
    for key, blob in store.scan(source.signals):
        name, payload, at = decode_record(key, blob)
        position = number_of(key) - run.inbox.get(name, 0)
        if position >= 0 and not is_answer(name):  # a fork is asked anew
            copy = target.signal(name, position)
            yield Put(copy, encode_record(copy, (name, payload, at)))


class _Reader:
    """Reads the source's items while the fork's are being written."""

    def __init__(self, plan: Plan, source: History) -> None:
        self._plan, self._source = plan, source

    def decode(self, value: Value) -> Any:
        return revive(self._plan.codec, self._source.load, value)

    def encode(self, value: Any) -> bytes:
        return self._plan.encode(value)

    def items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        return self._source.items(place, field, start, stop)


class _Changed:
    """The state of the graph itself, changed for a fork."""

    def __init__(self, run: Snapshot, plan: Plan, history: History, source_id: str, replace: Mapping[str, Any]) -> None:
        """Replace fields in the snapshot: what they held is not there any more, and so not copied."""
        if plan.state is None:
            raise StateError(run.run_id, f"graph {plan.name!r} has no state to update")
        source = History(history.store, source_id)
        self._run, self._history = run, history
        self._state = AttemptState(plan.state, run, "", _Reader(plan, source), source.known_items)
        self._replaced: list[tuple[str, bytes]] = []
        place = run.places[""]
        for field, value in replace.items():
            encoded = self._state.encoded(field, value)
            if isinstance(encoded, bytes):
                place.fields[field] = encoded
                self._replaced.append((field, encoded))
            else:
                place.lengths.pop(field, None)
                place.fields[field] = plan.encode([])  # stands for the field's default, which is replaced, too
                self._state.update({field: value})

    def updated(self, update: Mapping[str, Any]) -> list[Op]:
        """Apply an update on top; return the writes of items and large values."""
        self._state.update(dict(update))
        written = self._state.written()
        run, history = self._run, self._history
        ops: list[Op] = []
        values: list[Value] = []
        changes: list[tuple[Any, ...]] = []
        for field, encoded in [*self._replaced, *written.values]:
            kept = history.put_away(encoded)
            if kept is not encoded:
                ops += history.blob_ops([(kept, encoded)])
            changes.append(("set", "", field, len(values)))
            values.append(kept)
        for field, new in written.items:
            prefix, start = history.keys.channel("", field), run.places[""].lengths.get(field, 0)
            for index, item in enumerate(new, start):
                key = prefix + index.to_bytes(8, "big")
                ops.append(Put(key, encode_record(key, item)))
            changes.append(("append", "", field, len(new)))
        run.apply(Patch(tuple(values), tuple(changes), ()))
        run.seq = 0
        return ops
