"""Owners: the harm that odd records must not do, and how an owner ends."""

import asyncio
import fcntl
import logging
import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
from flows_for_tests import chain, waiting
from wrapped_store import WrappedStore, until

import beluga_graph.storage.leases
from beluga_graph import Engine, RunBusy
from beluga_graph.clock import SystemClock
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.leases import Lease
from beluga_graph.storage.records import encode_record
from stores import Delete, LMDBStore, MemoryStore, Op, Put
from stores.base import Store, StoreBusy

ID = bytes(range(16))
KEY = b"O" + ID
FAR_MS = 1 << 62
RUN = "r"
HERE = beluga_graph.storage.leases._machine()
OTHER = "another machine"


def now_ms() -> int:
    return SystemClock().now_ms()


async def passing(value: int) -> int:
    return value


def owned_by(owner: bytes, *records: tuple[bytes, bytes]) -> list[Op]:
    """Return the writes of an owner's record and of its lease on the run."""
    lease = Keys(RUN).lease
    return [*(Put(key, blob) for key, blob in records), Put(lease, Lease(owner, 5).encode(lease))]


async def left_waiting(store: Store) -> None:
    """Store a run that has no owner."""
    async with Engine(store) as engine:
        await engine.start(waiting(), 1, run_id=RUN)


@pytest.fixture
def victims(tmp_path: Path) -> list[Path]:
    """Files that the process may delete, beside a store and elsewhere."""
    (tmp_path / "store").mkdir()
    (tmp_path / "elsewhere").mkdir()
    paths = [tmp_path / "elsewhere" / "precious", tmp_path / "beside", tmp_path / "store" / "mine"]
    for path in paths:
        path.write_text("precious")
    return paths


def named_files(victims: Sequence[Path]) -> list[str]:
    """Return stored names that would point to another file."""
    elsewhere = str(victims[0])
    return [
        elsewhere,
        "../beside",
        "../elsewhere/precious",
        "mine",
        "data.mdb",
        "lock.mdb",
        "",
        ".",
        "..",
        "a\0b",
        "x" * 5000,
    ]


@pytest.mark.parametrize("machine", [HERE, OTHER], ids=["here", "there"])
@pytest.mark.parametrize("expires", [0, FAR_MS], ids=["expired", "for ever"])
async def test_no_file_that_a_record_names_is_ever_deleted(
    tmp_path: Path, victims: list[Path], machine: str, expires: int
) -> None:
    store = LMDBStore(tmp_path / "store")
    for number, name in enumerate(named_files(victims)):
        key = b"O" + bytes([number]) * 16
        store.commit(Put(key, encode_record(key, (machine, name, expires))))
    async with Engine(store) as engine:
        assert await engine.execute(chain(passing), 1) == 1
        assert (tmp_path / "store" / "data.mdb").exists()
    store.close()
    assert all(path.read_text() == "precious" for path in victims)
    assert (tmp_path / "store" / "lock.mdb").exists()


ODD: dict[str, Callable[[], tuple[bytes, bytes]]] = {
    "empty": lambda: (KEY, b""),
    "garbage": lambda: (KEY, b"\xff" * 40),
    "of another key": lambda: (KEY, encode_record(b"O" + ID[::-1], (HERE, "", FAR_MS))),
    "two fields": lambda: (KEY, encode_record(KEY, (HERE, FAR_MS))),
    "wrong types": lambda: (KEY, encode_record(KEY, (1, 2, "3"))),
    "no row": lambda: (KEY, encode_record(KEY, {"machine": HERE})),
    "expiry is a text": lambda: (KEY, encode_record(KEY, (HERE, "", "never"))),
    "expiry is beyond all numbers": lambda: (KEY, encode_record(KEY, (OTHER, "", 1 << 90))),
    "lives for ever": lambda: (KEY, encode_record(KEY, (OTHER, "", FAR_MS))),
    "short id": lambda: (KEY[:9], encode_record(KEY[:9], (OTHER, "", now_ms() + 5_000))),
    "long id": lambda: (KEY * 5, encode_record(KEY * 5, (OTHER, "", now_ms() + 5_000))),
    "no id": lambda: (b"O", encode_record(b"O", (OTHER, "", now_ms() + 5_000))),
}


