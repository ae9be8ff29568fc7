"""The files of a store disappear under a running engine: its runs stop with that error and report no result."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from beluga_graph import END, START, Engine, EventBus, Graph, Workflow, step, wait_signal
from stores import LMDBStore, Put, Store, StoreError, StoreGone


def delete(path: Path) -> None:
    shutil.rmtree(path)


def delete_the_file(path: Path) -> None:
    (path / "data.mdb").unlink()


def delete_the_lock_file(path: Path) -> None:
    """Let two processes write at once: the next process that opens the store locks another file."""
    (path / "lock.mdb").unlink()


def move(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))


def replace(path: Path) -> None:
    """Replace it by another store."""
    move(path)
    with closing(LMDBStore(path)) as other:
        other.commit(Put(b"other", b"store"))


def replace_the_file(path: Path) -> None:
    """Restore a copy, as a person would with a file that is open."""
    shutil.copy(path / "data.mdb", path / "copy")
    (path / "copy").rename(path / "data.mdb")


def commit_on_and_on(store: Store) -> None:
    while True:  # the path is looked at every tenth of a second
        store.commit(Put(b"k", b"1"))


def read_on_and_on(store: Store) -> None:
    while True:
        store.get(b"k")


LOSSES = [delete, delete_the_file, move, replace, replace_the_file]


@pytest.mark.parametrize("lose", [*LOSSES, delete_the_lock_file])
def test_a_store_whose_files_are_gone_raises_and_writes_no_more(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    path = tmp_path / "store"
    with closing(LMDBStore(path, durability="none")) as store:
        store.commit(Put(b"k", b"0"))
        lose(path)
        with pytest.raises(StoreGone, match="its file is gone: it was deleted, moved or replaced while it was open"):
            commit_on_and_on(store)
        for call in (lambda: store.get(b"k"), lambda: list(store.scan(b"")), lambda: store.commit(Put(b"k", b"2"))):
            with pytest.raises(StoreGone):
                call()
    if lose is replace:
        with closing(LMDBStore(path)) as other:
            assert dict(other.scan(b"")) == {b"other": b"store"}


def test_the_next_commit_notices_a_deleted_file(tmp_path: Path) -> None:
    with closing(LMDBStore(tmp_path / "store", durability="none")) as store:
        store.commit(Put(b"k", b"0"))
        shutil.rmtree(tmp_path / "store")
        with pytest.raises(StoreGone):
            store.commit(Put(b"k", b"1"))


def test_reads_without_commits_notice_a_deleted_file_too(tmp_path: Path) -> None:
    with closing(LMDBStore(tmp_path / "store", durability="none")) as store:
        store.commit(Put(b"k", b"0"))
        move(tmp_path / "store")
        with pytest.raises(StoreGone):
            read_on_and_on(store)


@pytest.mark.parametrize("durability", ["commit", "batch", "none"])
@pytest.mark.parametrize("lose", LOSSES)
async def test_a_run_never_reports_a_result_that_is_not_on_disk(
    tmp_path: Path, lose: Callable[[Path], None], durability: str
) -> None:
    path, reached = tmp_path / "store", asyncio.Event()
    lost = asyncio.Event()
    graph = Graph("chain")

    @graph.node
    async def before(value: int) -> int:
        reached.set()
        await lost.wait()
        return value * 2

    @graph.node
    async def after(value: int) -> int:
        return value * 2

    graph.edge(START, before)
    graph.edge(before, after)
    graph.edge(after, END)
    async with Engine(path, durability=durability) as engine:
        run = await engine.start(graph, 10, run_id="r")
        await reached.wait()
        lose(path)
        with pytest.raises(StoreGone):
            await asyncio.to_thread(read_on_and_on, engine.store)
        lost.set()
        with pytest.raises(StoreGone):
            await run.result(60)
        with pytest.raises(StoreError):
            await engine.start(graph, 10, run_id="another")


@pytest.mark.parametrize("lose", LOSSES)
async def test_a_waiting_run_is_stopped_too(tmp_path: Path, lose: Callable[[Path], None]) -> None:
    @step("tell")
    async def tell(payload: object) -> object:
        return payload

    async with Engine(tmp_path / "store") as engine:
        run = await engine.start(Workflow("waits", wait_signal("go"), tell), 1, run_id="r")
        waiting = asyncio.ensure_future(run.result(60))
        lose(tmp_path / "store")
        with pytest.raises(StoreGone):
            await waiting
        with pytest.raises(StoreGone):
            await engine.signal("r", "go", 1)


async def test_a_bus_whose_store_is_deleted_accepts_no_events(tmp_path: Path) -> None:
    async with EventBus(tmp_path / "store") as bus:
        await bus.publish("a", 1)
        shutil.rmtree(tmp_path / "store")
        with pytest.raises(StoreGone):
            await bus.publish("a", 2)
