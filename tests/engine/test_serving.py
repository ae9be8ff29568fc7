"""A server drives all runs of its flows, also those of other processes, and loses nothing when stopped or killed."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import serving_child
from serving_child import served_flow
from wrapped_store import WrappedStore, until

import beluga_graph.engine.serving
import beluga_graph.engine.store_poller
from beluga_graph import Engine, ParallelAgent, RunFailed, RunStatus, Workflow, sleep, step, wait_signal
from beluga_graph.runtime.active_run import HALTED
from beluga_graph.storage.keys import Keys
from beluga_graph.testing import VirtualClock
from stores import MemoryStore
from stores.base import Put

HOUR = 3600


@contextmanager
def serving(folder: Path, grace: float = 10.0) -> Iterator["subprocess.Popen[str]"]:
    """Serve in another process that is ended in any case."""
    command = [sys.executable, serving_child.__file__, str(folder), str(grace)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "serving\n"
            yield process
        finally:
            process.kill()


def log(folder: Path, node: str) -> list[str]:
    """Return the process ids that have run a node."""
    if not (folder / "log").exists():
        return []
    lines = [line.split() for line in (folder / "log").read_text().splitlines()]
    return [process for _, name, process in lines if name == node]


async def started(folder: Path, run_id: str) -> None:
    """Start a run in this process, and release it after its first step."""
    async with Engine(folder / "store") as engine:
        await engine.start(served_flow(folder), 1, run_id=run_id)
        await until(lambda: _status(engine, run_id) == "waiting")


async def test_a_serving_process_continues_abandoned_runs_and_runs_that_get_a_signal(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    await started(tmp_path, "r")
    with serving(tmp_path) as server:
        async with Engine(tmp_path / "store") as engine:
            engine.register(served_flow(tmp_path))
            await until(lambda: _status(engine, "r") == "waiting")
            await engine.signal("r", "go", 40)
            await until(lambda: _status(engine, "r") == "completed")
            assert (await engine.snapshot("r")).output == 42
            assert log(tmp_path, "gate") == log(tmp_path, "last") == [str(server.pid)]
            assert len(log(tmp_path, "first")) == 1


def _status(engine: Engine, run_id: str) -> str:
    return engine._host.runs.head(run_id).status


async def test_a_killed_process_is_replaced_by_another_serving_process(tmp_path: Path) -> None:
    await started(tmp_path, "r")
    async with Engine(tmp_path / "store") as engine:
        engine.register(served_flow(tmp_path))
        with serving(tmp_path) as first:
            await engine.signal("r", "go", 40)
            await until(lambda: len(log(tmp_path, "gate")) == 1)
            with serving(tmp_path) as second:
                first.kill()
                await until(lambda: len(log(tmp_path, "gate")) == 2)
                (tmp_path / "open").touch()
                await until(lambda: _status(engine, "r") == "completed")
        assert log(tmp_path, "gate") == [str(first.pid), str(second.pid)]
        assert len(log(tmp_path, "last")) == 1


async def test_a_stopped_server_finishes_the_work_under_way_and_begins_no_more(tmp_path: Path) -> None:
    await started(tmp_path, "r")
    async with Engine(tmp_path / "store") as engine:
        engine.register(served_flow(tmp_path))
        await engine.signal("r", "go", 40)
        with serving(tmp_path) as server:
            await until(lambda: log(tmp_path, "gate"))
            server.send_signal(signal.SIGTERM)
            assert server.stdout is not None
            assert await asyncio.to_thread(server.stdout.readline) == "stopping\n"
            (tmp_path / "open").touch()
            assert await asyncio.to_thread(server.stdout.readline) == "handed back\n"
            assert server.wait() == 0
        assert log(tmp_path, "last") == []
        run = await engine.resume("r")
        assert await run.result(60) == 42
    assert len(log(tmp_path, "gate")) == 1, "it was finished and committed"


async def test_a_stopped_server_releases_work_that_exceeds_its_grace_period(tmp_path: Path) -> None:
    await started(tmp_path, "r")
    async with Engine(tmp_path / "store") as engine:
        engine.register(served_flow(tmp_path))
        await engine.signal("r", "go", 40)
        with serving(tmp_path, grace=0.01) as server:
            await until(lambda: log(tmp_path, "gate"))
            server.send_signal(signal.SIGTERM)
            assert server.wait() == 0
        (tmp_path / "open").touch()
        assert await (await engine.resume("r")).result(60) == 42
    assert len(log(tmp_path, "gate")) == 2
    assert len(log(tmp_path, "last")) == 1


@pytest.mark.usefixtures("quick_looks")
async def test_no_more_runs_are_under_way_than_allowed() -> None:
    disk, under_way, most = MemoryStore(), 0, 0

    async def work(value: int) -> int:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.01)
        under_way -= 1
        return value

    flow = Workflow("working", wait_signal("go"), step("work", work))
    async with Engine(WrappedStore(disk)) as engine:
        for n in range(20):
            await engine.start(flow, n, run_id=f"r{n}")
    async with Engine(WrappedStore(disk)) as sender, Engine(WrappedStore(disk)) as server:
        for n in range(20):
            await sender.signal(f"r{n}", "go", n)
        server.register(flow)
        task = asyncio.create_task(server.serve(max_runs=3))
        await until(lambda: all(_status(sender, f"r{n}") == "completed" for n in range(20)))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert 1 <= most <= 3


@pytest.mark.usefixtures("quick_looks")
async def test_runs_beyond_the_limit_of_recover_continue_when_there_is_room() -> None:
    disk = MemoryStore()
    gate = asyncio.Event()

    async def work(value: int) -> int:
        await gate.wait()
        return value

    flow = Workflow("working", step("work", work))
    async with Engine(WrappedStore(disk)) as engine:
        for n in range(10):
            await engine.start(flow, n, run_id=f"r{n}")
    async with Engine(WrappedStore(disk)) as engine:
        engine.register(flow)
        recovery = await engine.recover(max_runs=2)
        assert len(recovery) == 10
        assert len(engine._host.runs.actives) == 2
        gate.set()
        assert sorted([await run.result(60) for run in recovery]) == list(range(10))


@pytest.mark.usefixtures("quick_looks")
async def test_a_server_fires_due_timers_of_runs_without_an_owner() -> None:
    disk, clock = MemoryStore(), VirtualClock()
    flow = Workflow("napping", sleep("nap", HOUR))
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.start(flow, 5, run_id="r")
        await until(lambda: not engine._host.runs.actives)
    async with Engine(WrappedStore(disk), clock=clock) as server:
        server.register(flow)
        task = asyncio.create_task(server.serve())
        await asyncio.sleep(0.05)
        assert await server.status("r") is RunStatus.waiting
        assert server._host.runs.actives == {}
        await clock.advance(HOUR)
        await until(lambda: _status(server, "r") == "completed")
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.usefixtures("quick_looks")
async def test_runs_of_flows_that_the_server_does_not_know_are_left_alone() -> None:
    disk, clock = MemoryStore(), VirtualClock()
    async with Engine(WrappedStore(disk), clock=clock) as engine:
        await engine.start(Workflow("other", sleep("nap", HOUR)), 5, run_id="r")
        await until(lambda: not engine._host.runs.actives)
    clock.set(clock.now_ms() + 2 * HOUR * 1000)
    async with Engine(WrappedStore(disk), clock=clock) as server:
        task = asyncio.create_task(server.serve())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await server.status("r") is RunStatus.waiting


@pytest.mark.usefixtures("quick_looks")
async def test_queued_runs_do_not_begin_after_serving_is_stopped() -> None:
    disk, begun, gate = MemoryStore(), [], asyncio.Event()

    async def work(value: int) -> int:
        begun.append(value)
        await gate.wait()
        return value

    flow = Workflow("turns", step("work", work))
    async with Engine(disk) as engine:
        for value in range(5):
            await engine.start(flow, value)
        await until(lambda: len(begun) == 5)
    begun.clear()
    async with Engine(disk) as engine:
        engine.register(flow)
        server = asyncio.create_task(engine.serve(max_runs=1))
        await until(lambda: len(begun) == 1)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: not engine._host.waker.serving)
        gate.set()  # the work under way ends and makes room
        await server
        await asyncio.sleep(0.05)
        assert len(begun) == 1
        assert not engine._host.runs.actives


@pytest.mark.usefixtures("quick_looks")
async def test_a_server_that_is_cancelled_in_its_grace_period_releases_its_runs() -> None:
    begun, gate = asyncio.Event(), asyncio.Event()

    async def work(value: int) -> int:
        begun.set()
        await gate.wait()
        return value

    async with Engine(MemoryStore()) as engine:
        await engine.start(Workflow("work", step("work", work)), 1, run_id="r")
        server = asyncio.create_task(engine.serve())
        await until(lambda: begun.is_set() and engine._host.waker.serving)
        os.kill(os.getpid(), signal.SIGTERM)
        await until(lambda: engine._host.waker.is_paused)
        await asyncio.sleep(0.01)
        server.cancel()
        with pytest.raises(asyncio.CancelledError):
            await server
        assert not engine._host.runs.actives
        gate.set()
        assert await (await engine.resume("r")).result(60) == 1


@pytest.mark.usefixtures("quick_looks")
@pytest.mark.parametrize("is_sent", [True, False], ids=["signal", "no signal"])
async def test_a_signal_that_arrives_while_a_server_stops_beats_the_timeout_of_its_wait(is_sent: bool) -> None:
    disk, clock, begun, gate = MemoryStore(), VirtualClock(), asyncio.Event(), asyncio.Event()

    async def work(value: int) -> int:
        begun.set()
        await gate.wait()
        return value

    asks = Workflow("asks", wait_signal("go", timeout=HOUR))
    flow = ParallelAgent("both", [Workflow("works", step("work", work)), asks])
    async with Engine(disk, clock=clock) as engine:
        await engine.start(flow, 1, run_id="r")
        server = asyncio.create_task(engine.serve(grace=60))
        await begun.wait()
        await until(lambda: engine._host.waker.serving)
        os.kill(os.getpid(), signal.SIGTERM)
        (active,) = engine._host.runs.actives.values()
        await until(lambda: active.state == HALTED)
        if is_sent:
            async with Engine(disk, clock=clock) as sender:
                sender.register(flow)
                await sender.signal("r", "go", 7)
        await clock.advance(HOUR)
        gate.set()
        await server
        assert await engine.status("r") is RunStatus.waiting
    async with Engine(disk, clock=clock) as engine:
        engine.register(flow)
        run = await engine.resume("r")
        if is_sent:
            assert await run.result(60) == {"works": 1, "asks": 7}
        else:
            with pytest.raises(RunFailed, match="no signal 'go' came within 3600 s"):
                await run.result(60)


@pytest.mark.usefixtures("quick_looks")
async def test_a_damaged_lease_does_not_prevent_other_runs_from_being_served() -> None:
    disk, flow = MemoryStore(), Workflow("asking", wait_signal("go"))
    for run_id in ("bad", "good"):
        async with Engine(disk) as engine:
            await engine.start(flow, 1, run_id=run_id)
    disk.commit(Put(Keys("bad").lease, b"rubbish"))
    async with Engine(disk) as sender, Engine(disk) as engine:
        engine.register(flow)
        server = asyncio.create_task(engine.serve())
        await until(lambda: disk.get(Keys("good").parked) is not None)
        await sender.signal("good", "go", 7)
        await until(lambda: _status(sender, "good") == "completed")
        server.cancel()


@pytest.mark.usefixtures("quick_looks")
async def test_serving_continues_after_a_temporary_error_of_the_store(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.serving, "_TRY_AGAIN_S", 0.01)
    disk, flow = MemoryStore(), Workflow("asking", wait_signal("go"))
    async with Engine(disk) as engine:
        await engine.start(flow, 1, run_id="r")
    failed = []

    def fails() -> None:
        failed.append(1)
        raise OSError("a passing trouble")

    async with Engine(disk) as sender, Engine(disk) as engine:
        engine.register(flow)
        with monkeypatch.context() as trouble:
            trouble.setattr(engine._host.wakeups, "_answer_wakeups", fails)
            server = asyncio.create_task(engine.serve())
            await until(lambda: failed)
        await sender.signal("r", "go", 7)
        await until(lambda: _status(sender, "r") == "completed")
        assert not server.done()
        server.cancel()
