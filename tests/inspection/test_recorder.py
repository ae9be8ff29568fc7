"""The recorder: a run that another driver walked is written with the records that the local engine writes."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from functools import partial
from typing import Annotated, Any

import pytest
from flows_for_tests import failing, talking, waiting
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    Context,
    Engine,
    Graph,
    RunBusy,
    RunConflict,
    RunFailed,
    RunNotFound,
    Workflow,
    append,
    step,
)
from beluga_graph.execution.result import AttemptResult
from beluga_graph.inspection.recorder import RunRecorder
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.triggers import Trigger
from beluga_graph.kernel.types import Patch
from beluga_graph.plan.plan import Compilable
from beluga_graph.runtime.driver import RunDriver
from beluga_graph.runtime.step import Origin, Step
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.loading import RunReader, load_run, read_run_record, rebuild
from beluga_graph.storage.records import decode_record, encode_record
from beluga_graph.storage.verify import verify_store
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, Put

LARGE = "x" * 10_000
PLACE = "temporal://there:7233/default"
RUN_ID = "r"
PASSING = {Prefix.LEASE, Prefix.OWNER, Prefix.WAKEUP, Prefix.SESSION, Prefix.SESSION_ITEM}
PATIENCE_S = 60


class Shelf(BaseModel):
    books: Annotated[list[str], append] = []
    n: int = 0


def shelving() -> Graph:
    """Return a flow with state, a message, a branch that fails, a question in a frame, a wait and a timer."""

    async def first(ctx: Context, value: int) -> str:
        ctx.update(books=["a", LARGE], n=value)
        ctx.publish("shelf.first", value)
        return LARGE

    async def each(ctx: Context, value: int) -> int:
        ctx.update(books=[str(value)])
        if value == 1:
            raise ValueError("one")
        return value

    g = Graph("shelving", state=Shelf)
    g.node(name="first")(first)
    g.fan_out("out", to="each", over=lambda _: [0, 1, 2], join="gather")
    g.node(name="each")(each)
    g.join("gather", len, on_error="collect")
    g.add(Workflow("asking", step("pay", lambda value: value, requires_approval=True)), name="frame")
    g.wait("w", "go", timeout=3600.0)
    g.timer("nap", 3600.0)
    for source, target in zip([START, "first"], ["first", "out"], strict=True):
        g.edge(source, target)
    for source, target in zip(["gather", "frame", "w", "nap"], ["frame", "w", "nap", END], strict=True):
        g.edge(source, target)
    return g


def counting(end: int = 200) -> Graph:
    """Return a loop that is long enough for several full snapshots."""
    g = Graph("counting")
    g.node(name="count")(lambda value: value + 1)
    g.edge(START, "count")
    g.branch("count", lambda value: value >= end, {True: END, False: "count"})
    return g


@dataclass
class Walked:
    """A run as the local engine has walked it: its records, and the steps that a driver would pass on."""

    flow: Compilable
    store: MemoryStore
    steps: list[tuple[int, Trigger, Patch, AttemptResult | None, int]]

    def begun(self, seq: int = 0) -> Snapshot:
        return rebuild(self.store, RUN_ID, seq)

    def record(self, target: MemoryStore, *, moved_to: str = PLACE, seq: int = 0, until: int | None = None) -> None:
        """Record the run from step `seq` on into another store, up to a step, as its driver would."""
        run = self.begun(seq)
        recorder = RunRecorder(target, self.flow.plan().shape, run, at_ms=self.created_ms, moved_to=moved_to)
        reader = RunReader(self.store, RUN_ID)
        items = {
            (name, field): list(reader.read_items(name, field, 0, length))
            for name, place in run.places.items()
            for field, length in place.lengths.items()
        }
        recorder.begin(items=items, blobs=self.blobs())
        for number, trigger, patch, result, at_ms in self.steps:
            if number <= seq or (until is not None and number > until):
                continue
            recorder.write(trigger, patch, result, at_ms=at_ms)
            run.apply(patch)
            recorder.commit()
        recorder.flush()

    @property
    def created_ms(self) -> int:
        return read_run_record(self.store, RUN_ID).created_ms

    def blobs(self) -> list[tuple[bytes, bytes]]:
        reader = RunReader(self.store, RUN_ID)
        found = [key[1:] for key, _ in self.store.scan(Prefix.VALUE)]
        return [(b"\xc1" + digest, reader.load(b"\xc1" + digest)) for digest in found]


async def walk(monkeypatch: pytest.MonkeyPatch, flow: Compilable, value: Any, **options: Any) -> Walked:
    """Drive a run with the local engine to its end or its failure, and note each step."""
    walked = Walked(flow, MemoryStore(), [])
    write = RunDriver.write

    def noted(self: RunDriver, trigger: Trigger, patch: Patch, origin: Origin | None) -> Step:
        made = write(self, trigger, patch, origin)
        walked.steps.append((made.seq, trigger, patch, made.origin[0], made.at_ms))
        return made

    monkeypatch.setattr(RunDriver, "write", noted)
    clock = VirtualClock()
    async with asyncio.timeout(PATIENCE_S), Engine(walked.store, clock=clock) as engine:
        run = await engine.start(flow, value, run_id=RUN_ID, **options)
        if flow.plan().name == "shelving":
            while not (asked := await engine.pending()):  # noqa: ASYNC110 - a question is not announced
                await asyncio.sleep(0)
            await engine.answer(RUN_ID, asked[0].id, "approve")
            await run.signal("go", LARGE)
            while not (await engine.snapshot(RUN_ID)).timers:  # noqa: ASYNC110 - nor is a timer
                await asyncio.sleep(0)
            await clock.advance(3601)
        await run.outcome()
    monkeypatch.undo()
    return walked


def records(store: MemoryStore) -> dict[bytes, Any]:
    """Return the records of a store but for those of owners; signals without the time at which they came."""
    found: dict[bytes, Any] = {}
    for key, blob in store.scan(b""):
        if key[:1] == Prefix.SIGNAL:
            found[key] = decode_record(key, blob)[:2]
        elif key[:1] not in PASSING and key[:1] != Prefix.OPEN:
            found[key] = blob
    return found


async def answers(store: MemoryStore, flow: Compilable) -> list[Any]:
    """Return what an inspector answers about the run, in a form that can be compared."""
    async with Engine(store) as engine:
        engine.register(flow)
        snapshots = [await engine.snapshot(RUN_ID, found.seq) for found in await engine.history(RUN_ID)]
        trail = await engine.trail(RUN_ID)
        return [
            await engine.history(RUN_ID),
            snapshots,
            await engine.draw(RUN_ID),
            await engine.html(RUN_ID),
            dict(trail.edge_counts),
            list(trail.visits),
            (await engine.compare(RUN_ID, RUN_ID)).divergences,
            await engine.pending(),
        ]


FLOWS = {
    "shelving": (shelving, 7, {}),
    "counting": (counting, 0, {}),
    "failing": (partial(failing, LARGE), 1, {}),
    "talking": (talking, "hello", {}),
    "in a session": (talking, "hello", {"session": "s"}),
}


@pytest.mark.parametrize("name", FLOWS)
async def test_a_recorded_run_has_the_records_of_the_local_engine(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, value, options = FLOWS[name]
    walked = await walk(monkeypatch, make(), value, **options)
    target = MemoryStore()
    walked.record(target, moved_to="")
    assert records(target) == records(walked.store)
    assert await answers(target, walked.flow) == await answers(walked.store, walked.flow)
    assert verify_store(target).damage == ()


@pytest.mark.parametrize("name", FLOWS)
async def test_a_run_is_readable_and_sound_at_each_step_while_it_goes_on_elsewhere(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, value, options = FLOWS[name]
    walked = await walk(monkeypatch, make(), value, **options)
    target = MemoryStore()
    for number, *_ in walked.steps[:40]:
        walked.record(target, until=number)
        assert verify_store(target).damage == ()
        assert rebuild(target, RUN_ID).to_plain() == walked.begun(number).to_plain()
    assert list(target.scan(Prefix.TIMER)) == list(target.scan(Prefix.OPEN)) == []


@pytest.mark.parametrize("name", FLOWS)
async def test_recording_a_run_again_changes_nothing(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    make, value, options = FLOWS[name]
    walked = await walk(monkeypatch, make(), value, **options)
    target = MemoryStore()
    walked.record(target, until=len(walked.steps) // 2)
    walked.record(target)
    once = dict(target.scan(b""))
    walked.record(target)
    walked.record(target, seq=len(walked.steps) // 2)
    assert dict(target.scan(b"")) == once
    whole = MemoryStore()
    walked.record(whole)
    without_snapshots = [
        {key: blob for key, blob in records(store).items() if key[:1] != b"N"} for store in (target, whole)
    ]
    assert without_snapshots[0] == without_snapshots[1]


async def test_a_run_can_be_recorded_from_a_later_step_on(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = await walk(monkeypatch, shelving(), 7)
    for seq in range(2, len(walked.steps)):  # the message of step 2 would keep the run from being pruned
        target = MemoryStore()
        walked.record(target, seq=seq)
        assert verify_store(target).damage == ()
        async with Engine(target) as engine:
            engine.register(walked.flow)
            assert [found.seq for found in await engine.history(RUN_ID)] == [*range(seq + 1, len(walked.steps) + 1)]
            assert (await engine.snapshot(RUN_ID)).state["n"] == 7
            assert (await engine.snapshot(RUN_ID, seq)).seq == seq
            with pytest.raises(RunNotFound, match=f"its steps up to {seq} are not known"):
                await engine.snapshot(RUN_ID, seq - 1)
            assert (await engine.html(RUN_ID)).startswith("<!DOCTYPE html>")
            assert await engine.draw(RUN_ID)
            assert (await engine.compare(RUN_ID, RUN_ID)).divergences == (None, None)
            again = await engine.fork(RUN_ID, seq, run_id_new="again")
            assert again.id == "again"
            assert RUN_ID in [info.run_id for info in await engine.prune()]
        assert verify_store(target).damage == ()
        assert [key for key, _ in target.scan(b"") if key[1:17] == Keys(RUN_ID).run_key] == []


async def test_a_pending_question_of_a_run_recorded_from_a_later_step_is_listed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    walked = await walk(monkeypatch, shelving(), 7)
    asking = next(
        number for number, *_ in walked.steps if any("approval:" in name for name in walked.begun(number).waits)
    )
    whole, late = MemoryStore(), MemoryStore()
    walked.record(whole, until=asking)
    walked.record(late, seq=asking, until=asking)
    async with Engine(whole) as first, Engine(late) as second:
        (expected,), (found,) = await first.pending(), await second.pending()
    assert replace(found, asked_ms=0) == replace(expected, asked_ms=0)


async def test_no_engine_drives_a_run_that_goes_on_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = await walk(monkeypatch, shelving(), 7)
    asking = next(
        number for number, *_ in walked.steps if any("approval:" in name for name in walked.begun(number).waits)
    )
    target = MemoryStore()
    walked.record(target, until=asking)
    before = dict(target.scan(b""))
    async with Engine(target) as engine:
        engine.register(walked.flow)
        (question,) = await engine.pending()
        for refused in (
            engine.resume(RUN_ID),
            engine.start(walked.flow, 7, run_id=RUN_ID),
            engine.signal(RUN_ID, "go", 1),
            engine.answer(RUN_ID, question.id, "approve"),
            engine.cancel(RUN_ID),
            anext(engine.stream(walked.flow, 7, run_id=RUN_ID)),
        ):
            with pytest.raises(RunConflict, match=f"it goes on elsewhere, at {PLACE}"):
                await refused
        recovery = await engine.recover()
        assert (list(recovery), recovery.skipped) == ([], {})
        (info,) = await engine.runs()
        assert (info.moved_to, info.status) == (PLACE, "waiting")
        assert await engine.prune(status=("completed", "failed", "cancelled")) == ()
        kept = dict(target.scan(b""))
        assert {key: kept.get(key) for key in before} == before
        fork = await engine.fork(RUN_ID, asking, run_id_new="fork")
        (asked,) = [found for found in await engine.pending() if found.run_id == "fork"]
        await engine.answer("fork", asked.id, "approve")
        await fork.signal("go", 1)
    walked.record(target)
    async with Engine(target) as engine:
        assert [info.moved_to for info in await engine.runs() if info.run_id == RUN_ID] == [""]
        assert await engine.execute(walked.flow, 7, run_id=RUN_ID) == LARGE


async def test_a_failed_run_that_goes_on_elsewhere_is_not_resumed(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = await walk(monkeypatch, failing(LARGE), 1)
    target, free = MemoryStore(), MemoryStore()
    walked.record(target)
    walked.record(free, moved_to="")
    async with Engine(target) as engine, Engine(free) as other:
        engine.register(walked.flow)
        with pytest.raises(RunConflict, match=PLACE):
            await engine.resume(RUN_ID)
        assert [info.run_id for info in await engine.prune(status=("failed",))] == [RUN_ID]
        other.register(walked.flow)
        with pytest.raises(RunFailed):
            await (await other.resume(RUN_ID)).result()


async def test_unread_signals_are_found_by_a_resume_and_a_fork(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = Walked(waiting(), MemoryStore(), [])
    async with Engine(walked.store) as engine:
        run = await engine.start(walked.flow, 1, run_id=RUN_ID)
        while (await run.status()) != "waiting":  # noqa: ASYNC110 - the status is not announced
            await asyncio.sleep(0)
    waits = load_run(walked.store, RUN_ID).run
    target = MemoryStore()
    plan = walked.flow.plan()
    recorder = RunRecorder(target, plan.shape, waits, at_ms=0)
    recorder.begin()
    for position, text in enumerate(["first", "second"]):
        recorder.put_signal("go", position, plan.encode(text), at_ms=1)
    recorder.flush()
    assert verify_store(target).damage == ()
    async with asyncio.timeout(PATIENCE_S), Engine(target) as engine:
        engine.register(walked.flow)
        fork = await engine.fork(RUN_ID, waits.seq)
        assert await fork.result() == "first"
        assert await (await engine.resume(RUN_ID)).result() == "first"


async def test_another_run_of_the_id_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = await walk(monkeypatch, counting(3), 0)
    other = await walk(monkeypatch, counting(3), 1)
    target = MemoryStore()
    walked.record(target, until=2)
    with pytest.raises(RunConflict, match="another run with this id"):
        other.record(target)
    with pytest.raises(RunConflict, match="the store has steps 1 to 2 of it, and cannot continue with step 4"):
        walked.record(target, seq=3)
    with pytest.raises(RunConflict, match=f"it has moved to {PLACE}"):
        walked.record(target, moved_to="")
    local = MemoryStore()
    walked.record(local, moved_to="", until=2)
    with pytest.raises(RunConflict, match="an engine on this store may drive it"):
        walked.record(local)


async def test_a_recorder_that_lost_the_run_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    walked = await walk(monkeypatch, counting(3), 0)
    target, run = MemoryStore(), walked.begun()
    late = RunRecorder(target, walked.flow.plan().shape, run, at_ms=walked.created_ms, moved_to=PLACE)
    late.begin()
    _, trigger, patch, result, at_ms = walked.steps[0]
    late.write(trigger, patch, result, at_ms=at_ms)
    run.apply(patch)
    walked.record(target, until=2)
    late.commit()
    with pytest.raises(RunBusy, match="another process records it"):
        late.flush()
    taken = MemoryStore()
    walked.record(taken, until=1)
    key = Keys(RUN_ID).lease
    recorder = RunRecorder(taken, walked.flow.plan().shape, run, at_ms=0, moved_to=PLACE)
    recorder.begin()
    taken.commit(Put(key, Lease(b"x" * 16, 2).encode(key)))
    _, trigger, patch, result, at_ms = walked.steps[1]
    recorder.write(trigger, patch, result, at_ms=at_ms)
    run.apply(patch)
    recorder.commit()
    with pytest.raises(RunBusy):
        recorder.flush()
    assert rebuild(taken, RUN_ID).seq == 1


def test_the_record_of_a_run_that_has_not_moved_is_as_it_was_before() -> None:
    key = Keys(RUN_ID).head
    fields = (RUN_ID, "flow", "plan", "waiting", 1, 2)
    head = read_run_record(_store_of(key, encode_record(key, fields)), RUN_ID)
    assert (head.moved_to, head.encode(key)) == ("", encode_record(key, fields))
    moved = replace(head, moved_to=PLACE)
    assert read_run_record(_store_of(key, moved.encode(key)), RUN_ID) == moved


def _store_of(key: bytes, blob: bytes) -> MemoryStore:
    store = MemoryStore()
    store.commit(Put(key, blob))
    return store
