"""Promise 4: one owner for each run. Others wait or are refused; a stale owner cannot commit."""

import asyncio
import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import owned_flow
import pytest
from flows_for_tests import chain
from owned_flow import RUN_ID, Outside, flow

import beluga_graph.storage.leases
from beluga_graph import Engine, LeaseLost, RunBusy, RunStatus
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Lease
from stores import LMDBStore, MemoryStore, Put, StoreBusy

LONG_S = 600.0
SHORT_S = 0.4


def wait_until(holds: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.002)


class Other:
    """Another process that runs the flow."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def stands_still(self) -> bool:
        stat = Path(f"/proc/{self.process.pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] == "T"

    def wake(self) -> None:
        self.process.send_signal(signal.SIGCONT)


@contextmanager
def other(tmp_path: Path, *, stop: str = "", lease_s: float = LONG_S) -> Iterator[Other]:
    job = {"store": str(tmp_path / "store"), "effects": str(tmp_path), "stop": stop, "lease_s": lease_s}
    root = Path(beluga_graph.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, owned_flow.__file__, json.dumps(job)],
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(root)},
    ) as process:
        try:
            yield Other(process)
        finally:
            process.kill()


async def test_a_run_that_another_process_drives_is_refused_or_waited_for(tmp_path: Path) -> None:
    outside = Outside(tmp_path)
    with other(tmp_path) as owner:
        assert owner.hear() == "started"
        async with Engine(tmp_path / "store", deps=outside) as engine:
            engine.register(flow())
            with pytest.raises(RunBusy) as caught:
                await engine.execute(flow(), 0, run_id=RUN_ID)
            assert str(caught.value) == (
                f"run {RUN_ID!r}: another owner drives it: wait for it (wait=True), or end that process"
            )
            recovery = await engine.recover()
            assert list(recovery) == []
            assert {name: type(error) for name, error in recovery.skipped.items()} == {RUN_ID: RunBusy}
            waiter = asyncio.create_task(engine.execute(flow(), 0, run_id=RUN_ID, wait=True))
            (tmp_path / "open").touch()
            assert await waiter == 3
        assert owner.hear() == "output 3"
    assert outside.effects() == ["first", "gate", "last"]


async def test_a_frozen_owner_is_taken_over_and_cannot_commit_when_it_wakes(tmp_path: Path) -> None:
    outside = Outside(tmp_path)
    (tmp_path / "open").touch()
    with other(tmp_path, stop="node", lease_s=SHORT_S) as owner:
        wait_until(owner.stands_still)
        async with Engine(tmp_path / "store", deps=outside) as engine:
            assert await engine.execute(flow(), 0, run_id=RUN_ID, wait=True) == 3
            owner.wake()
            assert owner.hear() == "started"
            assert owner.hear() == "LeaseLost"
            assert [step.trigger for step in await engine.history(RUN_ID)] == [
                "RunStarted",
                "NodeFinished",
                "RunTakenOver",
                "NodeFinished",
                "NodeFinished",
            ]
    assert outside.effects() == ["first", "gate", "gate", "last"]


async def test_an_owner_frozen_inside_a_commit_makes_others_raise_store_busy(tmp_path: Path) -> None:
    (tmp_path / "open").touch()
    with other(tmp_path, stop="commit") as owner:
        wait_until(owner.stands_still)
        store = LMDBStore(tmp_path / "store", busy_timeout=0.2)
        async with Engine(store, deps=Outside(tmp_path)) as engine:
            with pytest.raises(StoreBusy, match=str(tmp_path)):
                await engine.start(flow(), 0, run_id="mine")
            while owner.process.poll() is None:
                owner.wake()
                await asyncio.sleep(0.002)
            assert await engine.execute(flow(), 0, run_id="mine") == 3
        store.close()
        assert owner.hear() == "started"
        assert owner.hear() == "output 3"


async def test_a_dead_process_of_this_machine_is_taken_over_without_waiting_for_its_lease(
    tmp_path: Path,
) -> None:
    with other(tmp_path, lease_s=LONG_S) as owner:
        assert owner.hear() == "started"
        wait_until(lambda: "gate" in Outside(tmp_path).effects())
        owner.process.kill()
        owner.process.wait()
        (tmp_path / "open").touch()
        async with Engine(tmp_path / "store", deps=Outside(tmp_path)) as engine:
            assert await engine.execute(flow(), 0, run_id=RUN_ID) == 3


async def test_a_clean_close_gives_the_lease_back_at_once(tmp_path: Path) -> None:
    outside = Outside(tmp_path)
    store = LMDBStore(tmp_path / "store")
    async with Engine(store, deps=outside) as first, Engine(store, deps=outside) as second:
        await first.start(flow(), 0, run_id=RUN_ID)
        while "gate" not in outside.effects():  # noqa: ASYNC110  # effects are a file
            await asyncio.sleep(0)
        with pytest.raises(RunBusy):
            await second.start(flow(), 0, run_id=RUN_ID)
        await first.close()
        outside.folder.joinpath("open").touch()
        assert await second.execute(flow(), 0, run_id=RUN_ID) == 3
        triggers = [step.trigger for step in await second.history(RUN_ID)]
        assert "RunTakenOver" not in triggers  # no node was interrupted
        assert await second.status(RUN_ID) is RunStatus.completed
    store.close()


async def died_at(store: MemoryStore, engine_count: int) -> None:
    """Store a run whose node was interrupted as often as allowed, and once more."""
    key = Keys(RUN_ID).lease
    for _ in range(engine_count):
        async with Engine(store) as engine:
            await engine.start(chain(for_ever), 0, run_id=RUN_ID)
            await asyncio.sleep(0)
        blob = store.get(key)
        assert blob is not None
        store.commit(Put(key, Lease(b"dead", Lease.decode(key, blob).epoch).encode(key)))


async def for_ever(value: int) -> None:
    await asyncio.Event().wait()


async def test_a_run_that_would_be_interrupted_too_often_can_still_be_cancelled() -> None:
    store = MemoryStore()
    await died_at(store, 6)
    async with Engine(store) as engine:
        assert await engine.cancel(RUN_ID) is RunStatus.cancelled
        assert await engine.status(RUN_ID) is RunStatus.cancelled


async def test_an_owner_that_lost_its_lease_raises_lease_lost_in_every_call() -> None:
    store, key = MemoryStore(), Keys(RUN_ID).lease
    async with Engine(store) as engine:
        run = await engine.start(chain(for_ever), 0, run_id=RUN_ID)
        store.commit(Put(key, Lease(b"another", 2).encode(key)))
        async with asyncio.timeout(60):
            with pytest.raises(LeaseLost, match="later steps of this owner were not written"):
                await run.cancel()
            with pytest.raises(LeaseLost):
                await run.result()
        assert await engine.status(RUN_ID) is RunStatus.running


async def test_two_processes_that_check_a_dead_owner_at_once_both_find_it_dead(tmp_path: Path) -> None:
    with other(tmp_path, lease_s=LONG_S) as owner:
        assert owner.hear() == "started"
        owner.process.kill()
        owner.process.wait()
    (tmp_path / "open").touch()
    (lock,) = (tmp_path / "store").glob("owner-*.lock")
    looking = os.open(lock, os.O_RDWR)  # like another process that checks at the same moment
    fcntl.flock(looking, fcntl.LOCK_SH | fcntl.LOCK_NB)
    async with Engine(tmp_path / "store", deps=Outside(tmp_path)) as engine:
        assert await engine.execute(flow(), 0, run_id=RUN_ID) == 3
    os.close(looking)
