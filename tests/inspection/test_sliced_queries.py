"""A query over many records lets the loop run in between, and is correct about changes in that time."""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest

from beluga_graph import END, START, Engine, Graph, Limits, RunNotFound, Workflow, wait_signal
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.pace import SLICE_RECORDS
from beluga_graph.storage.records import RunRecord, decode_record, encode_record
from stores import MemoryStore
from stores.base import Delete, Put

MANY = 2_000
OVERHEAD = 40  # reads of one slice besides its records


class Sliced(MemoryStore):
    """Records the largest number of reads between two turns of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.read = self.most = self.total = 0

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        for found in super().scan(prefix, **options):
            self.read += 1
            self.total += 1
            self.most = max(self.most, self.read)
            yield found

    async def watch(self) -> None:
        while True:
            self.read = 0
            await asyncio.sleep(0)


def counting(steps: int) -> Graph:
    g = Graph("counting", limits=Limits(max_visits=100_000))

    @g.node
    async def count(value: int) -> int:
        return value + 1

    g.edge(START, count)
    g.branch(count, lambda value: value >= steps, {True: END, False: count})
    return g


ASKS = Workflow("asks", wait_signal("go", timeout=3600))


async def fill(store: MemoryStore) -> None:
    """Store many ended runs, many parked runs, and one run with many steps."""
    async with Engine(store) as engine:
        await engine.execute(counting(1), 0, run_id="ended")
        await engine.execute(counting(MANY), 0, run_id="long")
        await engine.start(ASKS, 0, run_id="parked")
    async with Engine(store) as engine:
        for name in ("ended", "parked"):
            _copy(store, name)


def _copy(store: MemoryStore, name: str) -> None:
    """Copy the records of a run that a query reads to other ids."""
    source = Keys(name)
    head = RunRecord.decode(source.head, store.get(source.head) or b"")
    for number in range(MANY):
        run_id = f"{name}-{number}"
        keys = Keys(run_id)
        copy = RunRecord(
            run_id=run_id,
            flow=head.flow,
            plan=head.plan,
            status=head.status,
            created_ms=head.created_ms,
            updated_ms=head.updated_ms,
        )
        puts = [Put(keys.head, copy.encode(keys.head))]
        for key, blob in store.scan(b"N" + source.run_key):
            plain = {**decode_record(key, blob), "run_id": run_id}
            new = key[:1] + keys.run_key + key[17:]
            puts.append(Put(new, encode_record(new, plain)))
        for key, blob in store.scan(b"S" + source.run_key):
            new = key[:1] + keys.run_key + key[17:]
            puts.append(Put(new, encode_record(new, decode_record(key, blob))))
        if name == "parked":
            puts.append(Put(keys.parked, encode_record(keys.parked, 1 << 62)))
        store.commit(*puts)


LOOKS: dict[str, Callable[[Engine], Awaitable[Any]]] = {
    "runs": lambda engine: engine.runs(),
    "history": lambda engine: engine.history("long"),
    "check": lambda engine: engine.check(ASKS),
    "recover": lambda engine: engine.recover(),
    "prune, to see": lambda engine: engine.prune(dry_run=True),
    "prune": lambda engine: engine.prune(),
}


@pytest.fixture(scope="module")
def filled() -> MemoryStore:
    store = MemoryStore()
    asyncio.run(fill(store))
    return store


@pytest.mark.parametrize("look", LOOKS)
async def test_a_long_query_reads_a_slice_at_a_time_and_lets_the_loop_run(look: str, filled: MemoryStore) -> None:
    store = Sliced()
    store.commit(*(Put(key, value) for key, value in filled.scan(b"")))
    async with Engine(store) as engine:
        engine.register(ASKS)
        engine.register(counting(1))
        watch = asyncio.ensure_future(store.watch())
        await asyncio.sleep(0)
        store.read = store.most = store.total = 0
        found = await LOOKS[look](engine)
        watch.cancel()
    assert len(found) >= MANY
    assert store.total >= MANY
    assert store.most <= (16 if look == "prune" else 4) * SLICE_RECORDS


async def test_a_history_that_is_pruned_while_it_is_read_is_not_found_instead_of_cut_or_damaged(
    filled: MemoryStore,
) -> None:
    store = MemoryStore()
    store.commit(*(Put(key, value) for key, value in filled.scan(b"") if key[:1] != b"G"))
    async with Engine(store) as engine:
        reading = asyncio.ensure_future(engine.history("long"))
        await asyncio.sleep(0)
        keys = Keys("long")
        steps = [Delete(key) for key, _ in store.scan(keys.step(0)[:-8])]
        store.commit(Delete(keys.head), Delete(keys.first_snapshot), *steps)  # like the first two commits of a prune
        with pytest.raises(RunNotFound):
            await reading


async def test_a_history_ends_at_the_last_step_when_it_was_requested() -> None:
    gate = asyncio.Event()
    g = Graph("going", limits=Limits(max_visits=100_000))

    @g.node
    async def count(value: int) -> int:
        await asyncio.sleep(0)
        gate.set()
        return value + 1

    g.edge(START, count)
    g.branch(count, lambda value: False, {True: END, False: count})
    async with Engine() as engine:
        await engine.start(g, 0, run_id="r")
        await gate.wait()
        steps = await asyncio.wait_for(engine.history("r"), 60)
        assert [step.seq for step in steps] == list(range(1, len(steps) + 1))
        await engine.cancel("r")


async def test_a_run_that_begins_while_runs_are_listed_hides_no_other_run(filled: MemoryStore) -> None:
    store = MemoryStore()
    store.commit(*(Put(key, value) for key, value in filled.scan(b"")))
    async with Engine(store) as engine:
        before = {info.run_id for info in await engine.runs()}
        listing = asyncio.ensure_future(engine.runs())
        while not listing.done():
            await engine.execute(counting(1), 0)
        assert before <= {info.run_id for info in listing.result()}
