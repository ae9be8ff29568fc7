"""Unread signals: those that a run has accepted and not read, and the waits that they will serve."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from beluga_graph.kernel.listener_list import is_listener
from beluga_graph.kernel.listeners import pick_receiver
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.storage.loading import RunReader
from stores.base import Store

__all__ = ["count_unread", "find_served"]


def count_unread(store: Store, run: Snapshot) -> Counter[str]:
    """Return the number of unread signals of a run, by name. Answers to questions are among them."""
    return Counter(signal.name for signal in RunReader(store, run.run_id).read_unread_signals(run))


def find_served(shape: Shape, run: Snapshot, unread: Mapping[str, int]) -> set[str]:
    """Return the tokens whose waits unread signals will serve. Leaves out a signal that interrupts something first."""
    found: set[str] = set()
    for signal, names in run.waits.items():
        count = unread.get(signal, 0)
        if count and not is_listener(shape, run, signal, receiver := pick_receiver(run, signal)):
            found.add(receiver)
            found.update(name for name in names[:count] if not is_listener(shape, run, signal, name))
    return found
