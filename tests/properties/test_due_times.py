"""Each due time of a schedule gets one run, whatever crashes, and wherever the clock is set."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from effort import examples
from hypothesis import given
from hypothesis import strategies as st
from outages import Outage, Wire
from simulation import Crash

from beluga_graph import Engine, Workflow, step
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.loading import read_steps
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.schedule_records import find_schedule
from beluga_graph.storage.verify import verify_store
from beluga_graph.testing import VirtualClock
from stores import MemoryStore
from stores.base import Delete, Op

START_MS = 1_774_742_400_000  # 2026-03-29 in Berlin, a day of 23 hours
NAME = "report"


@dataclass
class FlakyDisk:
    """A store that outlives its processes. Its commits crash the process on schedule."""

    crashes: list[tuple[int, bool]] = field(default_factory=list)
    store: MemoryStore = field(default_factory=MemoryStore)
    _since: int = 0

    def commit(self, ops: Sequence[Op]) -> None:
        """Write, or crash: before or after writing, as the schedule says."""
        self._since += 1
        dies = bool(self.crashes) and self.crashes[0][0] <= self._since
        if dies and not self.crashes[0][1]:
            self._die()
        self.store.commit(*ops)
        if dies:
            self._die()

    def _die(self) -> None:
        self.crashes.pop(0)
        self._since = 0
        raise Crash


async def work(value: int) -> int:
    return value


class Cluster:
    """Two engines on one store and one clock. An engine whose process has crashed is replaced."""

    def __init__(self, disk: FlakyDisk) -> None:
        self.disk = disk
        self.clock = VirtualClock(START_MS)
        self.flow = Workflow("work", step("work", work))
        self.wires: list[Wire] = []
        self.engines: list[Engine] = []

    def boot(self) -> None:
        """Connect a new engine."""
        wire = Wire(self.disk)  # type: ignore[arg-type]  # a disk that records less
        engine = Engine(wire, clock=self.clock)
        engine.register(self.flow)
        self.wires.append(wire)
        self.engines.append(engine)

    async def replace_crashed(self) -> None:
        """Remove the engines whose wire is cut, with the records of their owners, and connect new ones."""
        for at in [at for at, wire in enumerate(self.wires) if wire.is_cut][::-1]:
            engine = self.engines.pop(at)
            del self.wires[at]
            await engine.close()
            self.disk.store.commit(Delete(Prefix.OWNER + engine._host.owner.id))
        while len(self.engines) < 2:
            self.boot()

    async def call(self, verb: str, *arguments: Any, **options: Any) -> None:
        """Call a method of an engine until it succeeds."""
        while True:
            await self.replace_crashed()
            try:
                await getattr(self.engines[0], verb)(*arguments, **options)
            except Outage:
                continue
            return

    async def close(self) -> None:
        self.disk.crashes.clear()
        for engine in self.engines:
            await engine.close()

    def run_ids(self) -> list[str]:
        return sorted(RunRecord.decode(key, blob).run_id for key, blob in self.disk.store.scan(Prefix.RUN))


RULES = st.sampled_from(
    [
        {"cron": "*/20 * * * *", "timezone": "Europe/Berlin"},
        {"cron": "30 1-3 * * *", "timezone": "Europe/Berlin"},
        {"every": 700},
        {"every": 1000, "jitter": 900},
        {"cron": "*/10 * * * *", "jitter": 3000},
    ]
)
CRASHES = st.lists(st.tuples(st.integers(1, 12), st.booleans()), max_size=6)
MOVES = st.lists(
    st.one_of(
        st.tuples(st.just("advance"), st.integers(1, 4000)),
        st.tuples(st.just("jump"), st.integers(-4000, 8000)),
        st.tuples(st.just("pause"), st.just(0)),
        st.tuples(st.just("unpause"), st.just(0)),
        st.tuples(st.just("give"), st.just(0)),
        st.tuples(st.just("kill"), st.integers(0, 1)),
    ),
    min_size=2,
    max_size=12,
)


@examples(80)
@given(RULES, st.sampled_from(["allow", "queue"]), MOVES, CRASHES)
def test_each_due_time_gets_one_run(
    rule: dict[str, Any], overlap: str, moves: list[tuple[str, int]], crashes: list[tuple[int, bool]]
) -> None:
    asyncio.run(_check(rule, overlap, moves, crashes))


async def _check(
    rule: dict[str, Any], overlap: str, moves: list[tuple[str, int]], crashes: list[tuple[int, bool]]
) -> None:
    disk = FlakyDisk(list(crashes))
    cluster = Cluster(disk)
    options = {**rule, "overlap": overlap, "catch_up": "all"}
    await cluster.call("schedule", NAME, cluster.flow, 7, **options)
    latest_ms = START_MS
    for verb, number in moves:
        await cluster.replace_crashed()
        if verb == "advance":
            await cluster.clock.advance(number)
        elif verb == "jump":
            cluster.clock.set(cluster.clock.now_ms() + number * 1000)
            await cluster.clock.advance(0)
        elif verb == "give":
            await cluster.call("schedule", NAME, cluster.flow, 7, **options)
        elif verb == "kill":
            cluster.wires[number].is_cut = True
        else:
            await cluster.call(verb, NAME)
        latest_ms = max(latest_ms, cluster.clock.now_ms())
    await cluster.call("unpause", NAME)
    while disk.crashes or any(wire.is_cut for wire in cluster.wires):  # until every crash has come
        await cluster.replace_crashed()
        cluster.clock.set(max(latest_ms, cluster.clock.now_ms()))
        await cluster.clock.advance(2000)
    cluster.clock.set(max(latest_ms, cluster.clock.now_ms()))
    await cluster.call("schedules")
    for engine in cluster.engines:
        engine._host.firing.look_soon()  # a schedule of an outage would be tried again in two seconds
    await cluster.clock.advance(0)
    if overlap == "queue":  # the runs of crashed engines hold up the next ones until an engine takes them over
        while (stored := find_schedule(disk.store, NAME)) is not None and stored.state.queued:
            await cluster.engines[0].recover()
            await cluster.clock.advance(0)
    stored = find_schedule(disk.store, NAME)
    assert stored is not None
    expected, due_ms = [], stored.schedule.rule.find_next(START_MS)
    while due_ms is not None and stored.schedule.start_ms(due_ms) <= cluster.clock.now_ms():
        expected.append(stored.schedule.run_id(due_ms))
        due_ms = stored.schedule.rule.find_next(due_ms)
    assert cluster.run_ids() == sorted(expected)
    for run_id in expected:
        assert [step.trigger for step in read_steps(disk.store, run_id)].count("RunStarted") == 1
        assert disk.store.get(Keys(run_id).head) is not None
    await cluster.close()
    assert verify_store(disk.store).damage == ()
