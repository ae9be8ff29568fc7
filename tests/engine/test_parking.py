"""A parked run costs nothing, and its callers, watchers and cancellations reach it from any engine."""

import asyncio
import gc
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from parked_runs import HOUR, asking, parked
from wrapped_store import RUN, WrappedStore, until

from beluga_graph import (
    END,
    START,
    Engine,
    Graph,
    Run,
    RunCancelled,
    RunConflict,
    RunError,
    RunStatus,
    Workflow,
    sleep,
    step,
    wait_signal,
)
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import RunRecord
from beluga_graph.testing import VirtualClock
from stores import MemoryStore

pytestmark = pytest.mark.usefixtures("quick_looks")


async def test_a_parked_run_leaves_no_task_no_live_run_and_no_lease() -> None:
    disk = MemoryStore()
    async with Engine(disk) as engine:
        before = len(asyncio.all_tasks())
        run = await engine.start(asking(), 1, run_id=RUN)
        await parked(engine)
        assert len(asyncio.all_tasks()) == before
        assert run._followers.active is None
        async with Engine(disk) as other:  # any engine may take it
            other.register(asking())
            assert (await other.resume(RUN)).id == RUN


async def test_callers_waiting_for_a_parked_run_get_its_output_and_watchers_see_every_event_once() -> None:
    async with Engine() as engine:
        run = await engine.start(asking(), 1, run_id=RUN)
        watching = asyncio.create_task(_collected(run))
        waiting = asyncio.create_task(run.result(60))
        await parked(engine)
        late = asyncio.create_task(_collected(run))
        await engine.signal(RUN, "go", "yes")
        assert await waiting == ("after", "yes")
        assert await watching == await late == await _collected(run)
        assert [event[1] for event in await late if event[0] == "node_finished"] == ["before", "after"]


async def _collected(run: Any) -> list[tuple[Any, ...]]:
    return [(event.type, event.node, event.seq) async for event in run.events() if event.seq is not None]


async def test_a_waiting_caller_is_notified_when_the_run_ends_in_another_engine() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as here, Engine(WrappedStore(disk)) as there:
        run = await here.start(asking(), 1, run_id=RUN)
        watching = asyncio.create_task(_collected(run))
        waiting = asyncio.create_task(run.result(60))
        await parked(here)
        here._host.waker.unwatch_run(RUN)  # so that the other engine is quicker
        there.register(asking())
        await there.resume(RUN)
        await there.signal(RUN, "go", "yes")
        assert await waiting == ("after", "yes")
        assert await watching == await _collected(run)


@pytest.mark.parametrize("where", ["here", "there", "nowhere"])
async def test_a_parked_run_is_cancelled_from_anywhere(where: str) -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as here, Engine(WrappedStore(disk)) as there:
        run = await here.start(asking(), 1, run_id=RUN)
        await parked(here)
        if where == "nowhere":
            here._host.waker.unwatch_run(RUN)
        assert await (here if where == "here" else there).cancel(RUN) is RunStatus.cancelled
        assert await there.cancel(RUN) is RunStatus.cancelled
        with pytest.raises(RunCancelled):
            await run.result(60)
        with pytest.raises(RunConflict, match="accepts no signal"):
            await there.signal(RUN, "go")
    assert {bytes([key[0]]) for key, _ in disk.scan(b"")} & {b"A", b"G", b"D", b"K", b"T"} == set()


async def test_a_run_that_another_engine_is_running_ends_when_it_is_cancelled_from_here() -> None:
    disk, started = MemoryStore(), asyncio.Event()
    g = Graph("busy")

    @g.node
    async def forever(value: int) -> int:
        started.set()
        await asyncio.Event().wait()
        return value

    g.edge(START, forever)
    g.edge(forever, END)
    async with Engine(WrappedStore(disk)) as here, Engine(WrappedStore(disk)) as there:
        run = await there.start(g, 1, run_id=RUN)
        await started.wait()
        assert await asyncio.wait_for(here.cancel(RUN), 60) is RunStatus.cancelled
        with pytest.raises(RunCancelled):
            await run.result(60)
    assert disk.get(Keys(RUN).cancel) is None


async def test_closing_the_engine_raises_in_waiting_callers_and_keeps_the_run() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine:
        run = await engine.start(asking(), 1, run_id=RUN)
        await parked(engine)
        waiting = asyncio.create_task(run.result(60))
        await asyncio.sleep(0)
    with pytest.raises(RunError, match="closed"):
        await waiting
    with pytest.raises(RunError, match="closed"):
        await run.result(60)
    async with Engine(WrappedStore(disk)) as engine:
        engine.register(asking())
        (again,) = await engine.recover()
        assert engine._host.runs.actives == {}, "a parked run is not loaded"
        await again.signal("go", 1)
        assert await again.result(60) == ("after", 1)


