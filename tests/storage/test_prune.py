"""Pruning: which records are deleted, which stay, and that crashes and other processes do no damage."""

import asyncio
import os
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from pruned_flows import LARGE, failing, go_through, rich, waits
from wrapped_store import PATIENCE_S, WrappedStore, until

from beluga_graph import END, START, Agent, Engine, Graph, RunFailed, RunNotFound, RunStatus
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.verify import verify_store
from beluga_graph.testing import ScriptedModel, VirtualClock
from stores import Check, Delete, LMDBStore, MemoryStore, Put
from stores.base import Op, Store

PROGRAM = str(Path(__file__).with_name("pruned_flows.py"))


class Dies(Exception):
    """The process has died: it commits nothing more."""


class Mortal:
    """A store that accepts some commits and none afterwards."""

    def __init__(self, commits: int) -> None:
        self.left = commits
        self.made = 0

    def __call__(self, ops: Sequence[Op]) -> None:
        if self.made == self.left:
            raise Dies
        self.made += 1


def records(store: Store) -> set[bytes]:
    """Return the keys of runs and values in a store; without the due time of timers."""
    keys = [key for key, _ in store.scan(b"") if key[:1] not in (b"O", b"P", b"Z", b"Y")]
    return {key[:1] + key[9:] if key[:1] == b"T" else key for key in keys}


def kinds(store: Store) -> str:
    return "".join(sorted({chr(key[0]) for key in records(store)}))


async def succeed(engine: Engine, *ids: str) -> None:
    for run_id in ids:
        await go_through(engine, run_id, run_id)


async def fail(engine: Engine, run_id: str) -> None:
    with pytest.raises(RunFailed):
        await engine.execute(failing(), LARGE, run_id=run_id)


async def test_a_pruned_run_leaves_no_record_and_is_not_found() -> None:
    async with Engine() as engine:
        await succeed(engine, "a")
        assert kinds(engine.store) == "CHILNSVWX"
        (gone,) = await engine.prune()
        assert (gone.run_id, gone.flow, gone.status) == ("a", "rich", RunStatus.completed)
        assert records(engine.store) == set()
        for ask in (engine.status("a"), engine.history("a"), engine.snapshot("a"), engine.signal("a", "go")):
            with pytest.raises(RunNotFound):
                await ask
        assert await engine.prune() == ()


async def test_age_and_status_select_the_runs_to_prune() -> None:
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:

        async def some(name: str) -> None:
            await engine.execute(double(), 1, run_id=f"{name}-done")
            run = await engine.start(waits(), run_id=f"{name}-cancelled")
            await run.cancel()
            await fail(engine, f"{name}-failed")
            await engine.start(waits(), run_id=f"{name}-waiting")

        await some("old")
        clock.set(clock.now_ms() + 10_000)
        await some("new")

        async def pruned(**options: Any) -> set[str]:
            return {run.run_id for run in await engine.prune(**options)}

        assert await pruned(older_than=10.001) == set()
        assert await pruned(older_than=10, dry_run=True) == {"old-done", "old-cancelled"}
        assert await pruned(older_than=10) == {"old-done", "old-cancelled"}
        assert await pruned(status=["failed"], older_than=5) == {"old-failed"}
        assert await pruned(status=("completed",)) == {"new-done"}
        assert await pruned(status=("completed", "failed", "cancelled")) == {"new-cancelled", "new-failed"}
        assert {run.run_id for run in await engine.runs()} == {"old-waiting", "new-waiting"}
        assert verify_store(engine.store).damage == ()


def double() -> Graph:
    g = Graph("double")
    g.node(name="double")(lambda n: 2 * n)
    g.edge(START, "double")
    g.edge("double", END)
    return g


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"status": ["waiting"]}, "status 'waiting': cancel such runs first; what can be pruned is completed,"),
        ({"status": ["completed", "running"]}, "status 'running': cancel such runs first"),
        ({"status": ["complete"]}, "status 'complete': there is no such status"),
        ({"status": "failed"}, r"status='failed': give a row of names, such as \('failed',\)"),
        ({"older_than": -1}, "older_than=-1: give seconds, from 0 on"),
        ({"older_than": float("nan")}, "older_than=nan: give seconds"),
    ],
)
async def test_arguments_that_make_no_sense_are_refused(options: Any, message: str) -> None:
    async with Engine() as engine:
        with pytest.raises(ValueError, match=message):
            await engine.prune(**options)


async def test_a_dry_run_writes_nothing() -> None:
    async with Engine() as engine:
        await succeed(engine, "a")
        before = dict(engine.store.scan(b""))
        assert [run.run_id for run in await engine.prune(dry_run=True)] == ["a"]
        assert dict(engine.store.scan(b"")) == before


async def test_a_shared_large_value_stays_until_the_last_run_that_refers_to_it_is_gone() -> None:
    clock = VirtualClock()
    async with Engine(clock=clock) as engine:
        await engine.execute(same(), LARGE, run_id="a")
        clock.set(clock.now_ms() + 1000)
        await engine.execute(same(), LARGE, run_id="b")
        await engine.prune(older_than=1)
        assert (await engine.snapshot("b")).output == LARGE
        assert kinds(engine.store) == "HLNSVWX"
        await engine.prune()
        assert records(engine.store) == set()


