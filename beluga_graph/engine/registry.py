"""The runs that one engine drives and the followers of their handles, by run id."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable

from beluga_graph.engine.followers import Followers
from beluga_graph.errors import RunError
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import HALTED, RELEASED, ActiveRun
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.loading import detect_deletion, read_run_record
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.run_log import open_log
from stores.base import Store

__all__ = ["RunRegistry"]


class RunRegistry:
    """Keeps the runs that this engine drives, and the followers of runs that have a handle in use.

    Attributes:
        actives: The runs that this engine drives, by id.
        closed: Set by the engine when it closes. No run is begun afterwards.
        on_added: Called when this engine begins to drive a run.
        on_removed: Called with each run that this engine stops driving.
    """

    def __init__(self, store: Store) -> None:
        self.store = store
        self.actives: dict[str, ActiveRun] = {}
        self.closed = False
        self.on_added: list[Callable[[], None]] = []
        self.on_removed: list[Callable[[ActiveRun], None]] = []
        self._followers: weakref.WeakValueDictionary[str, Followers] = weakref.WeakValueDictionary()
        self._locks: weakref.WeakValueDictionary[str, asyncio.Lock] = weakref.WeakValueDictionary()

    # Runs.

    def head(self, run_id: str) -> RunRecord:
        """Return the stored record of a run. Raises `RunNotFound`."""
        return read_run_record(self.store, run_id)

    def current(self, run_id: str) -> ActiveRun | None:
        """Return the run if this engine drives it now."""
        active = self.actives.get(run_id)
        return active if active is not None and not active.is_over else None

    async def wait_stable(self, run_id: str) -> ActiveRun | None:
        """Return the run if this engine drives it and continues to; wait while it is ending or being released."""
        while (active := self.current(run_id)) is not None:
            if active.state != HALTED and active.snapshot.status not in (COMPLETED, FAILED, CANCELLED):
                return active
            await asyncio.shield(active.done)
        return None

    def add(self, active: ActiveRun) -> None:
        """Register a run that this engine drives from now on. It is removed when the run is done."""
        self.actives[active.run_id] = active
        followers = self._followers.get(active.run_id)
        if followers is not None:
            followers.on_active(active)
        for on_added in self.on_added:
            on_added()
        active.done.add_done_callback(lambda _: self._remove(active))

    def _remove(self, active: ActiveRun) -> None:
        if self.actives.get(active.run_id) is active:
            del self.actives[active.run_id]
        followers = self._followers.get(active.run_id)
        if followers is not None and followers.active is active and active.state == RELEASED:
            followers.on_released()
        for on_removed in self.on_removed:
            on_removed(active)

    # Followers.

    def followers(self, run_id: str, active: ActiveRun | None = None) -> Followers:
        """Return the followers of a run. `active` is its last known state if this engine does not drive it any more."""
        found = self._followers.get(run_id)
        if found is None:
            found = self._followers[run_id] = Followers(run_id)
        current = self.current(run_id)
        if current is not None or active is not None:
            found.active = current or active
        return found

    def is_held(self, run_id: str) -> bool:
        """Return whether a handle of the run is in use, or this engine drives the run."""
        return run_id in self._followers or run_id in self.actives

    def latest(self, followers: Followers, plan: Plan) -> ActiveRun | None:
        """Return the run if this engine drives it, or its final state if it has ended.

        Returns `None` for a run that continues elsewhere or is parked. `plan` decodes a run that this engine has not
        seen yet.
        """
        current, known = self.current(followers.run_id), followers.active
        if current is not None:
            followers.active = current
            return current
        if known is not None and known.state == RELEASED:  # it was released a moment ago
            followers.on_released()
            known = None
        if known is not None:
            if not known.is_over or (known.snapshot.ended and known.error is None):
                return known
            plan = known.plan
        elif self.head(followers.run_id).status not in (COMPLETED, FAILED, CANCELLED):
            return None
        with detect_deletion(self.store, followers.run_id):
            snapshot, log = open_log(self.store, followers.run_id)
            head = self.head(followers.run_id)
        if known is not None and snapshot.seq <= known.committed:
            return known
        followers.active = ActiveRun(plan, snapshot, log, head, Lease(b"", 0))
        followers.active.finish()
        return followers.active

    # Entry.

    def check_open(self) -> None:
        """Raise `RunError` if the engine is closed."""
        if self.closed:
            raise RunError("", "the engine is closed: make a new one on the same store")

    def run_lock(self, run_id: str) -> asyncio.Lock:
        """Return the lock that is held while a run is started, continued or taken over."""
        lock = self._locks.get(run_id)
        if lock is None:
            lock = self._locks[run_id] = asyncio.Lock()
        return lock

    async def drain(self) -> None:
        """Wait until no run is being admitted. Call it after `closed` is set: an admission then releases its run."""
        for lock in list(self._locks.values()):
            async with lock:
                pass
