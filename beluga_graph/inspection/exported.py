"""Exported runs: all that a run needs to go on elsewhere, read from a store as of one of its steps."""

from __future__ import annotations

from beluga_graph.codec.references import REFERENCE, find_references
from beluga_graph.execution.handed_over import HandedOver
from beluga_graph.inspection.compatibility import read_shape_of
from beluga_graph.storage.loading import RunReader, detect_deletion, rebuild
from stores.base import Store

__all__ = ["read_exported"]


def read_exported(store: Store, run_id: str, seq: int | None = None, *, has_session: bool = True) -> HandedOver:
    """Return the data of a run as of step `seq`, the last by default.

    Its signals are those that the run has accepted until now and had not read then. `has_session` is whether the store
    has the messages of its session; a mirror does not. Raises `RunNotFound`, `DamagedRecord`.
    """
    reader = RunReader(store, run_id)
    with detect_deletion(store, run_id):
        run = rebuild(store, run_id, seq)
        items = {
            (name, field): tuple(reader.read_items(name, field, 0, length))
            for name, place in run.places.items()
            for field, length in place.lengths.items()
        }
        signals: dict[str, tuple[bytes, ...]] = {}
        for unread in reader.read_unread_signals(run):
            signals[unread.name] = (*signals.get(unread.name, ()), unread.payload)
        session_items = tuple(reader.read_session_items(run)) if has_session else ()
        digests = dict.fromkeys(find_references((run.to_plain(), items, signals, session_items)))
        blobs = {reference: reader.load(reference) for reference in (REFERENCE + digest for digest in digests)}
        shape = read_shape_of(store, run)
    return HandedOver(run, shape, items, signals, session_items, blobs)
