"""A take-over never takes a run from a live owner, uses the stored run, and succeeds completely or not at all."""

import asyncio
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest
import recovering_child
from wrapped_store import RUN, Fits, Held, Refused, WrappedStore, owns, park, stepping, steps, takes, until

import beluga_graph
from beluga_graph import END, START, Engine, Graph, RunBusy, RunCancelled, RunError, RunStatus
from beluga_graph.storage.keys import Keys
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, StoreBusy, StoreFull

RUNS = 30


def waiting() -> Graph:
    g = Graph("waiting")
    g.wait("w", "s")
    g.edge(START, "w")
    g.edge("w", END)
    return g


@pytest.mark.parametrize("slow", [owns, takes])
async def test_a_slow_take_over_does_not_take_a_run_from_a_quicker_owner(slow: Fits) -> None:
    disk, calls = MemoryStore(), []
    await park(disk)
    gate, held = asyncio.Event(), Held(slow)
    quick = Engine(WrappedStore(disk, shared=True), deps={"c": gate})
    late = Engine(WrappedStore(disk, shared=True, before=held))
    async with quick, late:
        quick.register(stepping(calls))
        late.register(stepping(calls))
        trying = asyncio.create_task(late.resume(RUN))
        await held.reached()
        run = await quick.resume(RUN)
        await until(lambda: "c" in calls)
        held.let_go()
        with pytest.raises(RunBusy):
            await trying
        gate.set()
        assert await run.result(60) == 1
        assert await late.status(RUN) is RunStatus.completed
    assert calls == ["a", "b", "c"]


@pytest.mark.parametrize("slow", [owns, takes])
async def test_a_slow_cancel_lets_the_quicker_owner_end_the_run(slow: Fits) -> None:
    disk, calls = MemoryStore(), []
    await park(disk)
    held = Held(slow)
    quick = Engine(WrappedStore(disk, shared=True), deps={"c": asyncio.Event()})
    late = Engine(WrappedStore(disk, shared=True, before=held))
    async with quick, late:
        quick.register(stepping(calls))
        trying = asyncio.create_task(late.cancel(RUN))
        await held.reached()
        run = await quick.resume(RUN)
        await until(lambda: "c" in calls)
        held.let_go()
        assert await asyncio.wait_for(trying, 60) is RunStatus.cancelled
        with pytest.raises(RunCancelled):
            await run.result(60)
        assert [disk.get(key) for key in (Keys(RUN).cancel, Keys(RUN).wakeup)] == [None, None]
    assert calls == ["a", "b", "c"]


@pytest.mark.parametrize("stops_at", ["b", "nowhere"])
@pytest.mark.parametrize("read", ["lease", "head", "steps"])
async def test_a_run_that_continued_while_it_was_read_is_read_again(read: str, stops_at: str) -> None:
    disk, calls = MemoryStore(), []
    await park(disk)
    keys = Keys(RUN)
    prefix = {"lease": keys.lease, "head": keys.head, "steps": b"S" + keys.run_key}[read]

    async def other_process() -> None:
        async with Engine(WrappedStore(disk), deps={stops_at: asyncio.Event()}) as engine:
            engine.register(stepping(calls))
            run = await engine.resume(RUN)
            if stops_at == "nowhere":
                await run.result(60)
            else:
                await until(lambda: stops_at in calls)

    def between(key: bytes) -> None:
        if key.startswith(prefix) and armed:
            armed.clear()
            process = threading.Thread(target=lambda: asyncio.run(other_process()))
            process.start()
            process.join()

    armed: list[bool] = []
    async with Engine(WrappedStore(disk, reading=between)) as engine:
        engine.register(stepping(calls))
        if read == "head":  # `resume` itself reads it, too
            armed.append(True)
            run = await engine.resume(RUN)
        else:
            plan = stepping(calls).plan()
            armed.append(True)
            await engine._host.admission.resume(RUN, plan)
            run = await engine.resume(RUN)
        assert await run.result(60) == 1
        assert not armed
    assert calls == (["a", "b", "c"] if stops_at == "nowhere" else ["a", "b", "b", "c"])