def same() -> Graph:
    g = Graph("same")
    g.node(name="same")(lambda value: value)
    g.edge(START, "same")
    g.edge("same", END)
    return g


async def test_a_fork_and_a_session_keep_the_large_values_that_they_share_with_a_pruned_run() -> None:
    model = ScriptedModel(lambda request: LARGE)
    async with Engine() as engine:
        run = await engine.start(rich(), "a", run_id="a")
        async for event in run.events():
            if event.type == "waiting":
                break
        forked = await engine.fork("a", 2, run_id_new="fork")
        await run.signal("go", LARGE + "payload")
        await run.result(timeout=60)
        await engine.execute(Agent("desk", model=model), LARGE + "?", session="s", run_id="talk")
        assert {run.run_id for run in await engine.prune()} == {"a", "talk"}
        assert (await engine.snapshot("fork")).state["books"] == ["a", LARGE]
        await forked.signal("go")
        assert await forked.result(timeout=60) == "a 2"
        await engine.execute(Agent("desk", model=model), "again", session="s")
        assert [message.text for message in model.requests[-1].messages] == [LARGE + "?", LARGE, "again"]
        await engine.prune()
        assert kinds(engine.store) == "VW", "the session's own"
        assert verify_store(engine.store).damage == ()


async def test_a_failed_run_gives_its_session_back() -> None:
    model = ScriptedModel([ValueError("no")])
    async with Engine() as engine:
        desk = Agent("desk", model=model)
        with pytest.raises(RunFailed):
            await engine.execute(desk, "one", session="s", run_id="r")
        await engine.prune()
        assert await engine.status("r") == RunStatus.failed
        assert len(await engine.prune(status=["failed"])) == 1
        model = ScriptedModel(["fine"])
        assert await engine.execute(Agent("desk", model=model), "two", session="s") == "fine"


async def test_an_id_can_be_used_again() -> None:
    async with Engine() as engine:
        await succeed(engine, "a")
        await engine.prune()
        run = await engine.start(rich(), "another", run_id="a")
        await run.signal("go")
        assert await run.result(timeout=60) == "another 2"
        assert [step.seq for step in await engine.history("a")] == [1, 2, 3, 4]


async def left(commits: int) -> tuple[MemoryStore, bool]:
    """Prune two of three runs that share a value and die after some commits; return whether it died."""
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as engine:
        await succeed(engine, "a", "b")
        run = await engine.start(rich(), "c", run_id="c")
        await until(lambda: kinds(disk).startswith("A") or b"G" + Keys("c").run_key in records(disk))
    del run
    async with Engine(WrappedStore(disk, before=Mortal(commits))) as engine:
        try:
            await engine.prune()
        except Dies:
            return disk, True
    return disk, False


async def test_a_prune_that_dies_at_any_commit_is_finished_by_the_next() -> None:
    whole, died = await left(1000)
    assert not died
    expected, commits = records(whole), 0
    assert {key[1:17] for key in expected if key[:1] not in (b"V", b"W")} == {Keys("c").run_key}
    while True:
        disk, died = await left(commits)
        if not died:
            break
        async with Engine(disk) as engine:
            assert verify_store(disk).damage == ()
            await engine.prune()
            assert records(disk) == expected
            assert verify_store(disk).damage == ()
            await engine.recover()
            await engine.signal("c", "go")
            engine.register(rich())
            assert await (await engine.resume("c")).result(timeout=60) == "c 2"
        commits += 1
    assert commits >= 4


async def test_a_new_run_of_the_same_id_is_whole_after_a_prune_died_at_any_commit() -> None:
    for commits in range(1000):
        disk, died = await left(commits)
        if not died:
            break
        async with Engine(disk) as engine:
            if "a" not in {run.run_id for run in await engine.runs()}:
                run = await engine.start(rich(), "new", run_id="a")
                await run.signal("go")
                assert await run.result(timeout=60) == "new 2"
                assert [step.seq for step in await engine.history("a")] == [1, 2, 3, 4]
            assert verify_store(disk).damage == ()
            await engine.prune()
            assert verify_store(disk).damage == ()
    assert commits >= 4


class Meddling:
    """Calls a function once, just before the first matching commit."""

    def __init__(self, fits: Any, call: Any) -> None:
        self._fits, self._calls = fits, [call]

    def __call__(self, ops: Sequence[Op]) -> None:
        if self._calls and self._fits(ops):
            self._calls.pop()()


async def test_a_value_that_gets_a_new_reference_before_its_deletion_stays() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as other:
        await other.execute(same(), LARGE, run_id="a")

        def refer_anew() -> None:
            digest = next(disk.scan(b"V"))[0][1:]
            keys = Keys("b")
            value = disk.get(b"V" + digest)
            assert value is not None
            marks = [Put(mark, b"\x01") for mark in keys.marks(digest)]
            disk.commit(*marks, Put(b"V" + digest, value), Delete(b"J" + digest))

        deletes_value = Meddling(lambda ops: any(type(op) is Delete and op.key[:1] == b"V" for op in ops), refer_anew)
        async with Engine(WrappedStore(disk, before=deletes_value)) as engine:
            await engine.prune()
        assert kinds(disk) == "VWX"


