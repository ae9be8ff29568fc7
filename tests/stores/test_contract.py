"""The promises of every store, tested with each of them."""

import pickle
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import stores
from stores import Check, Conflict, Delete, LMDBStore, MemoryStore, Put, Store, StoreClosed


@pytest.fixture(params=["memory", "lmdb"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Store]:
    opened: Store = MemoryStore() if request.param == "memory" else LMDBStore(tmp_path / "s", durability="none")
    yield opened
    opened.close()


def put_all(store: Store, *keys: bytes) -> None:
    store.commit(*(Put(key, b"v" + key) for key in keys))


def keys(store: Store, prefix: bytes = b"", **how: object) -> list[bytes]:
    return [key for key, _ in store.scan(prefix, **how)]


def everything(store: Store) -> dict[bytes, bytes]:
    return dict(store.scan(b""))


def test_a_key_has_the_value_that_was_put_last(store: Store) -> None:
    assert store.get(b"k") is None
    store.commit(Put(b"k", b"1"))
    store.commit(Put(b"k", b"2"))
    assert store.get(b"k") == b"2"


def test_writes_of_one_commit_land_in_their_order(store: Store) -> None:
    store.commit(Put(b"a", b"1"), Delete(b"a"), Put(b"b", b"1"), Put(b"b", b"2"), Delete(b"c"), Put(b"c", b"3"))
    assert everything(store) == {b"b": b"2", b"c": b"3"}


def test_an_absent_key_may_be_deleted(store: Store) -> None:
    put_all(store, b"a")
    store.commit(Delete(b"a"), Delete(b"never"))
    assert everything(store) == {}


def test_a_commit_may_be_empty(store: Store) -> None:
    store.commit()
    assert everything(store) == {}


def test_a_commit_whose_checks_hold_is_written(store: Store) -> None:
    store.commit(Check(b"new", None), Put(b"new", b"1"))
    store.commit(Check(b"new", b"1"), Delete(b"new"))
    assert everything(store) == {}


@pytest.mark.parametrize("expected", [None, b"", b"other"])
def test_a_conflict_names_the_key_and_leaves_nothing(store: Store, expected: bytes | None) -> None:
    put_all(store, b"k", b"old")
    before = everything(store)
    with pytest.raises(Conflict) as caught:
        store.commit(Put(b"new", b"1"), Delete(b"old"), Check(b"old", b"vold"), Check(b"k", expected))
    assert caught.value.key == b"k"
    assert str(caught.value) == ("the store's record b'k' is not what the commit expected: read it again and retry")
    assert everything(store) == before


def test_checks_see_the_state_before_the_commits_own_writes(store: Store) -> None:
    put_all(store, b"k")
    store.commit(Put(b"k", b"2"), Check(b"k", b"vk"), Delete(b"k"), Check(b"k", b"vk"))
    assert store.get(b"k") is None
    with pytest.raises(Conflict):
        store.commit(Put(b"k", b"3"), Check(b"k", b"3"))
    assert store.get(b"k") is None


@pytest.mark.parametrize("key", [b"", b"k" * 512])
def test_a_key_without_bytes_or_with_too_many_is_refused_and_nothing_is_written(store: Store, key: bytes) -> None:
    for op in (Put(key, b"v"), Delete(key), Check(key, None)):
        with pytest.raises(ValueError, match=r"a key has 1 to 511 bytes, not (0|512)"):
            store.commit(Put(b"other", b"v"), op)
    with pytest.raises(ValueError, match="a key has 1 to 511 bytes"):
        store.get(key)
    assert everything(store) == {}


def test_values_other_than_bytes_are_refused_and_nothing_is_written(store: Store) -> None:
    wrong: list[object] = [
        Put("text", b""),
        Put(b"k", "text"),
        Put(b"k", 5),
        Put(bytearray(b"k"), b""),
        (b"k", b"v"),
    ]
    for op in wrong:
        with pytest.raises(TypeError):
            store.commit(Put(b"other", b"v"), op)
    assert everything(store) == {}


def test_the_longest_key_is_found_and_walked_past(store: Store) -> None:
    longest = b"k" * 511
    put_all(store, longest, b"l")
    assert store.get(longest) == b"v" + longest
    assert keys(store) == [longest, b"l"]
    assert keys(store, reverse=True, start=longest) == [longest]
    assert keys(store, b"k" * 512) == []


def test_values_may_be_empty_or_large_and_come_back_as_bytes_of_their_own(store: Store) -> None:
    large = bytearray(b"x" * (1 << 20))
    store.commit(Put(b"empty", b""), Put(b"large", large), Put(b"view", memoryview(large)[:3]))
    large[:] = b"changed"
    assert store.get(b"empty") == b""
    assert store.get(b"large") == b"x" * (1 << 20)
    assert everything(store)[b"view"] == b"xxx"
    assert {type(value) for value in everything(store).values()} == {bytes}
    with pytest.raises(Conflict):
        store.commit(Check(b"empty", None))


def test_a_scan_of_large_values_yields_them_all(store: Store) -> None:
    for i in range(5):
        store.commit(Put(b"%d" % i, b"%d" % i * (1 << 20)))
    assert [value[:1] for _, value in store.scan(b"")] == [b"0", b"1", b"2", b"3", b"4"]


EDGES = [
    b"\x00",
    b"a",
    b"a\x00",
    b"a\xff",
    b"a\xff\xff",
    b"b",
    b"\xfe",
    b"\xff",
    b"\xff\xff",
    b"\xff\xff\x01",
    b"\xff\xff\xff",
]


@pytest.mark.parametrize("prefix", [b"", b"a", b"a\xff", b"b", b"c", b"\xff", b"\xff\xff", b"\xff\xff\xff\xff"])
@pytest.mark.parametrize("reverse", [False, True])
def test_a_scan_yields_the_prefix_from_start_on_in_key_order(store: Store, prefix: bytes, reverse: bool) -> None:
    put_all(store, *EDGES)
    ordered = sorted(EDGES, reverse=reverse)
    for start in (None, b"", b"a\x00\x00", b"c", b"\xff\xff\xff\xff", *EDGES):
        beyond = [k for k in ordered if start is None or (k <= start if reverse else k >= start)]
        expected = [(k, b"v" + k) for k in beyond if k.startswith(prefix)]
        assert list(store.scan(prefix, start=start, reverse=reverse)) == expected
        for limit in (0, 1, 2, 100):
            assert list(store.scan(prefix, start=start, reverse=reverse, limit=limit)) == expected[:limit]


@pytest.mark.parametrize("limit", [255, 256, 257, 511, 512, 513, 1999, 2001])
def test_limits_hold_where_chunks_meet(store: Store, limit: int) -> None:
    put_all(store, *(b"k%05d" % i for i in range(2000)))
    ordered = [b"k%05d" % i for i in range(2000)]
    assert keys(store, b"k", limit=limit) == ordered[:limit]
    assert keys(store, b"k", limit=limit, reverse=True) == ordered[::-1][:limit]


@pytest.mark.parametrize("reverse", [False, True])
def test_commits_between_two_yields_neither_repeat_nor_lose_a_key(store: Store, reverse: bool) -> None:
    stay = [b"k%05d" % i for i in range(0, 2000, 2)]
    put_all(store, *stay)
    seen = []
    for i, (key, _) in enumerate(store.scan(b"k", reverse=reverse)):
        store.commit(Put(b"k%05d" % (2 * i + 1), b"new"), Put(b"j%05d" % i, b"other"), Put(key, b"seen"))
        seen.append(key)
    assert len(seen) == len(set(seen))
    assert seen == sorted(seen, reverse=reverse)
    assert [key for key in seen if key in set(stay)] == sorted(stay, reverse=reverse)


def test_a_scan_may_delete_the_items_that_it_yields(store: Store) -> None:
    put_all(store, *(b"k%05d" % i for i in range(1000)))
    for key, _ in store.scan(b"k"):
        store.commit(Delete(key))
    assert everything(store) == {}


def test_keys_come_in_order_however_they_came_and_went(store: Store) -> None:
    numbers = [i * 7919 % 4001 for i in range(4001)]
    for first in range(0, 4001, 37):
        batch = numbers[first : first + 37]
        store.commit(*(Put(b"%05d" % i, b"") for i in batch), *(Delete(b"%05d" % (i // 2)) for i in batch))
        assert keys(store) == sorted(keys(store))
    assert keys(store) == keys(store, reverse=True)[::-1]
    assert all(store.get(key) == b"" for key in keys(store))


def test_after_close_every_call_raises_and_close_is_idempotent(store: Store) -> None:
    put_all(store, *(b"%04d" % i for i in range(1000)))
    under_way = store.scan(b"")
    next(under_way)
    store.close()
    store.close()
    calls: list[Callable[[], object]] = [
        lambda: store.get(b"k"),
        lambda: store.scan(b""),
        lambda: store.commit(Put(b"k", b"v")),
        store.commit,
        lambda: list(under_way),
    ]
    for call in calls:
        with pytest.raises(StoreClosed, match=r"^store '.*' is closed: open it again$"):
            call()


def test_threads_that_check_and_swap_lose_no_update(store: Store) -> None:
    def count_up(_: int) -> int:
        conflicts = 0
        for _ in range(50):
            while True:
                old = store.get(b"n")
                try:
                    store.commit(Check(b"n", old), Put(b"n", b"%d" % (int(old or b"0") + 1)))
                    break
                except Conflict:
                    conflicts += 1
        return conflicts

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(count_up, range(8)))
    assert store.get(b"n") == b"400"


def test_a_reading_thread_sees_no_half_of_a_commit(store: Store, restless_threads: None) -> None:
    between = [Put(b"m%03d" % i, b"") for i in range(200)]
    store.commit(Put(b"a", b"0"), Put(b"z", b"0"))
    finished = threading.Event()

    def write() -> None:
        for i in range(1, 200):
            store.commit(Put(b"a", b"%d" % i), *between, Put(b"z", b"%d" % i))
        finished.set()

    writer = threading.Thread(target=write)
    writer.start()
    while not finished.is_set():
        first = int(store.get(b"a") or b"")
        assert int(store.get(b"z") or b"") >= first, "what was written with a is not there"
        seen = dict(store.scan(b""))
        assert seen[b"a"] == seen[b"z"]
    writer.join()


def test_only_a_store_on_disk_has_a_folder(store: Store, tmp_path: Path) -> None:
    assert store.folder == (tmp_path / "s" if isinstance(store, LMDBStore) else None)


def test_only_a_store_in_memory_is_private(store: Store) -> None:
    assert store.private is not isinstance(store, LMDBStore)


def test_only_lmdb_stores_load_lmdb() -> None:
    program = """if True:
        import sys, stores
        stores.MemoryStore()
        assert "lmdb" not in sys.modules
        stores.LMDBStore
        assert "lmdb" in sys.modules
    """
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(stores.__file__).parent.parent)


def test_all_exported_names_exist() -> None:
    assert sorted(stores.__all__) == stores.__all__
    assert all(hasattr(stores, name) for name in stores.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'Nothing'"):
        _ = stores.Nothing


@pytest.mark.parametrize(
    "error",
    [
        Conflict(b"k"),
        stores.StoreBusy("p", 5.0),
        StoreClosed("p"),
        stores.StoreDamaged("p", "detail"),
        stores.StoreForked("p"),
        stores.StoreFull("p", "detail"),
        stores.StoreReadOnly("p", "detail"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_errors_survive_pickling(error: stores.StoreError) -> None:
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), str(error), vars(error))