async def test_closing_a_stream_of_a_parked_run_does_not_change_the_run() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine, Engine(WrappedStore(disk)) as other:
        events = engine.stream(asking(), 1, run_id=RUN)
        async for event in events:
            if event.type == "waiting":
                break
        await parked(engine)
        await events.aclose()
        await other.signal(RUN, "go", 1)
        for _ in range(20):
            await asyncio.sleep(0.005)
        assert await engine.status(RUN) is RunStatus.waiting


async def test_a_handle_on_a_parked_run_holds_none_of_its_data() -> None:
    async with Engine() as engine:
        runs = [await engine.start(asking(), n) for n in range(30)]
        await parked(engine, 30)
        # A collection does nothing while another thread collects, so one may not be enough.
        await until(lambda: not _collect_and_find_snapshots(runs))
        assert [await run.status() for run in runs] == [RunStatus.waiting] * 30


def _collect_and_find_snapshots(runs: list[Run]) -> list[Snapshot]:
    gc.collect()
    run_ids = {run.id for run in runs}
    return [found for found in gc.get_objects() if type(found) is Snapshot and found.run_id in run_ids]


class Counting(WrappedStore):
    """Counts the reads of a store by the first letter of the key."""

    def __init__(self, disk: MemoryStore) -> None:
        self.counts: Counter[str] = Counter()
        super().__init__(disk, reading=lambda key: self.count("read", key), before=self.written)

    def count(self, verb: str, key: bytes) -> None:
        if key[:1] not in b"DTAGMR":  # reads of the look loop, which runs at the clock's pace
            self.counts[verb + key[:1].decode("latin-1")] += 1

    def written(self, ops: Any) -> None:
        for op in ops:
            self.count(type(op).__name__, op.key)

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        for key, value in super().scan(prefix, **options):
            self.count("found", key)
            yield key, value


async def test_waking_a_parked_run_reads_the_same_number_of_records_among_many_as_among_few() -> None:
    async def woken(many: int) -> Counter[str]:
        disk = MemoryStore()
        async with Engine(WrappedStore(disk)) as engine:
            for n in range(many):
                await engine.start(asking(), n, run_id=f"r{n}")
            await parked(engine, many)
        store = Counting(disk)
        async with Engine(store) as engine:
            engine.register(asking())
            await engine.recover()
            store.counts.clear()
            await engine.signal("r3", "go", 1)
            key = Keys("r3").head
            await until(lambda: RunRecord.decode(key, disk.get(key) or b"").status == RunStatus.completed)
            return store.counts.copy()

    assert await woken(10) == await woken(500)


def rests(engine: Engine, store: WrappedStore) -> bool:
    """Return whether the engine's only run is parked, and nothing is about to wake it."""
    waker = engine._host.waker
    is_parked = not engine._host.runs.actives and len(waker._watched) == 1
    return is_parked and not (waker._queue or waker._waking or list(store.disk.scan(b"D")))


async def test_a_thousand_unread_signals_do_not_slow_the_steps_of_their_run() -> None:
    async def walked(unread: int) -> Counter[str]:
        store = Counting(MemoryStore())
        flow = Workflow("walk", wait_signal("go"), *(step(f"s{n}", lambda v: v) for n in range(10)))
        async with Engine(store) as engine:
            run = await engine.start(flow, 0, run_id=RUN)
            for n in range(unread):
                await run.signal("nobody reads it", n)
            await until(lambda: rests(engine, store))
            store.counts.clear()
            await run.signal("go", 1)
            assert await run.result(60) == 1
        del store.counts["readH"]  # a look that happens meanwhile reads one more
        return store.counts

    assert await walked(0) == await walked(1000)


async def test_a_watcher_that_begins_while_the_run_is_being_parked_sees_the_end() -> None:
    async with Engine() as engine:
        run = await engine.start(asking(), 1, run_id=RUN)
        live = run._followers.active
        assert live is not None
        await live.done  # it is released, and no callback has run yet
        watching = asyncio.create_task(_collected(run))
        await asyncio.sleep(0)
        await engine.signal(RUN, "go", 1)
        assert await run.result(60) == ("after", 1)
        assert (await watching)[-1][0] == "done"


async def test_a_run_that_is_being_parked_when_its_stream_is_closed_stays_on_disk() -> None:
    clock, ran = VirtualClock(), []
    flow = Workflow("sleeping", step("before", lambda v: v), sleep("nap", HOUR), step("after", ran.append))
    async with Engine(MemoryStore(), clock=clock) as engine:
        events = engine.stream(flow, 1, run_id=RUN)
        async for event in events:
            if event.type == "waiting":
                break
        live = engine._host.runs.actives[RUN]
        engine._host.parking._park(live, min(live.snapshot.timers.values()))
        await events.aclose()
        assert not engine._host.waker._watched
        await clock.advance(2 * HOUR)
        await engine._host.waker.wait_woken()
        assert not engine._host.runs.actives
    assert not ran
