"""Who drives a run: this engine, another one, or none. It explains why a run does not go on; nothing depends on it."""

from __future__ import annotations

from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.waking import Waker
from beluga_graph.inspection.explanation import AttemptState, Driving
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.runtime.active_run import ActiveRun
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Lease, Owner, has_living_owner, is_on_this_machine, owner_is_alive
from beluga_graph.storage.records import RunRecord
from stores.base import Store

__all__ = ["find_driving"]

_HERE = "in this process"
_NO_ENGINE = "no engine runs on this store: signals and answers are kept, but nothing happens until one drives the run"
_NOT_DRIVEN = "no engine drives it: it was released, or its engine was stopped, while it had work to do"
_DIED = "the engine that drove it has died, and no other one has taken it over yet: a service does so within seconds"
_NO_ROOM = "it waits for a free place among the runs that this engine has under way at a time (max_runs)"


def find_driving(head: RunRecord, runs: RunRegistry, waker: Waker, owner: Owner, missing: str) -> Driving:
    """Return who drives a run, from the point of view of the engine of these runs. Raises `DamagedRecord`.

    `missing` says that the flow of the run is not registered with this engine; it is empty if the flow is.
    """
    store, keys, now_ms = runs.store, Keys(head.run_id), owner.now_ms()
    if head.moved_to:
        return Driving(moved_to=head.moved_to)
    if head.status in (COMPLETED, CANCELLED, FAILED):
        return Driving()
    active = runs.current(head.run_id)
    if active is not None:
        return Driving(place=_HERE, attempts=_list_queued(active))
    if waker.is_waking(keys.run_key):
        return Driving(place=_HERE)
    holder = _read_holder(store, keys)
    if holder not in (b"", owner.id) and owner_is_alive(store, holder, now_ms):
        machine = "this machine" if is_on_this_machine(store, holder, now_ms) else "another machine"
        return Driving(place=f"in another engine, on {machine}")
    if waker.max_runs is not None and waker.is_queued(keys.run_key):
        return Driving(problem=_NO_ROOM, is_queued=True)
    if waker.serving and missing:
        return Driving(problem=f"this engine serves, but cannot drive it: {missing}")
    if holder not in (b"", owner.id):
        return Driving(problem=_DIED)
    if not has_living_owner(store, now_ms):
        return Driving(problem=_NO_ENGINE)
    return Driving(problem="" if store.get(keys.parked) is not None else _NOT_DRIVEN)


def _list_queued(active: ActiveRun) -> dict[str, AttemptState]:
    """Return the attempts of a run that wait for a place of this engine, by token."""
    state = AttemptState("waits for a place among the attempts of this engine (max_concurrency)", is_queued=True)
    return {name: state for name, task in active.tasks.items() if task.is_queued}


def _read_holder(store: Store, keys: Keys) -> bytes:
    """Return the owner that a run's lease names; empty while the lease is free."""
    blob = store.get(keys.lease)
    return b"" if blob is None else Lease.decode(keys.lease, blob).owner
