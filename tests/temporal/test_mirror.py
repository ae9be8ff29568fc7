"""The mirror: a run on a real server is read from a store like a run of the local engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest
from crash_flows import FLOWS, INPUT
from mirroring import (
    DOORS,
    OPTIONS,
    PATIENCE_S,
    SIGNALS,
    HeldClaims,
    LateStore,
    Place,
    ReversingCodec,
    delete_execution,
    ended,
    events_of,
    expect_repeatable,
    failing,
    records,
    run_locally,
    saying,
    serving,
    shelving,
    state_of,
    until_waiting,
)
from servers import NAMESPACE, Server
from temporalio.client import Client
from temporalio.converter import DataConverter

from beluga_graph import END, START, Context, Graph, RunNotFound, SnapshotError, Workflow, step
from beluga_graph.codec.references import to_reference
from beluga_graph.execution.approval import Answer
from beluga_graph.inspection.flow_registry import FlowRegistry
from beluga_graph.inspection.inspector import Inspector
from beluga_graph.kernel.rules import answer_signal
from beluga_graph.kernel.triggers import PlanAdopted, RunResumed
from beluga_graph.plan.declared import MISSING
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.records import decode_record
from beluga_graph.temporal.connection.history import Execution, read_execution
from beluga_graph.temporal.mirror.recording import export_history, mirror_run
from beluga_graph.temporal.mirror.replay import replay_run
from beluga_graph.temporal.workflow.wire import ANSWER, SIGNAL, pack, unpack
from stores import MemoryStore


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("name", ["chain", "loop", "nested", "retry", "state", "waits", "parks"])
async def test_a_mirror_reads_like_the_run_of_the_local_engine(
    temporal_server: Server, name: str, options: dict[str, Any]
) -> None:
    flow, store, signals = FLOWS[name](), MemoryStore(), [SIGNALS[name]] if name in SIGNALS else []
    async with serving(temporal_server, flow) as place:
        handle = await place.start(INPUT, **options)
        for signal in signals:
            await place.signal(handle, *signal)
        await handle.result()
        alone = MemoryStore()
        await place.mirror(handle.id, alone)
        local = await run_locally(flow, store, *signals)
        inspector = await place.mirror(handle.id, store)
        assert (len(await export_history(place.client, handle.id)) > 1) == ("continue_events" in options)
        await expect_repeatable(place, handle.id, alone)
    history = await inspector.history(handle.id)
    assert await events_of(inspector, handle.id) == await events_of(inspector, local)
    assert [step.seq for step in history] == [*range(1, len(await inspector.history(local)) + 1)]
    assert {await inspector.status(run_id) for run_id in (local, handle.id)} == {"completed"}
    first, second = await inspector.snapshot(handle.id), await inspector.snapshot(local)
    assert (first.output, first.state, first.steps) == (second.output, second.state, second.steps)
    tokens = (await inspector.snapshot(handle.id, 1)).tokens
    assert [token.node for token in tokens] == [token.node for token in (await inspector.snapshot(local, 1)).tokens]
    assert (await inspector.draw(handle.id)).startswith("<svg")
    assert (await inspector.html(handle.id)).startswith("<!DOCTYPE html>")
    compared = await inspector.compare(local, handle.id)
    assert not compared.differs, compared
    assert [info.moved_to for info in await inspector.runs()] == ["", ""]


async def test_a_run_in_progress_is_readable_and_its_mirror_grows(temporal_server: Server) -> None:
    flow, store = FLOWS["waits"](), MemoryStore()
    async with serving(temporal_server, flow) as place:
        handle = await place.start(INPUT)
        await place.signal(handle, "later", "unread")
        await until_waiting(handle)
        inspector = await place.mirror(handle.id, store)
        replayed = await replay_run(place.client, handle.id)
        assert unpack(pack(replayed.run.to_plain())) == await state_of(handle)
        assert (replayed.status, replayed.inbox) == ("running", {"later": [place.plan.encode("unread")]})
        (info,) = await inspector.runs()
        assert (info.status, info.moved_to) == ("waiting", f"temporal://{temporal_server.address}/{NAMESPACE}")
        early = await inspector.history(handle.id)
        assert [step.trigger for step in early] == ["RunStarted", "NodeFinished", "TimerFired"]
        assert (await inspector.draw(handle.id)).startswith("<svg")
        await expect_repeatable(place, handle.id, store)
        await place.signal(handle, "go", 40)
        await handle.result()
        await place.mirror(handle.id, store)
        history = await inspector.history(handle.id)
        assert history[: len(early)] == early
        assert [step.trigger for step in history[len(early) :]] == ["SignalReceived", "NodeFinished", "NodeFinished"]
        assert (await inspector.snapshot(handle.id)).output == 42
        await expect_repeatable(place, handle.id, store)


async def test_signals_that_no_worker_has_seen_are_in_the_inbox(temporal_server: Server) -> None:
    flow, store = FLOWS["waits"](), MemoryStore()
    place = Place(await temporal_server.connect(), flow, None)
    handle = await place.start(INPUT)
    await place.signal(handle, "go", 1)
    replayed = await replay_run(place.client, handle.id)
    assert (replayed.run.seq, replayed.steps, replayed.inbox) == (0, (), {"go": [place.plan.encode(1)]})
    assert [name for name, _ in replayed.triggers] == ["RunStarted"]
    inspector = await place.mirror(handle.id, store)
    assert await inspector.history(handle.id) == []
    async with asyncio.timeout(PATIENCE_S):
        async with place.worker():
            await handle.result()
    await place.mirror(handle.id, store)
    assert (await inspector.snapshot(handle.id)).output == 3


async def test_a_failed_run_goes_on_from_its_history_and_the_mirror_has_both_parts(temporal_server: Server) -> None:
    flow, store = failing(), MemoryStore()
    DOORS["open"] = False
    async with serving(temporal_server, flow) as place:
        handle = await place.start(INPUT)
        await ended(handle)
        failed = await replay_run(place.client, handle.id)
        assert (failed.status, failed.run.status, failed.run.seq) == ("failed", "failed", 3)
        inspector = await place.mirror(handle.id, store)
        assert await inspector.status(handle.id) == "failed"
        assert (await inspector.history(handle.id))[-1].trigger == "NodeFailed"
        await expect_repeatable(place, handle.id, store)
        DOORS["open"] = True
        packed = place.input_of(failed.run, RunResumed(0), previous=failed.execution_id)
        again = await place.begin(handle.id, packed)
        assert unpack(await again.result())["output"] == place.plan.encode((INPUT + 1) * 2)
        await place.mirror(handle.id, store)
        whole = MemoryStore()
        await place.mirror(handle.id, whole)
        histories = await export_history(place.client, handle.id)
        assert [history.run_id for history in histories] == [failed.execution_id, again.result_run_id]
    triggers = ["RunStarted", "NodeFinished", "NodeFailed", "RunResumed", "NodeFinished"]
    for each in (store, whole):
        assert [step.trigger for step in await Inspector(each, FlowRegistry(each)).history(handle.id)] == triggers
    assert await inspector.status(handle.id) == "completed"


@pytest.mark.parametrize("way", ["cancel", "terminate"])
async def test_a_run_that_was_ended_from_outside_is_shown_as_cancelled(temporal_server: Server, way: str) -> None:
    flow, store = FLOWS["waits"](), MemoryStore()
    async with serving(temporal_server, flow) as place:
        handle = await place.start(INPUT)
        await until_waiting(handle)
        await (handle.cancel() if way == "cancel" else handle.terminate("enough"))
        await ended(handle)
        inspector = await place.mirror(handle.id, store)
        await expect_repeatable(place, handle.id, store)
        replayed = await replay_run(place.client, handle.id)
    assert replayed.status == ("cancelled" if way == "cancel" else "terminated")
    assert await inspector.status(handle.id) == "cancelled"
    assert (await inspector.history(handle.id))[-1].trigger == "CancelRequested"
    assert (await inspector.runs())[0].moved_to == ""


async def test_large_values_come_from_the_claims(temporal_server: Server) -> None:
    flow, store, claims = FLOWS["chain"](), MemoryStore(), HeldClaims()
    async with serving(temporal_server, flow, claims) as place:
        handle = await place.start(INPUT)
        await handle.result()
        with pytest.raises(SnapshotError, match="give the claims of its workers"):
            await mirror_run(place.client, handle.id, store)
        assert records(store) == {}
        inspector = await place.mirror(handle.id, store)
        await expect_repeatable(place, handle.id, store)
    assert len(claims) == 1
    events = [event for step in await inspector.history(handle.id) for event in step.events]
    assert [event.output for event in events if event.node == "third"] == [{"value": 40, "large": "x" * 20_000}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
async def test_items_are_taken_out_of_folded_pieces(temporal_server: Server, options: dict[str, Any]) -> None:
    flow, store = shelving(), MemoryStore()
    async with serving(temporal_server, flow, HeldClaims()) as place:
        handle = await place.start(INPUT, **options)
        await handle.result()
        inspector = await place.mirror(handle.id, store)
        await expect_repeatable(place, handle.id, store)
    local = await run_locally(flow, store)
    compared = await inspector.compare(local, handle.id)
    assert not compared.differs, compared
    assert [book[-1] for book in (await inspector.snapshot(handle.id)).state["books"]] == [*"112233eo"]


async def test_a_large_signal_is_read_from_the_claims_before_and_after_the_run_reads_it(
    temporal_server: Server,
) -> None:
    flow, store, claims = saying(), MemoryStore(), HeldClaims()
    place = Place(await temporal_server.connect(), flow, claims)
    encoded = place.plan.encode("x" * 20_000)
    reference = to_reference(encoded)
    claims.put(reference[1:], encoded)
    handle = await place.start(INPUT)
    await handle.signal(SIGNAL, args=["go", reference])
    assert (await replay_run(place.client, handle.id)).inbox == {"go": [reference]}
    await place.mirror(handle.id, store)
    await expect_repeatable(place, handle.id, store)
    async with asyncio.timeout(PATIENCE_S), place.worker():
        await handle.result()
    inspector = await place.mirror(handle.id, store)
    await expect_repeatable(place, handle.id, store)
    assert (await inspector.snapshot(handle.id)).output == 20_000
    (signal,) = [
        event for step in await inspector.history(handle.id) for event in step.events if event.type == "signal"
    ]
    assert signal.output == "x" * 20_000


async def test_steps_that_a_worker_has_not_completed_are_not_read(temporal_server: Server) -> None:
    flow, store = FLOWS["waits"](), MemoryStore()
    place = Place(await temporal_server.connect(), flow, None)
    async with asyncio.timeout(PATIENCE_S), place.worker():
        handle = await place.start(INPUT)
        await until_waiting(handle)
    before = await replay_run(place.client, handle.id)
    await place.signal(handle, "go", 40)
    after = await replay_run(place.client, handle.id)
    assert after.last_ms > before.last_ms
    assert after.run.to_plain() == before.run.to_plain()
    assert (before.inbox, after.inbox) == ({}, {"go": [place.plan.encode(40)]})
    inspector = await place.mirror(handle.id, store)
    assert (await inspector.history(handle.id))[-1].trigger == "TimerFired"
    await handle.terminate()
    assert (await replay_run(place.client, handle.id)).inbox == after.inbox
    await place.mirror(handle.id, store)
    assert await inspector.status(handle.id) == "cancelled"
    await expect_repeatable(place, handle.id, store)


async def test_questions_are_pending_until_their_answer_is_accepted(temporal_server: Server) -> None:
    flow, store = Workflow("asking", step("pay", lambda value: value + 1, requires_approval=True)), MemoryStore()
    async with serving(temporal_server, flow) as place:
        handle = await place.start(INPUT, continue_events=1)
        (signal,) = await until_waiting(handle)
        inspector = await place.mirror(handle.id, store)
        (question,) = await inspector.pending()
        assert (question.run_id, answer_signal(question.id)) == (handle.id, signal)
        await expect_repeatable(place, handle.id, store)
        payload = place.plan.encode(Answer("approve", MISSING, "").to_payload())
        await handle.execute_update(ANSWER, args=[question.id, payload])
        await handle.result()
        await place.mirror(handle.id, store)
        await expect_repeatable(place, handle.id, store)
    assert await inspector.pending() == []
    assert (await inspector.snapshot(handle.id)).output == INPUT + 1
    assert [decode_record(key, blob)[:2] for key, blob in store.scan(Prefix.SIGNAL)] == [(signal, payload)]


async def test_a_node_that_is_under_way_stays_so(temporal_server: Server) -> None:
    entered, leave = asyncio.Event(), asyncio.Event()
    g = Graph("slow")

    @g.node
    async def slow(ctx: Context, value: int) -> int:
        entered.set()
        await leave.wait()
        return value

    g.edge(START, slow)
    g.edge(slow, END)
    store = MemoryStore()
    async with serving(temporal_server, g) as place:
        handle = await place.start(INPUT)
        await entered.wait()
        replayed = await replay_run(place.client, handle.id)
        inspector = await place.mirror(handle.id, store)
        assert unpack(pack(replayed.run.to_plain())) == await state_of(handle)
        assert [step.trigger for step in await inspector.history(handle.id)] == ["RunStarted"]
        await expect_repeatable(place, handle.id, store)
        leave.set()
        await handle.result()
        await place.mirror(handle.id, store)
        await expect_repeatable(place, handle.id, store)


async def test_a_refresh_reads_the_executions_with_new_steps_only(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    flow, store, read = FLOWS["waits"](), MemoryStore(), []

    async def noted(client: Client, run_id: str, execution_id: str) -> Execution:
        read.append(execution_id)
        return await read_execution(client, run_id, execution_id)

    monkeypatch.setattr("beluga_graph.temporal.mirror.recording.read_execution", noted)
    async with serving(temporal_server, flow) as place:
        handle = await place.start(INPUT, continue_events=1)
        await until_waiting(handle)
        await place.mirror(handle.id, store)
        early = len(read)
        assert early > 1
        await place.mirror(handle.id, store)
        assert read[early:] == read[early - 1 : early]
        await place.signal(handle, "go", 40)
        await handle.result()
        read.clear()
        await place.mirror(handle.id, store)
        once = len(read)
        read.clear()
        await place.mirror(handle.id, MemoryStore())
        assert 0 < once <= len(read) - early + 1


async def test_tasks_that_mirror_one_run_do_not_disturb_each_other(temporal_server: Server) -> None:
    flow, store = FLOWS["state"](), MemoryStore()
    async with serving(temporal_server, flow) as place:
        handle = await place.start(INPUT, continue_events=1)
        await asyncio.gather(*(place.mirror(handle.id, store) for _ in range(4)))
        await handle.result()
        await asyncio.gather(*(place.mirror(handle.id, store) for _ in range(4)))
        await expect_repeatable(place, handle.id, store)
        late = LateStore(store)
        await place.mirror(handle.id, late)
        assert (late.ahead, records(late)) == (None, records(store))


async def test_a_run_that_adopted_a_changed_graph_is_read_with_both_graphs(temporal_server: Server) -> None:
    flow, longer, store = failing(), failing(more=True), MemoryStore()
    DOORS["open"] = False
    place = Place(await temporal_server.connect(), flow, None)
    async with asyncio.timeout(PATIENCE_S), place.worker(longer):
        handle = await place.start(INPUT)
        await ended(handle)
        failed = await replay_run(place.client, handle.id)
        DOORS["open"] = True
        place.flow, place.plan = longer, longer.plan()
        triggers = PlanAdopted(place.plan.fingerprint, 0), RunResumed(0)
        packed = place.input_of(failed.run, *triggers, previous=failed.execution_id)
        await (await place.begin(handle.id, packed)).result()
        inspector = await place.mirror(handle.id, store)
        await expect_repeatable(place, handle.id, store)
    assert [step.trigger for step in await inspector.history(handle.id)][3:5] == ["PlanAdopted", "RunResumed"]
    assert (await inspector.shape(handle.id)).nodes.keys() == longer.plan().shape.nodes.keys()
    assert "more" in await inspector.draw(handle.id)
    assert (await inspector.snapshot(handle.id)).output == (INPUT + 1) * 2


async def test_payloads_are_decoded_by_the_converter_of_the_client(temporal_server: Server) -> None:
    flow, store = FLOWS["waits"](), MemoryStore()
    converter = replace(DataConverter.default, payload_codec=ReversingCodec())
    client = await Client.connect(temporal_server.address, data_converter=converter)
    place = Place(client, flow, None)
    async with asyncio.timeout(PATIENCE_S), place.worker():
        handle = await place.start(INPUT)
        await until_waiting(handle)
    await place.signal(handle, "go", 40)
    assert (await replay_run(client, handle.id)).inbox == {"go": [place.plan.encode(40)]}
    async with asyncio.timeout(PATIENCE_S), place.worker():
        await handle.result()
    inspector = await place.mirror(handle.id, store)
    assert (await inspector.snapshot(handle.id)).output == 42


async def test_a_mirror_begins_with_the_first_execution_that_is_left(temporal_server: Server) -> None:
    flow, store = shelving(), MemoryStore()
    async with serving(temporal_server, flow, HeldClaims()) as place:
        handle = await place.start(INPUT, continue_events=1)
        await handle.result()
        whole = await place.mirror(handle.id, MemoryStore())
        first, *_ = await export_history(place.client, handle.id)
        await delete_execution(place.client, handle.id, first.run_id)
        inspector = await place.mirror(handle.id, store)
        await expect_repeatable(place, handle.id, store)
    history, left = await whole.history(handle.id), await inspector.history(handle.id)
    assert 0 < len(left) < len(history)
    assert history[-len(left) :] == left
    assert (await inspector.snapshot(handle.id)).state == (await whole.snapshot(handle.id)).state
    assert (await inspector.draw(handle.id)).startswith("<svg")


async def test_an_unknown_run_is_not_found(temporal_server: Server) -> None:
    client = await temporal_server.connect()
    for read in (replay_run(client, "none"), mirror_run(client, "none", MemoryStore()), export_history(client, "none")):
        with pytest.raises(RunNotFound, match="the server has no run with this id"):
            await read
