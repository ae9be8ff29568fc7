"""A query of a run that is being deleted returns the whole run or `RunNotFound`, and never reports damage."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest
from pruned_flows import LARGE, failing, go_through, rich
from wrapped_store import WrappedStore

from beluga_graph import Engine, Run, RunConflict, RunFailed, RunNotFound, RunStatus
from beluga_graph.codec import DamagedRecord
from beluga_graph.storage.keys import Keys
from stores import Check, Delete, MemoryStore, Put
from stores.base import Op

RUN, FORK = "a", "f"
BEFORE_THE_END = 3  # a step that a fork can begin from


async def disk_of_runs() -> MemoryStore:
    """Return a store with a run that has every kind of record, a fork of it, and a failed run."""
    disk = MemoryStore()
    async with Engine(disk) as engine:
        await go_through(engine, RUN, RUN)
        await engine.fork(RUN, BEFORE_THE_END, run_id_new=FORK)
        with pytest.raises(RunFailed):
            await engine.execute(failing(), LARGE, run_id="failed")
    return disk


def copy_of(disk: MemoryStore) -> MemoryStore:
    copy = MemoryStore()
    copy.commit(*(Put(key, blob) for key, blob in disk.scan(b"") if key[:1] != b"O"))
    return copy


async def commits_of_a_prune(disk: MemoryStore, again: bool) -> list[tuple[Op, ...]]:
    """Return the commits of a prune of all runs, in order, and with `again` those of a new run of the same id."""
    commits: list[tuple[Op, ...]] = []

    def note(ops: Sequence[Op]) -> None:
        commits.append(tuple(op for op in ops if type(op) is not Check and op.key[:1] != b"O"))

    copy = copy_of(disk)
    copy.commit(Delete(Keys(FORK).head))  # the fork stays, with its marks on shared values
    async with Engine(WrappedStore(copy, before=note)) as engine:
        gone = await engine.prune(status=("completed", "failed"))
        assert {info.run_id for info in gone} == {RUN, "failed"}
        if again:
            await go_through(engine, RUN, "another value")
    return [ops for ops in commits if ops]


Look = Callable[[Engine], Awaitable[Any]]


async def told(engine: Engine) -> Any:
    trail = await engine.trail(RUN)
    return [(span.name, span.status, span.ended_seq) for span in trail.visits.values()], trail.edge_counts


async def events(engine: Engine) -> list[Any]:
    run = Run(engine._host, engine._host.runs.followers(RUN))
    return [event async for event in run.events()]


async def result(engine: Engine) -> Any:
    return await Run(engine._host, engine._host.runs.followers(RUN)).result(timeout=60)


async def fork(engine: Engine) -> Any:
    run = await engine.fork(RUN, BEFORE_THE_END, run_id_new="new")
    state = (await engine.snapshot("new")).state
    await engine.cancel(run.id)
    return state


async def start(engine: Engine) -> Any:
    try:
        run = await engine.start(rich(), RUN, run_id=RUN)
    except RunConflict as error:  # the old run is being deleted
        raise RunNotFound(RUN, str(error)) from error
    if await run.status() in (RunStatus.running, RunStatus.waiting):
        raise RunNotFound(RUN, "so a new one was started")
    return await run.result(timeout=60)


async def tree(engine: Engine) -> Any:
    return (await engine.inspector.tree(RUN, unfolded=True)).results


LOOKS: dict[str, Look] = {
    "history": lambda engine: engine.history(RUN),
    "snapshot": lambda engine: engine.snapshot(RUN),
    "snapshot of a step": lambda engine: engine.snapshot(RUN, 2),
    "draw": lambda engine: engine.draw(RUN),
    "html": lambda engine: engine.html(RUN),
    "trail": told,
    "compare": lambda engine: engine.compare(RUN, "failed"),
    "difference": lambda engine: engine.difference(RUN),
    "fork": fork,
    "events": events,
    "result": result,
    "tree": tree,
    "start": start,
}


class Beside:
    """Makes another process's commits after the n-th read: all at once, or one after each later read."""

    def __init__(self, disk: MemoryStore, commits: Sequence[tuple[Op, ...]], after: int, *, at_once: bool) -> None:
        self._disk, self._left, self._after, self._at_once = disk, list(commits), after, at_once
        self.reads = 0

    def __call__(self, _: bytes) -> None:
        self.reads += 1
        if self.reads >= self._after:
            for _ in range(len(self._left) if self._at_once else 1):
                if self._left:
                    self._disk.commit(*self._left.pop(0))


