"""Forks: new runs that begin with the state of another run after one of its steps."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.execution.forks import check_forkable, edit_state
from beluga_graph.inspection.compatibility import has_changed
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.keys import Keys, marked_digest
from beluga_graph.storage.loading import RunReader, detect_deletion, rebuild
from beluga_graph.storage.records import PRESENT, decode_record, encode_record
from beluga_graph.storage.run_log import RunLog, unmark
from stores.base import Op, Put, Store

__all__ = ["prepare_fork"]


def prepare_fork(
    store: Store,
    plan: Plan,
    run_id: str,
    seq: int,
    new_id: str,
    *,
    update: Mapping[str, Any],
    replace: Mapping[str, Any],
) -> tuple[Snapshot, RunLog, list[Op]]:
    """Return the snapshot that a fork begins with, its log, and the writes of the data that it refers to.

    Raises `RunNotFound`, `RunConflict` for a step at which the run has not begun or has ended, `GraphChanged`,
    `StateError`, `DamagedRecord`.
    """
    with detect_deletion(store, run_id) as exists:
        run, source = rebuild(store, run_id, seq), RunReader(store, run_id)
        check_forkable(run)
        has_changed(run, plan, store)  # raises if it changed where the run is; else the fork adopts the new graph
        run.run_id, run.seq, run.plan = new_id, 0, plan.fingerprint
        edit = edit_state(run, plan, source, replace=replace, update=update) if replace or update else None
        log = RunLog(store, new_id)
        ops: list[Op] = [
            exists,  # a source that is being deleted would leave holes in the copy
            *_copy_items(store, run, source, log.keys),
            *_mark_values(store, source.keys, log.keys),
            *_copy_unread_signals(run, source, log.keys),
        ]
        run.inbox = {}  # received signals are not copied: the fork counts its own signals from the first
        if edit is not None:
            ops += [*log.blob_ops(edit.blobs), *log.item_ops(run, edit.items)]
            run.apply(edit.patch)
            run.seq = 0
        return run, log, ops


def _copy_items(store: Store, run: Snapshot, source: RunReader, target: Keys) -> Iterator[Op]:
    for name, place in run.places.items():
        for field, length in place.lengths.items():
            before, after = source.keys.channel(name, field), target.channel(name, field)
            for index in range(length):
                number = index.to_bytes(8, "big")
                blob = store.get(before + number)
                if blob is None:  # the fork must not inherit the hole
                    raise DamagedRecord("the item", f"{index} of field {field!r} of run {source.run_id!r} is missing")
                yield Put(after + number, encode_record(after + number, decode_record(before + number, blob)))


def _mark_values(store: Store, source: Keys, target: Keys) -> Iterator[Op]:
    """Yield the marks that keep the source's large values from being deleted with the source."""
    for key, _ in store.scan(source.value_marks):
        digest = marked_digest(key)
        for mark in target.marks(digest):
            yield Put(mark, PRESENT)
        yield unmark(digest)


def _copy_unread_signals(run: Snapshot, source: RunReader, target: Keys) -> Iterator[Op]:
    for name, position, payload, at_ms in source.read_unread_signals(run):
        if not is_answer(name):  # the fork asks its questions again
            copy = target.signal(name, position)
            yield Put(copy, encode_record(copy, (name, payload, at_ms)))
