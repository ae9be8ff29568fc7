"""Followers and the registry of runs: who waits for a run is notified wherever the run continues."""

from __future__ import annotations

import asyncio
import gc

import pytest

from beluga_graph import RunError
from beluga_graph.engine.followers import Followers
from beluga_graph.engine.registry import RunRegistry
from beluga_graph.kernel.snapshot import RUNNING
from beluga_graph.runtime.active_run import DRIVING, ENDED, HALTED, RELEASED
from beluga_graph.runtime.watcher import Gap, Watcher
from stores import MemoryStore


class FakeSnapshot:
    status = RUNNING


class FakeRun:
    """An active run as its followers and the registry use it."""

    def __init__(self, state: str = DRIVING, committed: int = 0) -> None:
        self.run_id, self.state, self.committed, self.snapshot = "r", state, committed, FakeSnapshot()
        self.watchers: list[Watcher] = []
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def is_over(self) -> bool:
        return self.state in (RELEASED, ENDED)

    def attach(self, watcher: Watcher) -> None:
        self.watchers.append(watcher)

    def detach(self, watcher: Watcher) -> None:
        self.watchers.remove(watcher)

    def stop(self, state: str) -> None:
        self.state = state
        self.done.set_result(None)


# Followers.


async def test_watchers_of_an_inactive_run_read_the_missed_steps_and_then_follow_it() -> None:
    followers, watcher = Followers("r"), Watcher()
    followers.watchers.append(watcher)
    followers.on_active(run := FakeRun(committed=7))  # type: ignore[arg-type]  # a fake
    assert (followers.watchers, run.watchers) == ([], [watcher])
    missed = await watcher.get()
    assert isinstance(missed, Gap)
    assert missed.until == 7


async def test_watchers_of_a_released_run_are_kept() -> None:
    followers, watcher = Followers("r"), Watcher()
    run = FakeRun(committed=3)
    run.attach(watcher)
    followers.notify(run)  # type: ignore[arg-type]  # a fake
    assert not followers.is_waiting
    followers.on_released()
    assert (followers.active, followers.watchers, run.watchers, watcher.since) == (None, [watcher], [], 3)
    assert followers.is_waiting


async def test_callers_wait_until_the_run_is_active_or_has_ended() -> None:
    followers = Followers("r")
    waiting = asyncio.create_task(followers.wait_active())
    await asyncio.sleep(0)
    assert followers.is_waiting
    followers.notify(FakeRun(ENDED))  # type: ignore[arg-type]  # a fake
    await asyncio.wait_for(waiting, 60)


async def test_an_ended_run_closes_its_watchers() -> None:
    followers, watcher = Followers("r"), Watcher()
    followers.watchers.append(watcher)
    followers.notify(FakeRun(ENDED))  # type: ignore[arg-type]  # a fake
    assert await asyncio.wait_for(watcher.get(), 60) is None


async def test_a_run_that_cannot_be_followed_raises_in_every_caller_and_closes_the_watchers() -> None:
    followers, watcher = Followers("r"), Watcher()
    followers.watchers.append(watcher)
    waiting = [asyncio.create_task(followers.wait_active()) for _ in range(2)]
    await asyncio.sleep(0)
    followers.fail(RunError("r", "the store is gone"))
    for caller in waiting:
        with pytest.raises(RunError, match="the store is gone"):
            await caller
    assert await asyncio.wait_for(watcher.get(), 60) is None
    assert not followers.is_waiting


# The registry.


async def test_a_run_is_current_until_it_is_over_and_then_removed() -> None:
    runs, seen = RunRegistry(MemoryStore()), []
    runs.on_added.append(lambda: seen.append("added"))
    runs.on_removed.append(lambda run: seen.append(run.run_id))
    followers = runs.followers("r")
    runs.add(run := FakeRun())  # type: ignore[arg-type]  # a fake
    assert (runs.current("r"), followers.active, seen) == (run, run, ["added"])
    run.stop(RELEASED)
    assert runs.current("r") is None
    await asyncio.sleep(0)
    assert (runs.actives, followers.active, seen) == ({}, None, ["added", "r"])


async def test_a_caller_waits_for_a_run_that_is_being_released() -> None:
    runs = RunRegistry(MemoryStore())
    runs.add(run := FakeRun(HALTED))  # type: ignore[arg-type]  # a fake
    waiting = asyncio.create_task(runs.wait_stable("r"))
    await asyncio.sleep(0)
    assert not waiting.done()
    run.stop(RELEASED)
    assert await asyncio.wait_for(waiting, 60) is None


async def test_followers_are_shared_by_handles_and_forgotten_with_the_last_one() -> None:
    runs = RunRegistry(MemoryStore())
    first, second = runs.followers("r"), runs.followers("r")
    assert first is second
    assert runs.is_held("r")
    del first, second
    gc.collect()
    assert not runs.is_held("r")


async def test_drain_waits_for_every_run_that_is_being_admitted() -> None:
    runs = RunRegistry(MemoryStore())
    lock = runs.run_lock("r")
    await lock.acquire()
    draining = asyncio.create_task(runs.drain())
    await asyncio.sleep(0)
    assert not draining.done()
    lock.release()
    await asyncio.wait_for(draining, 60)
