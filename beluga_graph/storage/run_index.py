"""The index of open runs: which runs need work, by keys alone. No run is loaded."""

from __future__ import annotations

from collections.abc import Container, Iterator

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage.keys import Prefix, due_of, run_key_of
from beluga_graph.storage.leases import Owner, is_driven_elsewhere
from beluga_graph.storage.pace import Pace
from stores.base import Store

__all__ = ["find_unfinished", "iter_abandoned", "iter_overdue"]


async def find_unfinished(store: Store) -> list[bytes]:
    """Return one index key of each open run: first the runs that need work, then the parked ones."""
    found: dict[bytes, bytes] = {}
    pace = Pace()
    for prefix in (Prefix.OPEN, Prefix.PARKED):
        for key, _ in store.scan(prefix):
            found.setdefault(run_key_of(key), key)  # a run that is parked between the two scans is in both
            await pace.turn()
    return list(found.values())


def iter_overdue(store: Store, now_ms: int) -> Iterator[bytes]:
    """Yield the hashes of runs with a timer that is due, the earliest timer first."""
    for key, _ in store.scan(Prefix.TIMER):
        if due_of(key) > now_ms:
            return
        yield run_key_of(key)


def iter_abandoned(store: Store, own: Owner, driven: Container[bytes]) -> Iterator[bytes]:
    """Yield the hashes of runs that need work and that no engine drives. `driven` are the hashes of this engine's runs.

    This includes runs whose lease cannot be read: the engine that takes up such a run reports the damage, and the
    other runs do not have to wait. It also includes runs whose lease this engine could not release.
    """
    for key, _ in store.scan(Prefix.OPEN):
        run_key = run_key_of(key)
        if run_key in driven:
            continue
        try:
            elsewhere = is_driven_elsewhere(store, run_key, own)
        except DamagedRecord:
            elsewhere = False
        if not elsewhere:
            yield run_key
