"""The agenda: what a store says must be done, by run. Keys alone tell; no run is loaded."""

from __future__ import annotations

from collections.abc import Container, Iterator

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage.keys import Prefix, due_of, run_of
from beluga_graph.storage.leases import Lease, Owner, is_held_elsewhere
from beluga_graph.storage.pace import Pace
from stores.base import Store

__all__ = ["abandoned", "is_driven_elsewhere", "overdue", "unfinished"]


async def unfinished(store: Store) -> list[bytes]:
    """Return the keys that say that a run is open, one for each: those that need work first, then the parked ones."""
    found: dict[bytes, bytes] = {}
    pace = Pace()
    for letter in (Prefix.OPEN, Prefix.PARKED):
        for key, _ in store.scan(letter):
            found.setdefault(run_of(key), key)  # one that is parked between the two has both
            await pace.turn()
    return list(found.values())


def overdue(store: Store, now_ms: int) -> Iterator[bytes]:
    """Yield the runs of which a timer is due, the one that waits longest first."""
    for key, _ in store.scan(Prefix.TIMER):
        if due_of(key) > now_ms:
            return
        yield run_of(key)


def abandoned(store: Store, own: Owner, driven: Container[bytes]) -> Iterator[bytes]:
    """Yield the runs that need work and that nobody drives: not this engine, which drives `driven`, nor another one.

    A run whose lease cannot be read is among them: the engine that takes it up reports that, and the others are not
    kept waiting. So is one whose lease this engine could not give back when it stopped driving it.
    """
    for key, _ in store.scan(Prefix.OPEN):
        run = run_of(key)
        if run in driven:
            continue
        try:
            elsewhere = is_driven_elsewhere(store, run, own)
        except DamagedRecord:
            elsewhere = False
        if not elsewhere:
            yield run


def is_driven_elsewhere(store: Store, run: bytes, own: Owner) -> bool:
    """Tell whether a run has another owner who is alive. Raises `DamagedRecord`."""
    key = Prefix.LEASE + run
    record = store.get(key)
    return record is not None and is_held_elsewhere(store, Lease.decode(key, record), own)
