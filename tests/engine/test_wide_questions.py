"""The cost of each question in a fan-out, in counts: it must not grow with the number of questions."""

import asyncio
from collections.abc import Iterator
from typing import Any

import pytest
from counted_lines import Lines
from wrapped_store import until

import beluga_graph
from beluga_graph import END, START, Engine, Graph, Limits
from beluga_graph.codec import Registry, encode
from beluga_graph.engine.parking import Parking
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.records import encode_record
from stores import MemoryStore
from stores.base import Put

WIDTHS = (100, 1_000)
MOST = 1.2


class Read(MemoryStore):
    """Counts the records that are read, by kind, and the committed operations."""

    def __init__(self) -> None:
        super().__init__()
        self.reads: dict[bytes, int] = {}
        self.ops = 0

    def get(self, key: bytes) -> bytes | None:
        self._count(key)
        return super().get(key)

    def scan(self, prefix: bytes, **options: Any) -> Iterator[tuple[bytes, bytes]]:
        self._count(prefix)
        for key, value in super().scan(prefix, **options):
            self._count(key)
            yield key, value

    def commit(self, *ops: Any) -> None:
        self.ops += len(ops)
        super().commit(*ops)

    def total(self) -> int:
        return sum(self.reads.values())

    def _count(self, key: bytes) -> None:
        self.reads[key[:1]] = self.reads.get(key[:1], 0) + 1


def asking(width: int) -> Graph:
    g = Graph("asking", limits=Limits(max_width=100_000))

    @g.node(requires_approval=True)
    async def ask(value: int) -> int:
        return value

    g.fan_out("out", to=ask, over=lambda value: range(width), join="in")
    g.join("in", len)
    g.edge(START, "out")
    g.edge("in", END)
    return g


async def waiting(engine: Engine, width: int) -> None:
    await engine.start(asking(width), 0, run_id="r")
    await _all_asked(engine)


@pytest.fixture
def no_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prevent looks during the count: their number depends on the machine's speed."""
    monkeypatch.setattr("beluga_graph.engine.store_poller.INTERVAL_S", 3_600.0)


@pytest.mark.usefixtures("no_looks")
async def test_a_question_costs_as_much_to_ask_among_a_thousand_as_among_a_hundred() -> None:
    lines, reads, ops = {}, {}, {}
    for width in WIDTHS:
        store = Read()
        async with Engine(store) as engine:
            with Lines(beluga_graph) as ran:
                await waiting(engine, width)
            lines[width], reads[width], ops[width] = (n / width for n in (ran.count, store.total(), store.ops))
    for cost in (lines, reads, ops):
        assert cost[1_000] <= MOST * cost[100]


@pytest.mark.usefixtures("no_looks")
async def test_a_question_costs_as_much_to_answer_among_a_thousand_as_among_a_hundred() -> None:
    lines, reads, ops = {}, {}, {}
    for width in WIDTHS:
        store = Read()
        async with Engine(store) as engine:
            await waiting(engine, width)
            questions = await engine.pending()
            store.reads.clear()
            store.ops = 0
            with Lines(beluga_graph) as ran:
                for question in questions:
                    await engine.answer("r", question.id, "approve")
                assert await (await engine.start(asking(width), 0, run_id="r")).result() == width
            lines[width], reads[width], ops[width] = (n / width for n in (ran.count, store.total(), store.ops))
    for cost in (lines, reads, ops):
        assert cost[1_000] <= MOST * cost[100]


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("here", [True, False])
async def test_a_look_for_new_signals_reads_only_the_signals_that_were_sent(
    width: int, *, here: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Parking, "look", lambda _: None)  # otherwise a slow test would count a wake-up
    store = Read()
    answered = 5
    async with Engine(store) as engine, Engine(store) as other:
        await waiting(engine, width)
        live = engine._host.runs.current("r")
        assert live is not None
        questions = await engine.pending()
        store.reads.clear()
        for question in questions[:answered]:
            await (engine if here else other).answer("r", question.id, "approve")
        await until(lambda: len(live.snapshot.waits) == width - answered and not list(MemoryStore.scan(store, b"D")))
        assert store.reads[b"I"] <= 6 * answered


async def test_an_ended_run_leaves_no_wakeup_record_of_any_signal() -> None:
    g = Graph("one")
    g.wait("go", "go")
    g.edge(START, "go")
    g.edge("go", END)
    store = MemoryStore()
    async with Engine(store) as engine:
        run = await engine.start(g, 0, run_id="r")
        for name in ("early", "late", "go"):
            await run.signal(name, 1)
        await run.result()
        await engine._host.scheduler.committer.drain()
        assert list(store.scan(b"D")) == []


async def test_a_wakeup_record_of_an_earlier_release_makes_the_engine_check_every_signal() -> None:
    g = Graph("one")
    g.wait("go", "go")
    g.edge(START, "go")
    g.edge("go", END)
    store = MemoryStore()
    async with Engine(store) as engine:
        run = await engine.start(g, 0, run_id="r")
        await _all_asked(engine)
        await _left_by_an_earlier_release(store)
        assert await run.result(timeout=60) == 7


async def _all_asked(engine: Engine) -> None:
    while engine._host.runs.head("r").status != "waiting":  # noqa: ASYNC110 - no event announces it
        await asyncio.sleep(0)


async def _left_by_an_earlier_release(store: MemoryStore) -> None:
    """Store a signal with the single wakeup record of earlier releases."""
    keys = Keys("r")
    key = keys.signal("go", 0)
    store.commit(Put(key, encode_record(key, ("go", encode(7, Registry()), 0))), Put(keys.wakeup, bytes(8)))
