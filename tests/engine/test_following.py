"""Followed runs: callers and watchers of runs that are parked or driven by another engine are notified of progress."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest
from flows_for_tests import chain
from test_followers import FakeRun

from beluga_graph import RunError, RunNotFound
from beluga_graph.engine.followers import Followers
from beluga_graph.engine.following import FollowedRuns
from beluga_graph.kernel.snapshot import COMPLETED, RUNNING
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.active_run import DRIVING, ENDED, RELEASED
from beluga_graph.runtime.watcher import Gap, Watcher
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import RunRecord
from stores import MemoryStore, StoreError
from stores.base import Put

PLAN: Plan = chain(lambda value: value).plan()


class FakePoller:
    """Counts the starts of the loop. The tests look themselves."""

    def __init__(self) -> None:
        self.starts = 0

    def register(self, look: Any) -> None:
        self.look = look

    def start(self) -> None:
        self.starts += 1


class FakeRegistry:
    """The stored runs `r` and `s`, and the runs that this engine drives or has seen end."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.on_removed: list[Any] = []
        self.status = RUNNING
        self.errors: dict[str, Exception] = {}
        self.found: FakeRun | None = None
        self.known = {"r": Followers("r"), "s": Followers("s")}

    def head(self, run_id: str) -> RunRecord:
        if run_id in self.errors:
            raise self.errors[run_id]
        return RunRecord(run_id=run_id, flow="chain", plan="p", status=self.status, created_ms=0, updated_ms=0)

    def latest(self, followers: Followers, plan: Plan) -> FakeRun | None:
        assert plan is PLAN
        return self.found

    def followers(self, run_id: str) -> Followers:
        return self.known[run_id]

    def add_step(self, seq: int) -> None:
        self.store.commit(Put(Keys("r").step(seq), b""))


class Setup:
    """Followed runs on a fake registry, with the followers of run `r`."""

    def __init__(self) -> None:
        self.runs, self.poller = FakeRegistry(), FakePoller()
        self.followed = FollowedRuns(cast("Any", self.runs), cast("Any", self.poller), lambda _: PLAN)
        self.followers = self.runs.known["r"]

    async def wait(self, run_id: str = "r") -> asyncio.Task[Any]:
        waiting = asyncio.create_task(self.followed.wait_ended(self.runs.known[run_id]))
        await asyncio.sleep(0)
        return waiting


async def test_a_run_that_this_engine_drives_is_awaited_without_a_look() -> None:
    setup = Setup()
    setup.runs.found = run = FakeRun(DRIVING)
    waiting = await setup.wait()
    assert not waiting.done()
    run.stop(ENDED)
    assert await asyncio.wait_for(waiting, 60) is run
    assert setup.poller.starts == 0


async def test_a_run_that_ends_elsewhere_is_noticed_by_a_look() -> None:
    setup = Setup()
    waiting = await setup.wait()
    assert setup.followed.is_needed
    setup.followed.look()
    await asyncio.sleep(0)
    assert not waiting.done()
    setup.runs.status, setup.runs.found = COMPLETED, (run := FakeRun(DRIVING))
    run.stop(ENDED)
    setup.followed.look()
    assert await asyncio.wait_for(waiting, 60) is run
    setup.followed.look()
    assert not setup.followed.is_needed


async def test_a_run_that_is_released_during_the_wait_is_followed_to_its_end() -> None:
    setup = Setup()
    setup.runs.found = run = FakeRun(DRIVING)
    waiting = await setup.wait()
    setup.runs.found = None
    run.stop(RELEASED)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert not waiting.done()
    assert setup.followed.is_needed
    setup.runs.found = again = FakeRun(DRIVING)
    setup.followers.on_active(cast("Any", again))
    again.stop(ENDED)
    assert await asyncio.wait_for(waiting, 60) is again


async def test_a_watcher_of_an_inactive_run_begins_at_its_last_step_and_sees_the_later_ones_as_gaps() -> None:
    setup, watcher = Setup(), Watcher()
    setup.runs.add_step(3)
    plan, reader = setup.followed.watch(setup.followers, watcher)
    assert (plan, reader.run_id, watcher.since) == (PLAN, "r", 3)
    setup.runs.add_step(5)
    setup.followed.look()
    shown = await asyncio.wait_for(watcher.get(), 60)
    assert isinstance(shown, Gap)
    assert shown.until == 5


async def test_a_run_that_is_released_is_followed_only_if_it_has_waiting_followers() -> None:
    setup = Setup()
    (on_removed,) = setup.runs.on_removed
    on_removed(FakeRun(RELEASED))
    assert not setup.followed.is_needed
    setup.followers.watchers.append(Watcher())
    on_removed(FakeRun(ENDED))
    assert not setup.followed.is_needed
    on_removed(FakeRun(RELEASED))
    assert setup.followed.is_needed


async def test_a_run_that_cannot_be_read_fails_its_own_callers_alone() -> None:
    setup = Setup()
    deleted, other = await setup.wait("r"), await setup.wait("s")
    setup.runs.errors["r"] = RunNotFound("r", "it was deleted")
    setup.followed.look()
    with pytest.raises(RunNotFound, match="it was deleted"):
        await asyncio.wait_for(deleted, 60)
    assert not other.done()
    assert setup.followed.is_needed
    other.cancel()


async def test_a_failed_look_fails_every_caller() -> None:
    setup = Setup()
    callers = [await setup.wait("r"), await setup.wait("s")]
    setup.followed.on_look_failed(StoreError("the disk is gone"))
    for caller in callers:
        with pytest.raises(StoreError, match="the disk is gone"):
            await asyncio.wait_for(caller, 60)
    assert not setup.followed.is_needed


async def test_a_closed_engine_follows_no_run() -> None:
    setup, watcher = Setup(), Watcher()
    waiting = await setup.wait()
    setup.followed.close()
    with pytest.raises(RunError, match="the engine was closed before the run's end"):
        await asyncio.wait_for(waiting, 60)
    with pytest.raises(RunError, match="the engine is closed"):
        await asyncio.wait_for(await setup.wait(), 60)
    setup.followed.watch(setup.followers, watcher)
    assert await asyncio.wait_for(watcher.get(), 60) is None
    assert not setup.followed.is_needed
