"""The rules of a take-over by themselves: whose lease is free, which triggers apply, and the checks of its commit."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any, cast

import pytest
from flows_for_tests import chain

from beluga_graph import GraphChanged, RunBusy, RunConflict, RunError, RunNotFound
from beluga_graph.engine.registry import RunRegistry
from beluga_graph.engine.takeover import start_error, take, takeover_triggers, wait_free_lease
from beluga_graph.kernel.snapshot import FAILED, Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import PlanAdopted, RunResumed, RunStarted, RunTakenOver, Trigger
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.leases import Acquisition, FreeLease, Lease, Owner
from beluga_graph.storage.run_log import RunLog
from beluga_graph.storage.shapes import shape_ops
from stores import MemoryStore
from stores.base import Check, Conflict, Delete, Op, Put

NOW_MS = 1_000
KEYS = Keys("r")


def plan_of(*bodies: Any) -> Plan:
    return chain(*bodies).plan()


def body(value: int) -> int:
    return value


def started(plan: Plan) -> Snapshot:
    """Return a run that is at its first node."""
    run = Snapshot(run_id="r", plan=plan.fingerprint, started_ms=0, value=b"")
    run.apply(advance(plan.shape, run, RunStarted(0)))
    return run


def held_by(owner: bytes, dead: Check | None = None) -> FreeLease:
    lease = Lease(owner, 4)
    return FreeLease(lease, lease.encode(KEYS.lease), dead)


# The lease.


class FakePoller:
    """Calls a function in the place of each look."""

    def __init__(self, on_look: Any) -> None:
        self.on_look, self.looks = on_look, 0

    async def wait_next(self) -> None:
        self.looks += 1
        assert self.looks < 10, "it waits forever"
        self.on_look()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def owner(store: MemoryStore) -> Iterator[Owner]:
    """Another engine, which lives and holds the lease of the run."""
    owner = Owner(store)
    owner.begin()
    store.commit(Put(KEYS.lease, Lease(owner.id, 4).encode(KEYS.lease)))
    yield owner
    owner.end()


async def free_lease(store: MemoryStore, *, wait: bool, on_look: Any = None) -> tuple[FreeLease, int]:
    poller, runs = FakePoller(on_look), RunRegistry(store)
    if on_look == "close":
        poller.on_look = lambda: setattr(runs, "closed", True)
    found = await wait_free_lease(runs, Owner(store), cast("Any", poller), "r", wait=wait)
    return found, poller.looks


async def test_a_lease_that_was_never_held_is_free(store: MemoryStore) -> None:
    assert await free_lease(store, wait=False) == (FreeLease(Lease(b"", 0), None), 0)


async def test_the_lease_of_a_living_owner_is_busy_unless_the_caller_waits(store: MemoryStore, owner: Owner) -> None:
    with pytest.raises(RunBusy, match="another owner drives it"):
        await free_lease(store, wait=False)

    def give_back() -> None:
        store.commit(Put(KEYS.lease, Lease(b"", 4).encode(KEYS.lease)))

    found, looks = await free_lease(store, wait=True, on_look=give_back)
    assert (found, looks) == (held_by(b""), 1)


async def test_the_lease_of_an_owner_that_ended_is_free_as_long_as_it_does_not_come_back(
    store: MemoryStore, owner: Owner
) -> None:
    owner.end()
    found, _ = await free_lease(store, wait=False)
    assert found == held_by(owner.id, Check(owner.key, None))


@pytest.mark.usefixtures("owner")
async def test_a_wait_ends_when_the_engine_is_closed(store: MemoryStore) -> None:
    with pytest.raises(RunError, match="the engine is closed"):
        await free_lease(store, wait=True, on_look="close")


# The triggers.


def triggers(run: Snapshot, plan: Plan, store: MemoryStore, *, dead: bool, limits: Any = None) -> list[Trigger]:
    active = cast("Any", SimpleNamespace(snapshot=run, plan=plan))
    return takeover_triggers(active, held_by(b"dead" if dead else b""), store, NOW_MS, limits)


def test_a_run_that_was_given_back_continues_without_a_trigger(store: MemoryStore) -> None:
    plan = plan_of(body)
    assert triggers(started(plan), plan, store, dead=False) == []


def test_a_death_counts_against_the_nodes_that_ran(store: MemoryStore) -> None:
    plan = plan_of(body)
    run = started(plan)
    (token,) = run.tokens
    assert triggers(run, plan, store, dead=True) == [RunTakenOver(NOW_MS, ((token, 1),))]


def test_a_death_a_changed_graph_and_new_limits_are_applied_in_this_order(store: MemoryStore) -> None:
    old, new = plan_of(body, body), plan_of(body, body, body)  # the run is at the first node
    store.commit(*shape_ops(store, old.shape))
    found = triggers(started(old), new, store, dead=True, limits={"max_steps": 9})
    assert [type(trigger) for trigger in found] == [RunTakenOver, PlanAdopted, RunResumed]
    assert found[1] == PlanAdopted(new.fingerprint, NOW_MS, ())
    assert found[2] == RunResumed(NOW_MS, (("max_steps", 9),))


def test_a_failed_run_is_revived_and_its_owners_death_is_not_counted(store: MemoryStore) -> None:
    plan = plan_of(body)
    run = started(plan)
    run.status = FAILED
    assert triggers(run, plan, store, dead=True) == [RunResumed(NOW_MS, ())]


def test_a_change_of_the_node_that_the_run_is_at_is_refused(store: MemoryStore) -> None:
    old = plan_of(body)
    store.commit(*shape_ops(store, old.shape))
    with pytest.raises(GraphChanged, match=r"node 'n0': target was '\$end' and is 'n1'"):
        triggers(started(old), plan_of(body, body), store, dead=False)


# The commit.


class FakeStep:
    pass


class FakeScheduler:
    """Records the operations of each commit. A trigger in `stale` makes no step."""

    def __init__(self, store: MemoryStore, *, stale: bool = False) -> None:
        self.store, self.committer, self._stale = store, self, stale
        self.commits: list[tuple[Trigger | None, Sequence[Op]]] = []
        self.drained = False

    def decide(
        self, active: Any, trigger: Trigger, *, acquires: Acquisition | None, more: Sequence[Op]
    ) -> FakeStep | None:
        if self._stale:
            return None
        self.commits.append((trigger, [*(acquires.ops if acquires is not None else ()), *more]))
        return FakeStep()

    async def wait_for(self, step: FakeStep) -> None: ...

    async def commit(self, active: Any, ops: Sequence[Op]) -> None:
        self.commits.append((None, ops))

    async def drain(self) -> None:
        self.drained = True


class FakeActiveRun:
    def __init__(self, run: Snapshot, plan: Plan, store: MemoryStore) -> None:
        self.snapshot, self.plan, self.log = run, plan, RunLog(store, "r")
        self.lease, self.error, self.walker = Lease(b"me", 5), None, self
        self.failed = False

    def fail_interrupted(self) -> None:
        self.failed = True


def take_over(held: FreeLease, found: list[Trigger], *, stale: bool = False) -> tuple[FakeScheduler, FakeActiveRun]:
    store, plan = MemoryStore(), plan_of(body)
    scheduler, active = FakeScheduler(store, stale=stale), FakeActiveRun(started(plan), plan, store)
    asyncio.run(take(cast("Any", scheduler), cast("Any", active), held, found))
    return scheduler, active


def test_the_first_trigger_takes_the_lease_if_the_lease_the_run_and_the_dead_owner_are_unchanged() -> None:
    dead = Check(b"owner", None)
    held = held_by(b"dead", dead)
    first, second = RunTakenOver(NOW_MS, ()), RunResumed(NOW_MS, ())
    scheduler, active = take_over(held, [first, second])
    (trigger, ops), later = scheduler.commits
    assert trigger == first
    assert ops[:3] == [dead, Check(KEYS.lease, held.record), Check(KEYS.step(2), None)]
    assert Put(KEYS.lease, active.lease.encode(KEYS.lease)) in ops
    assert Delete(KEYS.parked) in ops
    assert later == (second, [])


@pytest.mark.parametrize("found", [[], [RunResumed(NOW_MS, ())]], ids=["no trigger", "a stale trigger"])
def test_without_a_step_the_lease_is_taken_in_a_commit_of_its_own(found: list[Trigger]) -> None:
    scheduler, _ = take_over(held_by(b""), found, stale=True)
    ((trigger, ops),) = scheduler.commits
    assert trigger is None
    assert Put(KEYS.lease, Lease(b"me", 5).encode(KEYS.lease)) in ops


@pytest.mark.parametrize("is_dead", [False, True])
def test_nodes_that_were_interrupted_too_often_fail_only_after_a_death(*, is_dead: bool) -> None:
    scheduler, active = take_over(held_by(b"dead" if is_dead else b""), [RunTakenOver(NOW_MS, ())])
    assert (active.failed, scheduler.drained) == (is_dead, is_dead)


# A new run.


@pytest.mark.parametrize(
    ("kind", "expected", "message"),
    [
        (Prefix.SESSION, RunConflict, "another run has just taken its session"),
        (Prefix.SNAPSHOT, RunNotFound, "its source run has just been deleted"),
        (Prefix.TOMBSTONE, RunConflict, "a run with this id is being deleted"),
    ],
)
def test_the_error_of_a_rejected_first_commit_names_its_cause(
    kind: bytes, expected: type[Exception], message: str
) -> None:
    error = RunError("r", "its commit was rejected")
    error.__cause__ = Conflict(kind + b"key")
    found = start_error("r", error)
    assert type(found) is expected
    assert message in str(found)


def test_any_other_error_of_a_first_commit_is_raised_as_it_is() -> None:
    error = RunError("r", "the store is full")
    assert start_error("r", error) is error
