"""A run that is handed over goes on elsewhere, and nowhere else."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import moving_child
import owned_flow
import pytest
from flows_for_tests import chain, waiting
from pydantic import BaseModel
from test_ownership import other, wait_until
from wrapped_store import until

import beluga_graph.engine.store_poller
from beluga_graph import END, START, Context, Engine, Graph, RunBusy, RunConflict, RunNotFound, append
from beluga_graph.execution.handed_over import HandedOver
from beluga_graph.inspection.recorder import RunRecorder
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.verify import verify_store
from stores import LMDBStore, MemoryStore

THERE = "temporal://there:7233/default"
RUN = "r"
LARGE = "x" * 10_000
PATIENCE_S = 60


@pytest.fixture(autouse=True)
def _short_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.store_poller, "INTERVAL_S", 0.005)


class Shelf(BaseModel):
    books: Annotated[list[str], append] = []


def shelving() -> Graph:
    """Return a flow that waits within a frame's state, with large values, a deadline and a signal left unread."""
    g = Graph("shelving", state=Shelf)

    @g.node(name="first")
    async def first(ctx: Context, value: Any) -> Any:
        ctx.update(books=["a", LARGE])
        return value

    @g.node(name="last")
    async def last(ctx: Context, value: Any) -> Any:
        return [value, len(ctx.state.books)]

    g.wait("w", "go", timeout=3600.0)
    g.edge(START, "first")
    g.edge("first", "w")
    g.edge("w", "last")
    g.edge("last", END)
    return g


async def parked(engine: Engine) -> None:
    """Wait until the engine drives no run."""
    await until(lambda: not engine._host.runs.actives)


async def at_status(engine: Engine, run_id: str, status: str) -> None:
    while (await engine.status(run_id)) != status:  # noqa: ASYNC110 - the status is not announced
        await asyncio.sleep(0)


def fill(store: MemoryStore, flow: Graph, moved: HandedOver) -> None:
    """Let a run go on in another store, as a driver elsewhere would."""
    recorder = RunRecorder(store, flow.plan().shape, moved.run, at_ms=0)
    recorder.begin(items=moved.items, blobs=moved.blobs.items())
    for name, payloads in moved.signals.items():
        for position, payload in enumerate(payloads, moved.run.inbox.get(name, 0)):
            recorder.put_signal(name, position, payload, at_ms=0)
    recorder.flush()


async def test_a_parked_run_goes_on_elsewhere_with_all_that_it_needs() -> None:
    here, there, flow = MemoryStore(), MemoryStore(), shelving()
    async with asyncio.timeout(PATIENCE_S), Engine(here) as engine:
        await engine.start(flow, LARGE, run_id=RUN)
        await parked(engine)
        moved = await engine.hand_over(RUN, THERE)
        again = await engine.hand_over(RUN, THERE)
        assert (again.run.to_plain(), again[1:]) == (moved.run.to_plain(), moved[1:])
        assert moved.items["", "books"][0] == flow.plan().encode("a")
        assert len(moved.run.timers) == 1
        assert [len(value) for value in moved.blobs.values()] == [len(flow.plan().encode(LARGE))]
    fill(there, flow, moved)
    assert verify_store(here).damage == verify_store(there).damage == ()
    async with asyncio.timeout(PATIENCE_S), Engine(there) as engine:
        engine.register(flow)
        run = await engine.resume(RUN)
        await run.signal("go", 7)
        assert await run.result() == [7, 2]
    assert verify_store(there).damage == ()


async def test_unread_signals_go_along() -> None:
    here, there, flow = MemoryStore(), MemoryStore(), waiting()
    async with asyncio.timeout(PATIENCE_S), Engine(here) as engine:
        await engine.start(flow, 1, run_id=RUN)
        await parked(engine)
    async with asyncio.timeout(PATIENCE_S), Engine(here) as engine:  # it does not watch the run
        for payload in (LARGE, "second"):
            await engine.signal(RUN, "go", payload)
        await engine.signal(RUN, "other", 3)
        moved = await engine.hand_over(RUN, THERE)
    plan = flow.plan()
    assert {name: len(payloads) for name, payloads in moved.signals.items()} == {"go": 2, "other": 1}
    assert moved.signals["go"][1] == plan.encode("second")
    assert moved.blobs == {moved.signals["go"][0]: plan.encode(LARGE)}
    assert list(here.scan(Prefix.WAKEUP)) == []
    fill(there, flow, moved)
    async with asyncio.timeout(PATIENCE_S), Engine(there) as engine:
        engine.register(flow)
        assert await (await engine.resume(RUN)).result() == LARGE


async def test_a_run_that_may_not_leave_goes_on_here() -> None:
    flow = shelving()
    seen: list[HandedOver] = []

    async def refuse(moved: HandedOver) -> None:
        seen.append(moved)
        raise PermissionError("too large")

    async with asyncio.timeout(PATIENCE_S), Engine() as engine:
        run = await engine.start(flow, LARGE, run_id=RUN)
        await parked(engine)
        with pytest.raises(PermissionError):
            await engine.hand_over(RUN, THERE, refuse)
        assert [info.moved_to for info in await engine.runs()] == [""]
        assert [moved.shape.name for moved in seen] == [flow.plan().name]
        await run.signal("go", 7)
        assert await run.result() == [7, 2]


