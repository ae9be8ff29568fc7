"""A parked run is woken by its signal, its time or its retry, whichever engines exist at that time."""

import asyncio
from typing import Any

import pytest
from parked_runs import HOUR, asking, parked
from wrapped_store import RUN, WrappedStore, until

import beluga_graph.engine.waking
from beluga_graph import Engine, Retry, RunFailed, RunStatus, Workflow, sleep, step, wait_signal
from beluga_graph.storage.keys import Keys
from beluga_graph.testing import VirtualClock
from stores import MemoryStore, StoreBusy

pytestmark = pytest.mark.usefixtures("quick_looks")


async def test_a_signal_from_another_engine_wakes_a_parked_run() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as here, Engine(WrappedStore(disk)) as there:
        run = await here.start(asking(), 1, run_id=RUN)
        await parked(here)
        await there.signal(RUN, "go", 2)
        assert await run.result(60) == ("after", 2)
        assert [key for key, _ in disk.scan(b"D")] == []


async def test_a_signal_that_arrives_while_the_run_is_being_parked_is_delivered() -> None:
    disk = MemoryStore()
    sent = []

    def just_before(ops: Any) -> None:
        if not sent and any(op.key[:1] == b"G" for op in ops):
            sent.append(True)
            asyncio.run_coroutine_threadsafe(other.signal(RUN, "go", 3), loop).result(60)

    loop = asyncio.get_running_loop()
    other = Engine(WrappedStore(disk))
    async with other, Engine(WrappedStore(disk, shared=True, before=just_before)) as engine:
        run = await engine.start(asking(), 1, run_id=RUN)
        assert await run.result(60) == ("after", 3)
    assert sent


async def test_a_parked_timer_fires_at_its_time_and_not_before() -> None:
    clock = VirtualClock()
    flow = Workflow("napping", sleep("nap", HOUR), step("after", lambda v: v), sleep("again", HOUR))
    async with Engine(clock=clock) as engine:
        run = await engine.start(flow, 7)
        await parked(engine)
        await clock.advance(HOUR - 1)
        assert await run.status() is RunStatus.waiting
        await clock.advance(1)
        await parked(engine)
        assert [step.trigger for step in await engine.history(run.id)][-2:] == ["TimerFired", "NodeFinished"]
        await clock.advance(HOUR)
        assert await run.result(60) == 7


@pytest.mark.parametrize("jump_s", [-30 * 24 * HOUR, -HOUR, 10 * HOUR, 365 * 24 * HOUR])
async def test_a_clock_that_is_set_fires_no_timer_early_and_none_twice(jump_s: int) -> None:
    clock = VirtualClock()
    flow = Workflow("napping", sleep("nap", 3 * HOUR))
    async with Engine(clock=clock) as engine:
        run = await engine.start(flow, 7)
        due = clock.now_ms() + 3 * HOUR * 1000
        await parked(engine)
        clock.set(clock.now_ms() + jump_s * 1000)
        await clock.advance(1)
        if clock.now_ms() < due:
            assert await run.status() is RunStatus.waiting
            await clock.advance((due - clock.now_ms()) / 1000 - 1)
            assert await run.status() is RunStatus.waiting
            await clock.advance(1)
        assert await run.result(60) == 7
        fired = [step.at_ms for step in await engine.history(run.id) if step.trigger == "TimerFired"]
        assert len(fired) == 1
        assert fired[0] >= due


async def test_a_run_is_parked_while_it_waits_for_a_retry_and_its_attempts_count_on() -> None:
    clock, tries = VirtualClock(), []

    def flaky(value: int) -> int:
        tries.append(value)
        if len(tries) < 3:
            msg = "not yet"
            raise OSError(msg)
        return value

    flow = Workflow("trying", step("flaky", flaky, retry=Retry(attempts=3, initial=60, maximum=60)))
    async with Engine(clock=clock) as engine:
        run = await engine.start(flow, 1)
        for _ in range(2):
            await parked(engine)
            await clock.advance(60)
        assert await run.result(60) == 1
    assert len(tries) == 3


async def test_the_wait_of_a_parked_run_times_out() -> None:
    clock = VirtualClock()
    flow = Workflow("asking", wait_signal("go", timeout=HOUR, default="nobody"))
    async with Engine(clock=clock) as engine:
        run = await engine.start(flow, 1)
        await parked(engine)
        await clock.advance(HOUR)
        assert await run.result(60) == "nobody"


async def test_a_deadline_ends_a_parked_run() -> None:
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(Workflow("asking", wait_signal("go"), timeout=HOUR), 1)
        await parked(engine)
        await clock.advance(HOUR)
        with pytest.raises(RunFailed, match="passed its deadline of 3600 s"):
            await run.result(60)


async def test_a_run_that_another_owner_drives_when_it_is_due_is_woken_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.waking, "_TRY_AGAIN_S", 0.05)
    disk, clock = MemoryStore(), VirtualClock()
    flow = Workflow("late", sleep("pause", HOUR), wait_signal("go"))
    async with Engine(disk, clock=clock) as first:
        run = await first.start(flow, 1, run_id=RUN)
        await parked(first)
        async with Engine(disk, clock=VirtualClock()) as other:
            other.register(flow)
            monkeypatch.setattr(other._host.parking, "look", lambda: None)
            await other.resume(RUN)
            await clock.advance(HOUR)
            await until(lambda: bool(first._host.waker._refused))
        await clock.advance(1)  # the next attempt
        await until(lambda: disk.get(Keys(RUN).parked) is not None)
        await run.signal("go", 7)
        assert await run.result(timeout=60) == 7


async def test_a_run_that_was_resumed_while_it_was_being_woken_is_woken_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.waking, "_TRY_AGAIN_S", 0.05)
    flow = Workflow("twice", wait_signal("one"), wait_signal("two"))
    async with Engine(MemoryStore()) as engine:
        run = await engine.start(flow, 1, run_id=RUN)
        await parked(engine)
        await engine.resume(RUN)
        await engine._host.waker._wake(Keys(RUN).run_key, watched=False)  # this engine drives it already
        assert engine._host.waker._refused
        await parked(engine)
        await run.signal("one", 1)
        await run.signal("two", 2)
        assert await run.result(timeout=60) == 2


async def test_a_run_that_a_busy_store_did_not_let_wake_is_woken_later(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.waking, "_TRY_AGAIN_S", 0.05)
    async with Engine(MemoryStore()) as engine:
        await engine.start(asking(), 1, run_id=RUN)
        await parked(engine)
        resume, tries = engine._host.admission.resume, []

        async def busy_once(*args: Any, **kwargs: Any) -> Any:
            tries.append(1)
            if len(tries) == 1:
                raise StoreBusy("path", 5.0)
            return await resume(*args, **kwargs)

        monkeypatch.setattr(engine._host.admission, "resume", busy_once)
        await engine.signal(RUN, "go", 7)
        await until(lambda: engine._host.runs.head(RUN).status == "completed")


async def test_the_times_of_runs_that_were_woken_early_are_forgotten() -> None:
    async with Engine(MemoryStore(), clock=VirtualClock()) as engine:
        waker = engine._host.waker
        waker.watch_run(b"first", HOUR)
        for count in range(1_000):
            waker.watch_run(b"second", 2 * HOUR + count)
        assert len(waker._dues) < 100
        assert waker._dues[0] == (HOUR, b"first")
        assert (2 * HOUR + 999, b"second") in waker._dues