async def seen(disk: MemoryStore, look: Look, beside: Beside | None) -> Any:
    """Return the result of a query on a copy of the store, or its error."""
    async with Engine(WrappedStore(disk, reading=beside)) as engine:
        engine.register(rich())
        engine.register(failing())
        try:
            return await look(engine)
        except RunNotFound as error:
            return error


@pytest.mark.parametrize("again", [False, True], ids=["pruned", "and begun anew"])
@pytest.mark.parametrize("name", LOOKS)
async def test_a_run_that_is_deleted_during_a_query_is_whole_or_not_found(name: str, *, again: bool) -> None:
    disk = await disk_of_runs()
    commits = await commits_of_a_prune(disk, again and name != "start")  # the query would begin that run itself
    look = LOOKS[name]
    whole = await seen(copy_of(disk), look, None)
    assert not isinstance(whole, RunNotFound)
    counted = Beside(MemoryStore(), [], 0, at_once=True)
    await seen(copy_of(disk), look, counted)
    gone = 0
    for after in range(1, counted.reads + 1):
        for at_once, some in ((True, commits), (True, commits[:1]), (False, commits)):
            copy = copy_of(disk)
            found = await seen(copy, look, Beside(copy, some, after, at_once=at_once))
            if isinstance(found, RunNotFound):
                gone += 1
                assert found.run_id in (RUN, "failed", "new")
            elif name not in ("draw", "html") and not again:
                assert found == whole
    assert gone > 0


async def test_a_fork_is_compared_with_the_remaining_records_when_its_source_is_deleted_meanwhile() -> None:
    disk = await disk_of_runs()
    commits = await commits_of_a_prune(disk, again=False)
    counted = Beside(MemoryStore(), [], 0, at_once=True)

    async def look(engine: Engine) -> Any:
        return await engine.compare(FORK, FORK)

    await seen(copy_of(disk), look, counted)
    alone = 0
    for after in range(1, counted.reads + 1):
        for at_once in (True, False):
            copy = copy_of(disk)
            found = await seen(copy, look, Beside(copy, commits, after, at_once=at_once))
            assert not found.differs
            alone += found.first.lost_before is not None
    assert alone > 0


async def test_queries_over_many_runs_skip_runs_that_are_deleted_meanwhile() -> None:
    disk = await disk_of_runs()
    commits = await commits_of_a_prune(disk, again=False)
    for after in range(1, 40):
        async with Engine(WrappedStore(copy := copy_of(disk), reading=None)) as engine:
            engine.store.reading = Beside(copy, commits, after, at_once=True)  # type: ignore[attr-defined]
            assert set(await engine.check(failing())) <= {"failed"}
            assert await engine.pending() == []
            assert {info.run_id for info in await engine.runs()} <= {RUN, FORK, "failed"}


@pytest.mark.parametrize("kind", [b"C", b"V", b"S"])
async def test_a_missing_record_of_an_existing_run_is_damage(kind: bytes) -> None:
    disk = await disk_of_runs()
    of_the_run = kind if kind == b"V" else kind + Keys(RUN).run_key
    disk.commit(*(Delete(key) for key, _ in list(disk.scan(of_the_run))[:1]))
    async with Engine(disk) as engine:
        with pytest.raises(DamagedRecord, match="is missing"):
            await asyncio.gather(*(engine.snapshot(RUN), engine.history(RUN)))