async def test_a_run_that_has_moved_is_refused_skipped_and_read() -> None:
    store, flow = MemoryStore(), shelving()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:
        run = await engine.start(flow, 1, run_id=RUN)
        await at_status(engine, RUN, "waiting")
        result = asyncio.create_task(run.result())
        await engine.hand_over(RUN, THERE)  # this engine drives it, and it waits
        for refused in (
            result,
            engine.resume(RUN),
            engine.start(flow, 1, run_id=RUN),
            engine.signal(RUN, "go", 1),
            engine.cancel(RUN),
            anext(engine.stream(flow, 1, run_id=RUN)),
            engine.hand_over(RUN, "another place"),
        ):
            with pytest.raises(RunConflict, match=f"it goes on elsewhere, at {THERE}"):
                await refused
        assert (await engine.snapshot(RUN)).status == "waiting"
        assert len(await engine.history(RUN)) == 2
        assert await engine.draw(RUN)
        fork = await engine.fork(RUN, 2)
        await fork.signal("go", 5)
        assert await fork.result() == [5, 2]
        assert [info.moved_to for info in await engine.runs() if info.run_id == RUN] == [THERE]
        assert RUN not in [info.run_id for info in await engine.prune(status=("completed", "failed", "cancelled"))]
    keys = Keys(RUN)
    assert [store.get(key) for key in (keys.open, keys.parked)] == [None, None]
    assert [key for key, _ in store.scan(Prefix.TIMER) if keys.run_key in key] == []
    assert verify_store(store).damage == ()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as later:
        later.register(flow)
        recovery = await later.recover()
        assert (list(recovery), recovery.skipped) == ([], {})
        serving = asyncio.create_task(later.serve())
        assert await later.execute(chain(lambda value: value), 3) == 3
        serving.cancel()
        assert (await later.status(RUN)) == "waiting"


async def test_an_engine_that_watches_a_parked_run_lets_it_go(caplog: pytest.LogCaptureFixture) -> None:
    store, flow = MemoryStore(), waiting()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:
        run = await engine.start(flow, 1, run_id=RUN)
        await parked(engine)
        async with Engine(store) as mover:
            await mover.hand_over(RUN, THERE)
        engine._host.waker.enqueue(Keys(RUN).run_key)
        engine._host.waker.wake_next()
        with pytest.raises(RunConflict, match=THERE):
            await run.result()
    assert caplog.records == []


async def test_a_failed_run_goes_on_elsewhere() -> None:
    store = MemoryStore()

    def fails(value: int) -> int:
        raise ValueError(value)

    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:
        flow = chain(fails)
        await (await engine.start(flow, 1, run_id=RUN)).outcome()
        moved = await engine.hand_over(RUN, THERE)
        assert moved.run.status == "failed"
        with pytest.raises(RunConflict, match=THERE):
            await engine.resume(RUN)
        assert verify_store(store).damage == ()
        assert [info.run_id for info in await engine.prune(status=("failed",))] == [RUN]


async def test_a_run_is_not_handed_over_while_its_nodes_run(tmp_path: Path) -> None:
    store, gate = MemoryStore(), asyncio.Event()

    async def hold(value: int) -> int:
        await gate.wait()
        return value

    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine, Engine(store) as second:
        run = await engine.start(chain(hold), 1, run_id=RUN)
        with pytest.raises(RunBusy, match="this engine runs its nodes"):
            await engine.hand_over(RUN, THERE)
        with pytest.raises(RunBusy, match="another owner drives it"):
            await second.hand_over(RUN, THERE)
        gate.set()
        assert await run.result() == 1
        with pytest.raises(RunConflict, match="it is completed: a run that has ended goes on nowhere"):
            await second.hand_over(RUN, THERE)
        with pytest.raises(RunNotFound):
            await second.hand_over("unknown", THERE)
        for place in ("", " ", "a\nb", None):
            with pytest.raises(ValueError, match="name the place"):
                await second.hand_over(RUN, place)  # type: ignore[arg-type]


async def test_a_run_that_was_asked_to_end_stays_to_end() -> None:
    store = MemoryStore()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as first:
        await first.start(waiting(), 1, run_id=RUN)
        await at_status(first, RUN, "waiting")
    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:  # it drives the run only after the resume
        engine.register(waiting())
        await engine._host.canceller._request(RUN)
        with pytest.raises(RunConflict, match="its cancellation was requested"):
            await engine.hand_over(RUN, THERE)
        run = await engine.resume(RUN)
        assert (await run.outcome()).status == "cancelled"
        assert (await engine.history(RUN))[-1].trigger == "CancelRequested"


