"""A store that version 0.1 wrote, before its modules moved to packages: this version reads all of it and continues.

`write_store.py` says how it was written, `flows_of_0_1.py` holds its flows. `write_queue.py` and
`flows_of_queue_0_1.py` do the same for a second, smaller store. Every test opens a copy.
"""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from flows_of_0_1 import LARGE, SWITCHES, Kept, Order, Tally, Topic, flows
from flows_of_queue_0_1 import LARGE as LARGE_ITEM
from flows_of_queue_0_1 import queueing

from beluga_graph import (
    BusEvent,
    Divergence,
    Engine,
    EventBus,
    PlanChange,
    Question,
    RunComparison,
    RunFailed,
    RunInfo,
    RunStatus,
    StepInfo,
)
from beluga_graph.cli.commands.verify import check_path
from beluga_graph.execution.approval import Answer
from beluga_graph.storage.keys import KINDS
from beluga_graph.storage.loading import read_run_record
from beluga_graph.testing import VirtualClock
from stores import LMDBStore

STATUSES = {
    "asks": "waiting",
    "asleep": "waiting",
    "cancelled": "cancelled",
    "counted": "completed",
    "crashed": "running",
    "failed": "failed",
    "forked": "completed",
    "forked-parked": "waiting",
    "half": "waiting",
    "kept": "completed",
    "parked": "waiting",
    "published": "completed",
    "talked-2": "completed",
    "talked-3": "completed",
    "tool-asks": "waiting",
    "unread": "waiting",
}
COUNTED = {"numbers": [2, 4, 6], "text": LARGE}
WRITTEN_MS = 1_700_000_000_000


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a copy of the store."""
    return Path(shutil.copytree(Path(__file__).parent / "store_of_0_1", tmp_path / "store"))


@pytest.fixture
def store(folder: Path) -> Iterator[LMDBStore]:
    opened = LMDBStore(folder)
    yield opened
    opened.close()


@pytest.fixture(autouse=True)
def _mended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SWITCHES, "is_broken", False)
    monkeypatch.setitem(SWITCHES, "hangs", False)


def engine_on(store: LMDBStore, bus: EventBus | None = None) -> tuple[Engine, VirtualClock]:
    clock = VirtualClock()
    engine = Engine(store, clock=clock, bus=bus)
    for flow in flows().values():
        engine.register(flow)
    return engine, clock


def test_verify_finds_no_damage(folder: Path) -> None:
    checked = check_path(folder)
    assert checked.damage == ()
    assert (checked.runs, checked.records["steps"], checked.records["bus events"]) == (16, 51, 4)


def test_the_store_holds_every_kind_of_record_but_the_passing_ones(store: LMDBStore) -> None:
    passing = {"D", "K", "E", "J"}  # wakeups, requests to cancel, and the two of a deletion under way
    later = {"v", "U", "F", "M", "R"}  # claims and schedules: no such kinds in 0.1
    assert {chr(key[0]) for key, _ in store.scan(b"")} == KINDS - passing - later


async def test_no_graph_has_changed(store: LMDBStore) -> None:
    engine, _ = engine_on(store)
    async with engine:
        for flow in flows().values():
            plan = engine.register(flow)
            assert {run: change for run, change in (await engine.check(flow)).items() if change} == {}
            for run_id in STATUSES:
                record = read_run_record(store, run_id)
                assert record.flow != plan.name or record.plan == plan.fingerprint


async def test_all_runs_are_listed_with_their_questions(store: LMDBStore) -> None:
    engine, _ = engine_on(store)
    async with engine:
        assert {info.run_id: info.status for info in await engine.runs()} == STATUSES
        tool, step = sorted(await engine.pending(), key=lambda question: question.kind, reverse=True)
    assert step == Question(
        run_id="asks",
        id="pay.approval#1",
        flow="paying",
        node="pay",
        kind="step",
        value=Order(amount=12),
        asked_ms=WRITTEN_MS,
    )
    assert (tool.run_id, tool.kind, tool.value["arguments"]) == ("tool-asks", "tool", {"amount": 7})


@pytest.mark.parametrize("run_id", STATUSES)
async def test_a_run_is_read_whole(store: LMDBStore, run_id: str) -> None:
    engine, _ = engine_on(store)
    async with engine:
        steps = await engine.history(run_id)
        assert [step.seq for step in steps] == [*range(1, len(steps) + 1)]
        for step in steps:
            assert (await engine.snapshot(run_id, step.seq)).seq == step.seq
        assert await engine.trail(run_id)
        assert (await engine.html(run_id)).startswith("<!DOCTYPE html>")
        assert (await engine.compare(run_id, run_id)).divergences == (None, None)


async def test_outputs_state_and_items_are_those_that_were_written(store: LMDBStore) -> None:
    engine, _ = engine_on(store)
    async with engine:
        for run_id in ("counted", "forked"):
            snapshot = await engine.snapshot(run_id)
            assert snapshot.output == COUNTED
            state = Tally(**snapshot.state)
            assert (state.total, state.log, state.last) == (6, ["saw 1", "saw 2", "saw 3"], Order(amount=12))
            assert await (await engine.resume(run_id)).result() == COUNTED
        outcome = await (await engine.resume("talked-3")).outcome()
        assert (outcome.output, outcome.status) == ("billing saw 3 messages", "completed")


async def test_public_values_are_read_under_the_names_that_their_classes_had(store: LMDBStore) -> None:
    engine, _ = engine_on(store)
    async with engine:
        kept = (await engine.snapshot("kept")).output
    assert isinstance(kept, Kept)
    assert isinstance(kept.infos[0], RunInfo)
    assert {info.run_id for info in kept.infos} == STATUSES.keys() - {"kept", "crashed"}
    assert kept.status is RunStatus.waiting
    assert [type(step) for step in kept.steps] == [StepInfo] * 2
    assert (kept.snapshot.run_id, kept.snapshot.tokens[0].node) == ("parked", "go")
    assert {question.run_id for question in kept.questions} == {"asks", "tool-asks"}
    assert (kept.outcome.status, kept.outcome.output) == (RunStatus.completed, COUNTED)
    assert (kept.failed.failure, kept.failure.type) == (kept.failure, "ValueError")
    assert (kept.comparison.first.run_id, kept.comparison.second.run_id) == ("counted", "forked")
    assert all(isinstance(judged.change, PlanChange) for judged in kept.changes)
    assert kept.answer == Answer("modify", value=Order(amount=1), reason="less")
    assert [event.type for event in kept.events[-2:]] == ["node_finished", "done"]
    assert (kept.message.topic, kept.message.data) == ("order.new", Order(amount=0))
    assert [(letter.event, letter.error) for letter in kept.letters] == [
        (kept.letters[0].event, "ValueError: not this one")
    ]
    assert kept.orders == (Order(amount=14),)


async def test_every_open_run_goes_on_to_its_end(store: LMDBStore) -> None:
    engine, clock = engine_on(store)
    async with engine:
        recovery = await engine.recover()
        assert recovery.skipped == {}
        runs = {run.id: run for run in recovery.runs}
        assert runs.keys() == {run_id for run_id, status in STATUSES.items() if status in ("waiting", "running")}
        assert await runs["crashed"].result(60) == 31
        await engine.signal("parked", "go", Order(amount=20))
        await engine.signal("unread", "first", 1)
        await engine.signal("half", "word", Topic("hello"))
        await engine.answer("asks", "pay.approval#1", "modify", Order(amount=5))
        (question,) = [question for question in await engine.pending() if question.run_id == "tool-asks"]
        await engine.answer("tool-asks", question.id, "approve")
        assert await runs["parked"].result(60) == "got 20 from ada"
        assert await runs["unread"].result(60) == 10
        assert await runs["half"].result(60) == "['worked', Topic(name='hello')] 5 ['worked']"
        assert await runs["asks"].result(60) == "paid 5 to ada"
        assert await runs["tool-asks"].result(60) == "told: paid out 7"
        await clock.advance(3601)
        assert await runs["asleep"].result(60) == 32
        with pytest.raises(RunFailed, match="no signal 'go' came within 3600 s"):
            await runs["forked-parked"].result(60)
        assert await (await engine.resume("failed")).result(60) == 9


async def test_a_session_goes_on_with_the_agent_that_answered_last(store: LMDBStore) -> None:
    engine, _ = engine_on(store)
    async with engine:
        assert await engine.execute(flows()["front"], "more", session="s") == "billing saw 5 messages"


async def test_earlier_runs_are_forked_cancelled_and_pruned(store: LMDBStore, folder: Path) -> None:
    engine, clock = engine_on(store)
    async with engine:
        await clock.advance(60)
        for seq in range(1, 4):
            run = await engine.fork("counted", seq, run_id_new=f"again-{seq}")
            assert await run.result(60) == COUNTED
        for run_id in ("parked", "failed", "asks"):
            assert await engine.cancel(run_id) is RunStatus.cancelled
        pruned = {info.run_id for info in await engine.prune()}
        assert {"counted", "forked", "kept", "parked", "failed", "asks", "talked-2"} <= pruned
        assert "published" not in pruned  # its message is still to be published
    store.close()
    assert check_path(folder).damage == ()


async def test_the_bus_has_its_events_and_goes_on_where_it_was(store: LMDBStore) -> None:
    heard: list[BusEvent] = []

    async def hear(event: BusEvent) -> None:
        heard.append(event)

    async with EventBus(store) as bus:
        bus.register(Order)
        assert [event.data.amount for event in await bus.trace("c")] == [0, 1, 2, 3]
        (letter,) = await bus.dead_letters("mailer")
        assert letter.event is not None
        assert (letter.event.data, letter.error, letter.tries) == (Order(amount=1), "ValueError: not this one", 5)
        assert ("shop", "order.new", "mailer") in [tuple(edge) for edge in bus.observed()]
        bus.subscribe("order.*", hear, name="mailer")
        assert (await bus.publish("order.new", Order(amount=9), event_id="fourth")).data == Order(amount=3)
        engine, _ = engine_on(store, bus)
        async with engine, asyncio.timeout(60):  # relays the message that a node has published
            await engine.recover()
            while len(heard) < 2:  # noqa: ASYNC110  # the relay announces nothing
                await asyncio.sleep(0.01)
    assert [(event.topic, event.data.amount) for event in heard] == [("order.new", 3), ("order.seen", 13)]


@pytest.fixture
def queue_folder(tmp_path: Path) -> Path:
    """Return a copy of the second store; see `write_queue.py`."""
    return Path(shutil.copytree(Path(__file__).parent / "queue_of_0_1", tmp_path / "queue"))


async def test_a_fan_out_whose_branches_queue_goes_on_where_it_was(queue_folder: Path) -> None:
    opened = LMDBStore(queue_folder)
    async with Engine(opened, clock=VirtualClock()) as engine:
        engine.register(queueing())
        before = await engine.snapshot("queued")
        assert [token.name for token in before.tokens] == ["each#1[1]/asks#1", "each#1[2]/asks#1"]
        assert before.state == {"log": ["began", LARGE_ITEM]}
        for run_id, answers in (("queued", (2, 3, 4, 5)), ("queued-too", (1, 2, 3, 4, 5))):
            run = await engine.resume(run_id)
            for answer in answers:
                await engine.signal(run_id, "go", answer)
            output = await run.result(60)
            assert output == [[2, 4, 6, 8, 10], ["began", LARGE_ITEM, *[f"heard {number}" for number in range(1, 6)]]]
        fork = await engine.fork("queued", 6, run_id_new="again")
        for answer in (2, 3, 4, 5):
            await engine.signal("again", "go", answer)
        assert (await fork.result(60))[0] == [2, 4, 6, 8, 10]
    opened.close()
    assert check_path(queue_folder).damage == ()


async def test_an_event_and_a_dead_letter_hold_a_class_under_its_former_name(queue_folder: Path) -> None:
    """The comparison in the event has a field and parts whose names were others when it was published."""
    opened, heard = LMDBStore(queue_folder), []

    async def hear(event: BusEvent) -> None:
        heard.append(event.data)

    async with EventBus(opened) as bus:
        bus.register(RunComparison)
        (letter,) = await bus.dead_letters("reader")
        assert letter.event is not None
        bus.subscribe("runs.*", hear, name="another", from_start=True)
        await bus.drain()
        (traced,) = await bus.trace(letter.event.correlation_id)
    opened.close()
    assert len(heard) == 2
    for found in (letter.event.data, traced.data, *heard):
        assert isinstance(found, RunComparison)
        assert (found.first.run_id, found.second.run_id) == ("queued", "queued-too")
        assert all(part is None or isinstance(part, Divergence) for part in found.divergences)
    assert any(found.divergences)
