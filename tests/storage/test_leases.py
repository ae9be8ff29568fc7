"""Leases without an engine: which leases are free, and which owners are alive."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.storage import leases
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.leases import (
    LEASE_S,
    Lease,
    Owner,
    is_driven_elsewhere,
    is_held_elsewhere,
    owner_is_alive,
    read_free_lease,
)
from beluga_graph.storage.records import decode_record, encode_record
from stores import Check, MemoryStore, Put, StoreBusy
from stores.base import Op

RUN = "r"
KEYS = Keys(RUN)
STRANGER = bytes(range(16))
DAY_MS = 86_400_000


class SharedStore:
    """A store in memory that is not private to this process, with a folder for lock files, and commits that fail."""

    private = False
    shared = False

    def __init__(self, folder: Path | None = None) -> None:
        self.folder = folder
        self.error: Exception | None = None
        self._records = MemoryStore()
        self.get, self.scan, self.close = self._records.get, self._records.scan, self._records.close

    def commit(self, *ops: Op) -> None:
        if self.error is not None:
            raise self.error
        self._records.commit(*ops)


def put_owner(store: Any, owner: bytes, *, machine: str = "elsewhere", expires_in_ms: int = 5_000) -> bytes:
    key = Prefix.OWNER + owner
    record = encode_record(key, (machine, "any name", int(time.time() * 1000) + expires_in_ms))
    store.commit(Put(key, record))
    return record


def put_lease(store: Any, owner: bytes, epoch: int = 3) -> bytes:
    record = Lease(owner, epoch).encode(KEYS.lease)
    store.commit(Put(KEYS.lease, record))
    return record


@pytest.fixture
def store(tmp_path: Path) -> SharedStore:
    return SharedStore(tmp_path)


@pytest.fixture
def own(store: SharedStore) -> Iterator[Owner]:
    owner = Owner(store)
    owner.begin()
    yield owner
    store.error = None
    owner.end()


def test_a_run_without_a_lease_is_free_at_epoch_zero(store: SharedStore, own: Owner) -> None:
    assert read_free_lease(store, own, RUN) == (Lease(b"", 0), None, None)
    assert not is_driven_elsewhere(store, KEYS.run_key, own)


@pytest.mark.parametrize("is_own", [False, True], ids=["released", "own"])
def test_a_lease_that_was_released_or_is_our_own_is_free(store: SharedStore, own: Owner, is_own: bool) -> None:
    holder = own.id if is_own else b""
    record = put_lease(store, holder)
    assert read_free_lease(store, own, RUN) == (Lease(holder, 3), record, None)


def test_the_lease_of_a_living_owner_is_not_free(store: SharedStore, own: Owner) -> None:
    put_lease(store, STRANGER)
    put_owner(store, STRANGER)
    assert read_free_lease(store, own, RUN) is None
    assert is_driven_elsewhere(store, KEYS.run_key, own)


@pytest.mark.parametrize("was_recorded", [False, True], ids=["without a record", "expired"])
def test_the_lease_of_a_dead_owner_is_free_on_condition_that_it_stays_dead(
    store: SharedStore, own: Owner, was_recorded: bool
) -> None:
    record = put_lease(store, STRANGER)
    owner_record = put_owner(store, STRANGER, expires_in_ms=-1) if was_recorded else None
    free = read_free_lease(store, own, RUN)
    assert free == (Lease(STRANGER, 3), record, Check(Prefix.OWNER + STRANGER, owner_record))


def test_the_owner_is_read_before_it_is_judged(own: Owner, store: SharedStore) -> None:
    put_lease(store, STRANGER)
    dead = put_owner(store, STRANGER, expires_in_ms=-1)
    reads: list[bytes] = []
    get = store.get

    def renewed_after_the_first_read(key: bytes) -> bytes | None:
        found = get(key)
        if key[:1] == Prefix.OWNER:
            reads.append(key)
            put_owner(store, STRANGER, expires_in_ms=-1 if len(reads) > 1 else -2)
        return found

    store.get = renewed_after_the_first_read  # type: ignore[method-assign]
    free = read_free_lease(store, own, RUN)
    assert free is not None
    assert free.dead == Check(Prefix.OWNER + STRANGER, dead)  # so the commit is refused


def test_a_damaged_lease_raises_and_a_malformed_owner_keeps_no_run(store: SharedStore, own: Owner) -> None:
    put_lease(store, STRANGER)
    put_owner(store, STRANGER, expires_in_ms=DAY_MS * 2)  # no owner writes this
    assert not owner_is_alive(store, STRANGER, own.now_ms())
    assert read_free_lease(store, own, RUN) is not None
    store.commit(Put(KEYS.lease, b"not a record"))
    with pytest.raises(DamagedRecord):
        read_free_lease(store, own, RUN)


def test_an_owner_of_this_machine_is_alive_only_while_its_file_is_locked(store: SharedStore, tmp_path: Path) -> None:
    first, second = Owner(store), Owner(store)
    first.begin()
    second.begin()
    lease = Lease(first.id, 1)
    assert is_held_elsewhere(store, lease, second)
    assert not is_held_elsewhere(store, lease, first)
    (tmp_path / f"owner-{first.id.hex()}.lock").unlink()
    assert not is_held_elsewhere(store, lease, second)
    first.end()
    second.end()
    assert [*store.scan(Prefix.OWNER)] == []
    assert [*tmp_path.iterdir()] == []


def test_in_a_private_store_the_process_knows_which_owners_live() -> None:
    store = MemoryStore()
    owner = Owner(store)
    owner.begin()
    put_owner(store, STRANGER, machine=leases._machine())
    assert owner_is_alive(store, owner.id, 0)
    assert not owner_is_alive(store, STRANGER, 0)
    owner.end()
    assert not owner_is_alive(store, owner.id, 0)


def test_a_beginning_owner_deletes_the_dead_of_this_machine_and_others_after_a_day(store: SharedStore) -> None:
    here, expired, old, living, malformed = (bytes([number]) * 16 for number in range(5))
    put_owner(store, here, machine=leases._machine())  # its file is not locked
    put_owner(store, expired, expires_in_ms=-DAY_MS // 2)
    put_owner(store, old, expires_in_ms=-DAY_MS - 1)
    put_owner(store, living)
    put_owner(store, malformed, expires_in_ms=DAY_MS * 2)
    owner = Owner(store)
    owner.begin()
    assert {key[1:] for key, _ in store.scan(Prefix.OWNER)} == {expired, living, malformed, owner.id}
    owner.end()


def test_a_store_that_refuses_the_first_record_leaves_nothing_behind(store: SharedStore, tmp_path: Path) -> None:
    owner = Owner(store)
    store.error = StoreBusy("x", 5)
    with pytest.raises(StoreBusy):
        owner.begin()
    assert not owner.begun
    assert [*tmp_path.iterdir()] == []
    store.error = None
    owner.begin()
    owner.begin()  # idempotent
    assert owner.begun
    owner.end()


def test_a_renewal_within_half_a_lease_keeps_the_term_and_a_later_one_begins_another(
    store: SharedStore, own: Owner, monkeypatch: pytest.MonkeyPatch
) -> None:
    term = own.term
    assert term is not None
    own.renew()
    assert own.term == term
    machine, _, expires_ms = decode_record(own.key, store.get(own.key) or b"")
    assert machine == leases._machine()
    assert 0 < expires_ms - own.now_ms() <= LEASE_S * 1000
    since_s, since_ms = own._renewed
    monkeypatch.setattr(own, "_renewed", (since_s - LEASE_S, since_ms))  # as after a pause
    assert own.term is None
    own.renew()
    assert own.term == term + 1