def recovered_by_two(folder: Path) -> list[tuple[list[str], list[str]]]:
    """Let two processes recover at the same moment; return the runs that each took and those that it skipped."""
    root = Path(beluga_graph.__file__).parent.parent
    command = [sys.executable, recovering_child.__file__, str(folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "env": {"PYTHONPATH": str(root)}}
    with subprocess.Popen(command, **pipes) as one, subprocess.Popen(command, **pipes) as two:
        try:
            for process in (one, two):
                assert process.stdout.readline() == "ready\n"
            for process in (one, two):
                process.stdin.write("\n")
                process.stdin.flush()
            taken = [(p.stdout.readline().split(), p.stdout.readline().split()) for p in (one, two)]
            (folder / "open").touch()
            assert [p.stdout.readline() for p in (one, two)] == ["done\n", "done\n"]
        finally:
            one.kill()
            two.kill()
    return taken


async def test_two_processes_that_recover_at_once_share_the_runs_and_run_each_node_once(tmp_path: Path) -> None:
    names = {f"r{i:02}" for i in range(RUNS)}
    async with Engine(tmp_path / "store", deps="park") as engine:
        for name in names:
            await engine.start(recovering_child.flow(tmp_path), 1, run_id=name)
    (mine, skipped), (others, also_skipped) = recovered_by_two(tmp_path)
    assert sorted([*mine, *others]) == sorted(names)  # each in one of them
    assert skipped == [f"{name}:RunBusy" for name in sorted(others, key=lambda name: Keys(name).run_key)]
    assert also_skipped == [f"{name}:RunBusy" for name in sorted(mine, key=lambda name: Keys(name).run_key)]
    ran = Counter(tuple(line.split()[:2]) for line in (tmp_path / "log").read_text().splitlines())
    assert ran == Counter((name, node) for name in names for node in ("first", "last"))
    async with Engine(tmp_path / "store") as engine:
        assert {info.run_id: info.status for info in await engine.runs()} == dict.fromkeys(names, "completed")


async def test_an_owner_whose_record_was_refused_is_stored_at_the_next_call() -> None:
    disk, calls, gate = MemoryStore(), [], asyncio.Event()
    owner = Engine(WrappedStore(disk, before=Refused(owns, StoreBusy("x", 5))), deps={"a": gate})
    async with owner, Engine(WrappedStore(disk)) as other:
        with pytest.raises(StoreBusy):
            await owner.start(stepping(calls), 1, run_id=RUN)
        run = await owner.start(stepping(calls), 1, run_id=RUN)
        other.register(stepping(calls))
        with pytest.raises(RunBusy):
            await other.resume(RUN)
        gate.set()
        assert await run.result(60) == 1
    assert calls == ["a", "b", "c"]


async def test_no_run_begins_before_its_owner_is_stored() -> None:
    disk, calls, gate, held = MemoryStore(), [], asyncio.Event(), Held(owns)
    owner = Engine(WrappedStore(disk, shared=True, before=held), deps={"a": gate})
    async with owner, Engine(WrappedStore(disk)) as other:
        starts = [asyncio.create_task(owner.start(stepping(calls), 1, run_id=name)) for name in ("first", "second")]
        await held.reached()
        for _ in range(5):
            await asyncio.sleep(0)
        assert list(disk.scan(b"L")) == []
        held.let_go()
        runs = await asyncio.gather(*starts)
        other.register(stepping(calls))
        for run in runs:
            with pytest.raises(RunBusy):
                await other.resume(run.id)
        gate.set()
        assert [await run.result(60) for run in runs] == [1, 1]
    assert Counter(calls) == dict.fromkeys("abc", 2)


@pytest.mark.parametrize("next_one", ["same", "other"])
@pytest.mark.parametrize("how", ["refused", "cancelled"])
@pytest.mark.parametrize("what", [owns, takes])
async def test_a_cancelled_take_over_leaves_nothing_behind(what: Fits, how: str, next_one: str) -> None:
    disk, calls = MemoryStore(), []
    await park(disk)
    held = Held(what)
    if how == "refused":
        first = Engine(WrappedStore(disk, before=Refused(what, StoreBusy("x", 5))))
    else:
        first = Engine(WrappedStore(disk, shared=True, before=held))
    async with first, Engine(WrappedStore(disk)) as second:
        first.register(stepping(calls))
        second.register(stepping(calls))
        trying = asyncio.create_task(first.resume(RUN))
        if how == "cancelled":
            await held.reached()
            trying.cancel()
        with pytest.raises(StoreBusy if how == "refused" else asyncio.CancelledError):
            await trying
        held.let_go()
        async with asyncio.timeout(60):
            run = await (first if next_one == "same" else second).resume(RUN, wait=True)
        assert await run.result(60) == 1
    assert calls == ["a", "b", "c"]


async def test_a_resume_that_is_cancelled_while_overdue_timers_fire_leaves_nothing_behind() -> None:
    disk, clock, gate, ran = MemoryStore(), VirtualClock(), asyncio.Event(), []
    g = Graph("overdue")
    g.timer("t", 5)

    @g.node
    async def n(value: int) -> int:
        ran.append(1)
        await gate.wait()
        return value

    g.fan_out("fan", ["t", n], join="j")
    g.join("j")
    g.edge(START, "fan")
    g.edge("j", END)
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.start(g, 1, run_id=RUN)
        await until(lambda: ran)
    clock.set(clock.now_ms() + 9_000)
    gate.set()
    held = Held(steps)
    async with Engine(WrappedStore(disk, shared=True, before=held), clock=clock) as engine:
        engine.register(g)
        trying = asyncio.create_task(engine.resume(RUN))
        await held.reached()
        trying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trying
        held.let_go()
        async with asyncio.timeout(60):
            run = await engine.resume(RUN)
        assert await run.result(60) == [1, 1]


@pytest.mark.parametrize("slow", [owns, takes])
async def test_a_signal_that_arrives_during_a_take_over_is_delivered(slow: Fits) -> None:
    disk, held = MemoryStore(), Held(slow)
    async with Engine(WrappedStore(disk)) as engine:
        await engine.start(waiting(), 1, run_id=RUN)
    async with Engine(WrappedStore(disk, shared=True, before=held)) as engine:
        engine.register(waiting())
        resuming = asyncio.create_task(engine.resume(RUN))
        await held.reached()
        sending = asyncio.create_task(engine.signal(RUN, "s", "hello"))
        for _ in range(5):
            await asyncio.sleep(0)
        held.let_go()
        run, _ = await asyncio.gather(resuming, sending)
        assert await run.result(60) == "hello"


async def test_recover_reports_a_run_that_it_could_not_take_and_takes_it_the_next_time() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine:
        for i in range(5):
            await engine.start(waiting(), 1, run_id=f"r{i}")
    async with Engine(WrappedStore(disk, before=Refused(takes, StoreBusy("x", 5)))) as engine:
        engine.register(waiting())
        recovery = await engine.recover()
        assert [type(error) for error in recovery.skipped.values()] == [StoreBusy]
        assert {*recovery.skipped, *(run.id for run in recovery)} == {f"r{i}" for i in range(5)}
        again = await engine.recover()
        assert again.skipped == {}
        for run in again:
            await run.signal("s", run.id)
        assert [await run.result(60) for run in again] == [run.id for run in again]
        assert len(again) == 5


async def test_a_close_that_was_cut_short_is_finished_by_the_next() -> None:
    disk, cleaning, cleaned = MemoryStore(), asyncio.Event(), asyncio.Event()
    g = Graph("slow_to_end")

    @g.node
    async def a(value: int) -> int:
        if not cleaning.is_set():
            try:
                await asyncio.Event().wait()
            finally:
                cleaning.set()
                await cleaned.wait()
        return value

    g.edge(START, a)
    g.edge(a, END)
    first = Engine(WrappedStore(disk))
    await first.start(g, 1, run_id=RUN)
    await asyncio.sleep(0)
    closing = asyncio.create_task(first.close())
    await cleaning.wait()
    closing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await closing
    cleaned.set()
    await first.close()
    await first.close()
    assert list(disk.scan(b"O")) == []
    async with Engine(WrappedStore(disk)) as second:
        second.register(g)
        assert await (await second.resume(RUN)).result(60) == 1


@pytest.mark.parametrize("verb", ["start", "resume"])
async def test_a_caller_waiting_for_another_owners_run_gets_an_error_when_the_engine_closes(
    tmp_path: Path, verb: str
) -> None:
    calls, gate = [], asyncio.Event()
    flow = stepping(calls)
    async with Engine(tmp_path, deps={"a": gate}) as owner:
        run = await owner.start(flow, 1, run_id=RUN)
        engine = Engine(tmp_path)
        engine.register(flow)
        opened = asyncio.create_task(
            engine.start(flow, 1, run_id=RUN, wait=True) if verb == "start" else engine.resume(RUN, wait=True)
        )
        await until(lambda: len(list(owner.store.scan(b"O"))) == 2)  # from now on it checks the lease
        await engine.close()
        with pytest.raises(RunError, match="the engine is closed"):
            async with asyncio.timeout(60):
                await opened
        assert len(list(owner.store.scan(b"O"))) == 1
        gate.set()
        assert await run.result(60) == 1
    assert calls == ["a", "b", "c"]


@pytest.mark.parametrize("next_one", ["same", "other"])
async def test_a_handle_reports_the_stored_run_after_a_refused_step_and_a_resume(next_one: str) -> None:
    disk, calls, gate = MemoryStore(), [], asyncio.Event()
    first = Engine(WrappedStore(disk), deps={"b": gate})
    async with first, Engine(WrappedStore(disk)) as second:
        run = await first.start(stepping(calls), 1, run_id=RUN)
        await until(lambda: "b" in calls)
        first.store.before = Refused(steps, StoreFull("x", "full"))
        gate.set()
        with pytest.raises(StoreFull):
            await run.result(60)
        assert await run.status() is RunStatus.running
        second.register(stepping(calls))
        resumed = await (first if next_one == "same" else second).resume(RUN)
        assert await resumed.result(60) == 1
        assert await run.result(60) == 1
        assert (await run.outcome()).status is await run.status() is RunStatus.completed
        assert [event.type async for event in run.events()][-1] == "done"
    assert calls == ["a", "b", "b", "c"]


@pytest.mark.parametrize("verb", ["start", "resume", "cancel"])
@pytest.mark.parametrize("slow", [owns, takes])
async def test_an_engine_that_closes_during_a_take_over_leaves_the_run_to_the_next(slow: Fits, verb: str) -> None:
    disk, calls, held = MemoryStore(), [], Held(slow)
    await park(disk)
    engine = Engine(WrappedStore(disk, shared=True, before=held))
    engine.register(stepping(calls))
    call = {
        "start": lambda: engine.start(stepping(calls), 2, run_id="new"),
        "resume": lambda: engine.resume(RUN),
        "cancel": lambda: engine.cancel(RUN),
    }[verb]
    taking = asyncio.create_task(call())
    await held.reached()
    closing = asyncio.create_task(engine.close())
    if slow is takes:
        await asyncio.sleep(0)
    else:
        held.let_go()  # the owner's record is written first, so there is something to remove
    held.let_go()
    async with asyncio.timeout(60):
        await closing
        (outcome,) = await asyncio.gather(taking, return_exceptions=True)
    assert list(disk.scan(b"O")) == []
    if isinstance(outcome, RunError):
        assert str(outcome) == "the engine is closed: make a new one on the same store"
    async with Engine(WrappedStore(disk)) as second:
        second.register(stepping(calls))
        statuses = {info.run_id: info.status for info in await second.runs()}
        if statuses[RUN] is RunStatus.cancelled:
            assert outcome is RunStatus.cancelled
        else:
            assert statuses[RUN] is RunStatus.running
            assert await (await second.resume(RUN)).result(60) == 1
        if "new" in statuses:
            assert await (await second.resume("new")).result(60) == 2