@pytest.mark.parametrize("case", ODD)
@pytest.mark.parametrize("lmdb", [True, False], ids=["lmdb", "without a folder"])
async def test_an_odd_owner_record_stops_neither_engines_nor_runs(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, case: str, lmdb: bool
) -> None:
    store: Any = LMDBStore(tmp_path / "store") if lmdb else Far(MemoryStore())
    await left_waiting(store)
    key, blob = ODD[case]()
    store.commit(*owned_by(key[1:], (key, blob)))
    with caplog.at_level(logging.WARNING, "beluga_graph.storage.leases"):
        async with Engine(store) as engine:
            run = await engine.start(waiting(), 1, run_id=RUN)
            await run.signal("go", 7)
            assert await run.result(timeout=60) == 7
    assert any("a record of an owner is left alone" in record.message for record in caplog.records)
    assert store.get(key) == blob  # `verify` reports it
    store.close()


async def test_an_owner_with_a_folder_lives_while_the_lock_named_by_its_id_holds(tmp_path: Path) -> None:
    store = LMDBStore(tmp_path / "store")
    await left_waiting(store)
    store.commit(*owned_by(ID, (KEY, encode_record(KEY, (HERE, "owner-of-another-name.lock", now_ms() + 60_000)))))
    lock = os.open(tmp_path / "store" / f"owner-{ID.hex()}.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    async with Engine(store) as engine:
        with pytest.raises(RunBusy):
            await engine.start(waiting(), 1, run_id=RUN)
        assert store.get(KEY) is not None
        os.close(lock)
        await engine.start(waiting(), 1, run_id=RUN)
    async with Engine(store) as engine:
        await engine.start(waiting(), 1, run_id="another")
        assert store.get(KEY) is None
        assert len(list((tmp_path / "store").glob("owner-*.lock"))) == 1
    store.close()


# Stores without a folder.


class Far(WrappedStore):
    """A store that other machines share, without lock files."""

    private = False


class Refusing(Far):
    """A store that refuses to delete an owner's record."""

    def commit(self, *ops: Op) -> None:
        if any(type(op) is Delete and op.key[:1] == b"O" for op in ops):
            raise StoreBusy("far", 5.0)
        super().commit(*ops)


async def test_an_owner_renews_its_record_in_a_store_without_a_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.storage.leases, "RENEW_S", 0.02)
    disk = MemoryStore()
    async with Engine(Far(disk), deps=(gate := asyncio.Event())) as owner, Engine(Far(disk)) as other:
        run = await owner.start(gated(), 1, run_id=RUN)
        seen: set[bytes] = set()

        def has_renewed() -> bool:
            seen.update(blob for _, blob in disk.scan(b"O"))
            return len(seen) > 3

        await until(has_renewed)
        with pytest.raises(RunBusy):
            await other.start(gated(), 1, run_id=RUN)
        gate.set()
        assert await run.result(timeout=60) == 1


@pytest.mark.parametrize("private", [True, False])
async def test_an_owner_ends_even_if_its_record_cannot_be_removed(
    monkeypatch: pytest.MonkeyPatch, *, private: bool
) -> None:
    monkeypatch.setattr(beluga_graph.storage.leases, "LEASE_S", 0.5)
    disk = MemoryStore()
    store = Refusing(disk)
    store.private = private
    async with Engine(store, deps=asyncio.Event()) as owner:
        run = await owner.start(gated(), 1, run_id=RUN)
        lease = disk.get(Keys(RUN).lease)
        assert lease is not None
    assert len(list(disk.scan(b"O"))) == 1
    disk.commit(Put(Keys(RUN).lease, lease))  # the lease could not be given back either
    there: Any = Far(disk)
    there.private = private
    async with Engine(there, deps=(gate := asyncio.Event())) as engine, asyncio.timeout(60):
        gate.set()
        assert await engine.execute(gated(), 1, run_id=RUN, wait=True) == 1
    assert run.id == RUN


async def test_an_engine_in_memory_keeps_no_thread_for_its_lease() -> None:
    async with Engine() as engine:
        await engine.execute(chain(passing), 1)
        assert not [thread for thread in threading.enumerate() if thread.name == "beluga-graph-lease"]


def gated() -> Any:
    async def wait(ctx: Any, value: int) -> int:
        await ctx.deps.wait()
        return value

    return chain(wait, name="gated")
