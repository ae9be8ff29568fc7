"""Following: the progress of runs that have followers here but are parked or driven by another engine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from beluga_graph.engine.followers import Followers
from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.store_poller import StorePoller
from beluga_graph.errors import BelugaError, RunError
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import RELEASED, ActiveRun
from beluga_graph.runtime.watcher import Watcher
from beluga_graph.storage.loading import RunReader, read_last_seq
from beluga_graph.storage.records import RunRecord
from stores.base import StoreError

__all__ = ["FollowedRuns"]


class FollowedRuns:
    """Notifies the followers of runs that this engine does not drive. It reads the store and drives nothing."""

    def __init__(self, runs: RunRegistry, poller: StorePoller, plan_of: Callable[[RunRecord], Plan]) -> None:
        self._runs, self._poller, self._plan_of = runs, poller, plan_of
        self._followed: set[Followers] = set()
        self._closed = False
        runs.on_removed.append(self._on_removed)
        poller.register(self)

    async def wait_ended(self, followers: Followers) -> ActiveRun:
        """Wait until a run has ended, here or elsewhere, or this engine has stopped it; return its final state.

        Raises `RunNotFound`, and `RunError` once the engine is closed.
        """
        plan = self._plan_of(self._runs.head(followers.run_id))
        while True:
            active = self._runs.latest(followers, plan)
            if active is not None:
                await asyncio.shield(active.done)
                if active.state != RELEASED:
                    return active
                followers.on_released()
                continue
            if self._closed:
                raise RunError(followers.run_id, "the engine is closed: make a new one on the same store")
            self.follow(followers)
            await followers.wait_active()

    def watch(self, followers: Followers, watcher: Watcher) -> tuple[Plan, RunReader]:
        """Show a watcher each step that is committed from now on. Return the plan and reader of the earlier steps."""
        plan = self._plan_of(self._runs.head(followers.run_id))
        active = self._runs.latest(followers, plan)
        if active is not None:
            active.attach(watcher)
            return active.plan, active.log.reader
        watcher.since = read_last_seq(self._runs.store, followers.run_id)
        if self._closed:
            watcher.close()
        else:
            followers.watchers.append(watcher)
            self.follow(followers)
        return plan, RunReader(self._runs.store, followers.run_id)

    def follow(self, followers: Followers) -> None:
        """Notify these followers from now on, until this engine drives the run or the run ends."""
        self._followed.add(followers)
        self._poller.start()

    def close(self) -> None:
        """Stop following. Waiting callers get a `RunError`."""
        self._closed = True
        message = "the engine was closed before the run's end: make a new one on the same store"
        self._fail_all(lambda followers: RunError(followers.run_id, message))

    # Called by the poller.

    @property
    def is_needed(self) -> bool:
        """Whether a run is followed."""
        return bool(self._followed)

    def look(self) -> None:
        """Notify the followers of each run that has made steps or has ended."""
        for followers in list(self._followed):
            if not followers.is_waiting:
                self._followed.discard(followers)
                continue
            try:
                self._look_at(followers)
            except (BelugaError, StoreError) as error:
                self._followed.discard(followers)
                followers.fail(error)

    def on_look_failed(self, error: Exception) -> None:
        """Raise the error in all waiting callers."""
        self._fail_all(lambda _: error)

    def _look_at(self, followers: Followers) -> None:
        head = self._runs.head(followers.run_id)
        plan = self._plan_of(head)
        last = read_last_seq(self._runs.store, followers.run_id) if followers.watchers else 0
        for watcher in followers.watchers:
            watcher.skip(last)
        if head.status not in (COMPLETED, FAILED, CANCELLED):
            head.ensure_here()
        else:
            active = self._runs.latest(followers, plan)
            if active is not None:
                followers.notify(active)

    def _fail_all(self, error_of: Callable[[Followers], Exception]) -> None:
        for followers in self._followed:
            followers.fail(error_of(followers))
        self._followed.clear()

    def _on_removed(self, active: ActiveRun) -> None:
        """Follow a run that was released and still has waiting followers."""
        if active.state == RELEASED:
            followers = self._runs.followers(active.run_id)
            if followers.is_waiting:
                self.follow(followers)
