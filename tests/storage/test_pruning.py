"""Pruning without an engine: how much it reads at a time, and which records it deletes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from beluga_graph.storage.committer import Committer
from beluga_graph.storage.keys import Keys, Prefix
from beluga_graph.storage.leases import Lease, Owner
from beluga_graph.storage.pruning import finish_deletion, prune
from beluga_graph.storage.records import RunRecord, encode_record
from stores import MemoryStore, Put

MANY = 600


class CountedStore(MemoryStore):
    """Counts the run records that are read."""

    def __init__(self) -> None:
        super().__init__()
        self.read = 0

    def scan(self, prefix: bytes, **options: object) -> Iterator[tuple[bytes, bytes]]:
        for found in super().scan(prefix, **options):  # type: ignore[arg-type]
            self.read += prefix == Prefix.RUN
            yield found


@pytest.fixture
def store() -> CountedStore:
    store = CountedStore()
    for number in range(MANY):
        run_id = f"run-{number}"
        keys = Keys(run_id)
        record = RunRecord(run_id=run_id, flow="f", plan="p", status="completed", created_ms=1, updated_ms=number)
        store.commit(Put(keys.head, record.encode(keys.head)), Put(keys.lease, Lease(b"", 1).encode(keys.lease)))
    return store


async def test_a_dry_run_yields_each_run_as_it_reads_it_and_changes_nothing(store: CountedStore) -> None:
    before = [*store.scan(b"")]
    committer, owner = Committer(store, "commit"), Owner(store)
    read = []
    async for record in prune(committer, owner, 0.001, ["completed"], now_ms=MANY, dry_run=True):
        assert record.updated_ms <= MANY - 1
        read.append(store.read)
    assert read == sorted(read)
    assert (read[0] < MANY // 10, len(read)) == (True, MANY)
    assert [*store.scan(b"")] == before


async def test_only_runs_of_the_status_and_age_are_deleted(store: CountedStore) -> None:
    committer, owner = Committer(store, "commit"), Owner(store)
    found = [run.updated_ms async for run in prune(committer, owner, 0.1, ["completed"], now_ms=200, dry_run=False)]
    assert sorted(found) == [*range(101)]
    assert sum(1 for _ in store.scan(Prefix.RUN)) == MANY - 101
    assert [*store.scan(Prefix.TOMBSTONE)] == []


async def test_a_deletion_that_was_interrupted_is_finished(store: CountedStore) -> None:
    keys = Keys("gone")
    step = encode_record(keys.step(1), (1, "RunStarted", "", 0, (), (), ()))
    store.commit(
        Put(keys.tombstone, encode_record(keys.tombstone, ("gone", bytes(16)))),
        *(Put(keys.step(seq), step) for seq in range(1, 200)),
        Put(keys.marks(bytes(32))[0], b"\x01"),
        Put(keys.marks(bytes(32))[1], b"\x01"),
        Put(Prefix.VALUE + bytes(32), b"shared"),
    )
    committer, owner = Committer(store, "commit"), Owner(store)
    await finish_deletion(committer, "gone")
    assert kinds_but_runs(store) == [Prefix.GC_CANDIDATE, Prefix.VALUE]
    assert [run async for run in prune(committer, owner, 1, ["failed"], now_ms=0, dry_run=False)] == []
    assert kinds_but_runs(store) == []  # each prune collects the values that no run refers to


def kinds_but_runs(store: CountedStore) -> list[bytes]:
    return [key[:1] for key, _ in store.scan(b"") if key[:1] not in (Prefix.RUN, Prefix.LEASE)]