async def test_a_late_deletion_does_not_touch_a_new_run_of_the_same_id() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as other:
        await succeed(other, "a")
        fresh = MemoryStore()
        async with Engine(fresh) as elsewhere:
            await succeed(elsewhere, "a")

        def begin_anew() -> None:
            """Finish the deletion like another process, and start a new run of the same id."""
            tombstone = Keys("a").tombstone
            old = [key for key in records(disk) if key[:1] in b"SNCIXW"]
            disk.commit(*map(Delete, old), Delete(tombstone))
            disk.commit(*(Put(key, value) for key, value in fresh.scan(b"") if key[:1] != b"O"))

        sweeps = Meddling(
            lambda ops: any(type(op) is Check and op.key[:1] == b"E" and op.expected for op in ops), begin_anew
        )
        async with Engine(WrappedStore(disk, before=sweeps)) as engine:
            await engine.prune()
            assert await engine.status("a") == RunStatus.completed
            assert (await engine.snapshot("a")).output == "a 2"
        assert verify_store(disk).damage == ()


async def test_a_run_that_continues_before_its_deletion_is_kept() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as other:
        await fail(other, "a")
        head = Keys("a").head
        touched = other.store.get(head)

        def change() -> None:
            assert touched is not None
            disk.commit(Put(Keys("a").lease, b"somebody's"))

        buries = Meddling(lambda ops: any(type(op) is Put and op.key[:1] == b"E" for op in ops), change)
        async with Engine(WrappedStore(disk, before=buries)) as engine:
            assert await engine.prune(status=["failed"]) == ()
        assert disk.get(head) == touched
        assert "E" not in kinds(disk)


async def test_a_fork_of_a_run_that_is_pruned_meanwhile_is_refused() -> None:
    disk = MemoryStore()
    async with Engine(WrappedStore(disk)) as other:
        await succeed(other, "a")

        def prune() -> None:
            disk.commit(*map(Delete, [key for key in records(disk) if key[:1] not in b"VWX"]))

        forks = Meddling(lambda ops: any(type(op) is Put and op.key == Keys("f").head for op in ops), prune)
        async with Engine(WrappedStore(disk, before=forks)) as engine:
            engine.register(rich())
            with pytest.raises(RunNotFound, match="has just been deleted"):
                await engine.fork("a", 2, run_id_new="f")
        assert disk.get(Keys("f").head) is None


@pytest.mark.parametrize("part", ["head", "lease"])
async def test_a_damaged_record_keeps_only_its_own_run_from_being_pruned(
    part: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with Engine() as engine:
        for run_id in ("a", "b", "c"):
            await engine.execute(double(), 1, run_id=run_id)
        engine.store.commit(Put(getattr(Keys("b"), part), b"rubbish"))
        assert [run.run_id for run in await engine.prune()] == ["a", "c"]
        assert "was left" in caplog.text


async def test_two_thousand_runs_are_pruned_in_bounded_memory(tmp_path: Path) -> None:
    g = same()
    async with Engine(tmp_path / "store", durability="none") as engine:
        for begin in range(0, 2000, 200):
            await asyncio.gather(
                *(engine.execute(g, f"{n}" + "y" * 4000, run_id=f"r{n}") for n in range(begin, begin + 200))
            )
        tracemalloc.start()
        gone = await engine.prune()
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert len(gone) == 2000
        assert records(engine.store) == set()
        assert most < 8 << 20, "what is deleted is some 40 MB"


def spawn(*job: object) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(PROGRAM).parents[2]), *sys.path])}
    command = [sys.executable, PROGRAM, *map(str, job)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)


async def test_a_prune_in_a_process_that_is_killed_at_any_commit_is_finished_by_the_next(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    async with Engine(folder) as engine:
        await succeed(engine, "a", "b")
    for commits in range(1, 30):
        process = spawn("prune", folder, commits)
        assert process.stdout is not None
        said, _ = process.communicate()
        store = LMDBStore(folder)
        assert verify_store(store).damage == ()
        if process.returncode == 0:
            assert said.strip() == ("0" if commits > 2 else "2")
            break
        store.close()
    assert records(store) == set()
    assert commits >= 3
    store.close()


async def test_pruning_beside_a_busy_engine_in_another_process_damages_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "store"
    process = spawn("beside", folder)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    gone = 0
    async with Engine(folder) as engine:
        async with asyncio.timeout(PATIENCE_S):
            while gone < 60:
                gone += len(await engine.prune())
                await asyncio.sleep(0)
        (tmp_path / "enough").touch()
        output, number = process.stdout.readline().rsplit(" ", 1)
        assert output == "left 2"
        assert process.wait() == 0
        gone += len(await engine.prune())
        assert gone == int(number) + 1
        assert records(engine.store) == set()
        assert verify_store(engine.store).damage == ()
    process.stdout.close()
