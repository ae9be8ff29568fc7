"""A process on a failing disk: it runs or serves a flow whose second node asks for the fault, or uses a store alone."""

import asyncio
import os
import sys
import threading
from pathlib import Path

from failing_disk import fail, left

from beluga_graph import END, START, Engine, Graph
from stores import LMDBStore, Put, StoreError, StoreFailed

__all__ = ["NODES", "failing_flow"]

NODES = 6


def failing_flow(folder: Path, what: str = "meta", count: int = 1) -> Graph:
    """Return a chain whose nodes record that they ran; the commit of the third one fails."""
    graph = Graph("failing_disk")
    before = START
    for number in range(NODES):

        async def work(value: int, number: int = number) -> int:
            with (folder / "log").open("a") as log:
                log.write(f"{number} {os.getpid()}\n")
            if number == 2 and not (folder / "fault").exists():
                fail(folder / "fault", what, count)
            return value + 1

        node = graph.add(work, name=f"n{number}")
        graph.edge(before, node)
        before = node
    graph.edge(before, END)
    return graph


async def use_engine(folder: Path, what: str) -> None:
    """Run until the fault, and continue in the same engine."""
    flow = failing_flow(folder, what)
    async with Engine(folder / "store") as engine:
        try:
            await engine.execute(flow, 0, run_id="r")
        except StoreFailed as error:
            print(error, flush=True)
        run = await engine.resume("r")
        print(await run.result(), flush=True)


async def serve(folder: Path, what: str, count: str) -> None:
    async with Engine(folder / "store") as engine:
        await engine.start(failing_flow(folder, what, int(count)), 0, run_id="r")
        print("serving", flush=True)
        await engine.serve()
        print("handed back", flush=True)


def use_store(folder: Path, what: str) -> None:
    """Fail a commit while threads read all the time, then continue."""
    store = LMDBStore(folder / "store")
    store.commit(Put(b"k", b"0"))
    finished, errors = threading.Event(), []

    def read() -> None:
        try:
            while not finished.is_set():
                assert store.get(b"k") in (b"0", b"1", b"2")
                assert len(list(store.scan(b"k"))) == 1
        except BaseException as error:  # noqa: BLE001  # printed below
            errors.append(error)

    threads = [threading.Thread(target=read) for _ in range(2)]
    for thread in threads:
        thread.start()
    fail(folder / "fault", what)
    try:
        store.commit(Put(b"k", b"1"))
    except StoreError as error:
        print(type(error).__name__, error)
    print(left(folder / "fault"), store.get(b"k"))
    store.commit(Put(b"k", b"2"))
    finished.set()
    for thread in threads:
        thread.join()
    print(errors, store.get(b"k"))
    store.commit(*(Put(b"m%05d" % i, b"v" * 1000) for i in range(3000)))
    print(store.compact()[1] > 0)
    store.close()


if __name__ == "__main__":
    command, folder, *rest = sys.argv[1:]
    if command == "store":
        use_store(Path(folder), *rest)
    else:
        asyncio.run((use_engine if command == "engine" else serve)(Path(folder), *rest))