async def test_every_accepted_signal_of_a_run_that_moves_meanwhile_goes_along() -> None:
    store, flow = MemoryStore(), waiting()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:
        await engine.start(flow, 1, run_id=RUN)
        await parked(engine)
    async with asyncio.timeout(PATIENCE_S), Engine(store) as first, Engine(store) as second:
        sent = [asyncio.create_task(first.signal(RUN, f"s{number}", number)) for number in range(40)]
        for _ in range(3):
            await asyncio.sleep(0)
        sent += [asyncio.create_task(second.signal(RUN, f"t{number}", number)) for number in range(40)]
        moved = await second.hand_over(RUN, THERE)
        ends = await asyncio.gather(*sent, return_exceptions=True)
    names = [f"s{number}" for number in range(40)] + [f"t{number}" for number in range(40)]
    accepted = {name for name, end in zip(names, ends, strict=True) if end is None}
    assert set(moved.signals) == accepted
    assert {type(end) for end in ends} <= {type(None), RunConflict}
    assert verify_store(store).damage == ()


async def test_the_death_of_the_last_owner_is_counted(tmp_path: Path) -> None:
    with other(tmp_path) as owner:
        assert owner.hear() == "started"
        wait_until(lambda: "gate" in owned_flow.Outside(tmp_path).effects())
        store = LMDBStore(tmp_path / "store")
        async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:
            with pytest.raises(RunBusy):
                await engine.hand_over(owned_flow.RUN_ID, THERE)
            owner.process.kill()
            owner.process.wait()
            moved = await engine.hand_over(owned_flow.RUN_ID, THERE)
        assert [(token.node, token.interruptions) for token in moved.run.tokens.values()] == [("gate", 1)]
        assert verify_store(store).damage == ()
        store.close()


@contextmanager
def child(folder: Path, verb: str, run_ids: list[str]) -> Iterator[subprocess.Popen[str]]:
    tests = Path(moving_child.__file__).parents[1]
    root = Path(beluga_graph.__file__).parents[1]
    with subprocess.Popen(
        [sys.executable, moving_child.__file__, str(folder), verb, *run_ids],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{root}:{tests / 'shared'}"},
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


def _outcomes(process: subprocess.Popen[str]) -> dict[str, str]:
    """Return a child's report about each run. It keeps the runs that it has resumed until it is killed."""
    assert process.stdout is not None
    outcomes: dict[str, str] = {}
    while (line := process.stdout.readline().split()) != ["done"]:
        run_id, outcome = line
        outcomes[run_id] = outcome
    return outcomes


async def _park(folder: Path, run_ids: list[str]) -> None:
    async with asyncio.timeout(PATIENCE_S), Engine(folder) as engine:
        for run_id in run_ids:
            await engine.start(waiting(), 1, run_id=run_id)
        await parked(engine)


async def test_of_two_processes_that_move_and_resume_a_run_exactly_one_wins(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    run_ids = [f"run-{number}" for number in range(40)]
    await _park(folder, run_ids)
    with child(folder, "move", run_ids) as mover, child(folder, "resume", run_ids) as resumer:
        for process in (mover, resumer):
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        moved, resumed = await asyncio.gather(*(asyncio.to_thread(_outcomes, process) for process in (mover, resumer)))
    for run_id in run_ids:
        assert sorted((moved[run_id] == "won", resumed[run_id] == "won")) == [False, True]
    store = LMDBStore(folder)
    assert verify_store(store).damage == ()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:
        engine.register(waiting())
        for info in await engine.runs():
            assert (info.moved_to == "there") == (moved[info.run_id] == "won")
            if info.moved_to:
                with pytest.raises(RunConflict):
                    await engine.resume(info.run_id)
            else:
                await engine.signal(info.run_id, "go", 2)
                assert await (await engine.resume(info.run_id)).result() == 2
    store.close()


async def test_a_process_that_dies_while_it_moves_runs_leaves_each_of_them_here_or_there(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    run_ids = [f"run-{number}" for number in range(40)]
    await _park(folder, run_ids)
    with child(folder, "move", run_ids) as mover:
        assert mover.stdin is not None
        assert mover.stdout is not None
        mover.stdin.write("go\n")
        mover.stdin.flush()
        for _ in range(10):
            mover.stdout.readline()
        mover.send_signal(signal.SIGKILL)
        mover.wait()
    store = LMDBStore(folder)
    assert verify_store(store).damage == ()
    async with asyncio.timeout(PATIENCE_S), Engine(store) as engine:
        engine.register(waiting())
        moved = {info.run_id for info in await engine.runs() if info.moved_to}
        assert {*run_ids[:10]} <= moved
        for run_id in moved:
            assert (await engine.hand_over(run_id, "there")).run.run_id == run_id
        recovery = await engine.recover()
        assert {run.id for run in recovery} == {*run_ids} - moved
        assert recovery.skipped == {}
        for run in recovery:
            await run.signal("go", 2)
            assert await run.result() == 2
    store.close()
