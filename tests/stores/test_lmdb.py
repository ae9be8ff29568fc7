"""The dangers of a store on disk: other processes, their deaths, full disks, damaged files."""

import os
import signal
import stat
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from pathlib import Path

import lmdb
import pytest

import stores
from stores import (
    Check,
    Delete,
    LMDBStore,
    Put,
    StoreBusy,
    StoreClosed,
    StoreDamaged,
    StoreReadOnly,
    lock_file,
)
from stores import environment as environments

BUSY_S = 0.3  # of the tests that run into it

# Programs of the other processes; each gets the store's path as `path`.
PREAMBLE = """
import os, resource, signal, sys
import lmdb
from stores import *
path = sys.argv[1]

def say(word):
    print(word, flush=True)

def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__
"""
HOLD = """
env = lmdb.open(path)
txn = env.begin(write=True)
txn.put(b"held", b"1")
say("holding")
input()
txn.commit()
say("committed")
input()
"""
OPEN_RAW = "env = lmdb.open(path); say('open'); input(); env.close(); say('closed'); input()"
OPEN_STORE = "store = LMDBStore(path); say('open'); input(); store.close(); say('closed'); input()"


class Child:
    """Another process, which runs `program` and answers line by line."""

    def __init__(self, program: str, path: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-c", PREAMBLE + textwrap.dedent(program), str(path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(stores.__file__).parent.parent,
        )

    def hear(self) -> str:
        return self.process.stdout.readline().strip()

    def poke(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def freeze(self) -> None:
        self.send(signal.SIGSTOP)
        _, status = os.waitpid(self.process.pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def end(self) -> list[str]:
        """Return all it still says, once it has ended well."""
        said = self.process.stdout.read().split()
        assert self.process.wait() == 0
        return said


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def child(path: Path) -> Iterator[Callable[[str], Child]]:
    started: list[Child] = []

    def start(program: str) -> Child:
        started.append(Child(program, path))
        return started[-1]

    yield start
    for each in started:
        each.kill()
        with suppress(BrokenPipeError):
            each.process.stdin.close()
        each.process.stdout.close()


@pytest.fixture
def store(path: Path) -> Iterator[LMDBStore]:
    with closing(LMDBStore(path, durability="none")) as opened:
        yield opened


def wait_until(claim: Callable[[], bool]) -> None:
    until = time.monotonic() + 60
    while not claim():
        assert time.monotonic() < until
        time.sleep(0.005)


def raw(store: LMDBStore) -> lmdb.Environment:
    return store._environment._raw


def writer_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "store-writer"]


# ---- transactions


def test_a_commit_of_any_size_is_one_transaction(store: LMDBStore) -> None:
    for count in (1, 10, 1000):
        before = raw(store).info()["last_txnid"]
        store.commit(Check(b"absent", None), *(Put(b"%d" % i, b"v") for i in range(count)), Delete(b"0"))
        assert raw(store).info()["last_txnid"] == before + 1


def test_a_failed_check_costs_no_transaction_on_disk(store: LMDBStore) -> None:
    before = raw(store).info()["last_txnid"]
    with pytest.raises(stores.Conflict):
        store.commit(Put(b"a", b"1"), Check(b"a", b"1"))
    assert raw(store).info()["last_txnid"] == before


def test_a_paused_scan_keeps_no_old_pages(store: LMDBStore) -> None:
    store.commit(*(Put(b"%05d" % i, b"v") for i in range(1000)))
    paused = store.scan(b"")
    next(paused)
    before = raw(store).info()["last_pgno"]
    for _ in range(300):
        store.commit(Put(b"k", b"v" * 2000))
    assert raw(store).info()["last_pgno"] - before < 20
    assert sum(1 for _ in paused) == 1000


@pytest.mark.parametrize(("durability", "syncs"), [("commit", True), ("batch", True), ("none", False)])
def test_only_durability_none_leaves_out_the_sync(path: Path, durability: str, syncs: bool) -> None:
    with closing(LMDBStore(path, durability=durability)) as store:
        assert raw(store).flags()["sync"] is syncs
        assert raw(store).flags()["metasync"] is True
        assert store.durability == durability


# ---- one environment per path and process


def test_stores_of_one_path_share_an_environment_until_the_last_one_closes(path: Path, store: LMDBStore) -> None:
    (path.parent / "link").symlink_to(path)
    second = LMDBStore(path.parent / "link", durability="none")
    assert second.path == store.path == str(path)
    second.commit(Put(b"k", b"v"))
    second.close()
    second.close()
    with pytest.raises(StoreClosed):
        second.get(b"k")
    assert store.get(b"k") == b"v"
    store.close()
    with closing(lmdb.open(str(path))):  # refused if it were still open here
        pass


def test_one_open_path_has_one_durability(path: Path, store: LMDBStore) -> None:
    with pytest.raises(ValueError, match="is open in this process with durability 'none', not 'commit': use that, or"):
        LMDBStore(path)
    store.close()
    LMDBStore(path).close()


def test_a_path_that_this_process_opened_by_lmdb_itself_is_refused(path: Path) -> None:
    with (
        closing(lmdb.open(str(path))),
        pytest.raises(ValueError, match=r"already open in this process\. LMDB"),
    ):
        LMDBStore(path)


def test_a_store_deleted_while_open_and_created_again_is_a_new_one(path: Path, store: LMDBStore) -> None:
    store.commit(Put(b"k", b"old"))
    path.rename(path.parent / "moved")
    with closing(LMDBStore(path)) as anew:
        assert anew.get(b"k") is None
        store.close()
        anew.commit(Put(b"k", b"new"))
        with closing(LMDBStore(path)) as again:
            assert again.get(b"k") == b"new"


@pytest.mark.parametrize("wrong", [{"durability": "sync"}, {"map_size": 0}, {"busy_timeout": 0}])
def test_meaningless_arguments_are_refused(path: Path, wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LMDBStore(path, **wrong)
    assert not path.exists()


def test_threads_that_open_and_close_one_path_do_not_disturb_each_other(path: Path) -> None:
    def come_and_go(number: int) -> None:
        for i in range(30):
            with closing(LMDBStore(path, durability="none")) as store:
                store.commit(Put(b"%d-%d" % (number, i), b"v"))
                assert store.get(b"%d-%d" % (number, i)) == b"v"

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(come_and_go, range(8)))
    with closing(LMDBStore(path)) as store:
        assert sum(1 for _ in store.scan(b"")) == 240


# ---- several processes


@pytest.mark.parametrize("program", [OPEN_RAW, OPEN_STORE], ids=["raw", "store"])
@pytest.mark.parametrize("comes_first", [True, False])
def test_a_store_is_shared_while_another_process_has_it_open(
    path: Path, child: Callable[[str], Child], program: str, comes_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lock_file, "FRESH_S", -1.0)  # the other process may be gone before an answer is old
    if comes_first:
        path.mkdir()
        other = child(program)
        assert other.hear() == "open"
    with closing(LMDBStore(path)) as store:
        if not comes_first:
            assert store.shared is False
            other = child(program)
            assert other.hear() == "open"
        assert store.shared is True
        store.commit(Put(b"k", b"v"))
        other.poke()
        assert other.hear() == "closed"
        assert store.shared is False
    with pytest.raises(StoreClosed):
        _ = store.shared


def test_a_killed_process_shares_nothing(store: LMDBStore, child: Callable[[str], Child]) -> None:
    other = child(OPEN_STORE)
    assert other.hear() == "open"
    other.kill()
    assert store.shared is False


def test_processes_that_check_and_swap_lose_no_update(store: LMDBStore, child: Callable[[str], Child]) -> None:
    count_up = """
    store = LMDBStore(path, durability="none")
    say("open"); input()
    left = 200
    while left:
        old = store.get(b"n")
        try:
            store.commit(Check(b"n", old), Put(b"n", b"%d" % (int(old or b"0") + 1)))
            left -= 1
        except Conflict:
            pass
    store.close()
    """
    children = [child(count_up) for _ in range(4)]
    assert [each.hear() for each in children] == ["open"] * 4
    for each in children:
        each.poke()
    for each in children:
        each.end()
    assert store.get(b"n") == b"800"


def test_a_process_killed_inside_a_commit_leaves_nothing_and_blocks_no_other(
    store: LMDBStore, child: Callable[[str], Child]
) -> None:
    holder = child(HOLD)
    assert holder.hear() == "holding"
    holder.kill()
    store.commit(Check(b"held", None), Put(b"k", b"v"))
    assert list(store.scan(b"")) == [(b"k", b"v")]


def test_a_commit_waits_for_one_of_another_process(path: Path, child: Callable[[str], Child]) -> None:
    with closing(LMDBStore(path)) as store, ThreadPoolExecutor(1) as pool:
        holder = child(HOLD)
        assert holder.hear() == "holding"
        waiting = pool.submit(store.commit, Check(b"held", b"1"), Put(b"k", b"v"))
        wait_until(lambda: store._environment._handed_over is not None)
        holder.poke()
        waiting.result()
        assert store.get(b"k") == b"v"


@pytest.mark.parametrize("fate", ["wakes", "dies"])
def test_behind_a_frozen_commit_others_are_busy_until_it_wakes_or_dies(
    store: LMDBStore, child: Callable[[str], Child], fate: str
) -> None:
    store.commit(Put(b"before", b"1"))
    holder = child(HOLD)
    assert holder.hear() == "holding"
    holder.freeze()

    impatient = LMDBStore(store.path, durability="none", busy_timeout=BUSY_S)
    for attempt in range(3):
        began = time.monotonic()  # only a lower bound is checked: a busy machine may take longer
        with pytest.raises(StoreBusy) as caught:
            impatient.commit(Put(b"abandoned%d" % attempt, b"1"))
        assert time.monotonic() - began >= BUSY_S
        assert (caught.value.path, caught.value.seconds) == (store.path, BUSY_S)
    with ThreadPoolExecutor(4) as pool:
        for waiting in [pool.submit(impatient.commit, Put(b"abandoned", b"1")) for _ in range(4)]:
            assert isinstance(waiting.exception(), StoreBusy)
    impatient.close()
    assert len(writer_threads()) == 1
    assert dict(store.scan(b"")) == {b"before": b"1"}, "reading goes on"

    if fate == "wakes":
        holder.send(signal.SIGCONT)
        holder.poke()
        assert holder.hear() == "committed"
    else:
        holder.kill()
    wait_until(lambda: not store._environment._stuck())
    store.commit(Put(b"after", b"1"))
    assert set(dict(store.scan(b""))) == {b"before", b"after"} | ({b"held"} if fate == "wakes" else set())


@pytest.mark.parametrize("reopened", [False, True])
def test_a_store_closes_at_once_even_while_its_begin_is_stuck(
    path: Path, child: Callable[[str], Child], reopened: bool
) -> None:
    store = LMDBStore(path, busy_timeout=BUSY_S)
    holder = child(HOLD)
    assert holder.hear() == "holding"
    holder.freeze()
    with pytest.raises(StoreBusy):
        store.commit(Put(b"abandoned", b"1"))
    store.close()
    with pytest.raises(StoreClosed):
        store.get(b"k")
    again = LMDBStore(path) if reopened else None
    holder.kill()
    if again is None:
        wait_until(lambda: str(path) not in environments._registry)
        again = LMDBStore(path)
    wait_until(lambda: not again._environment._stuck())
    again.commit(Put(b"k", b"v"))
    assert list(again.scan(b"")) == [(b"k", b"v")]
    again.close()
    wait_until(lambda: not writer_threads())


def test_a_process_can_end_while_its_begin_is_stuck(store: LMDBStore, child: Callable[[str], Child]) -> None:
    holder = child(HOLD)
    assert holder.hear() == "holding"
    busy = child("""
    store = LMDBStore(path, durability="none", busy_timeout=0.1)
    say(outcome(lambda: store.commit(Put(b"abandoned", b"1"))))
    """)
    assert busy.end() == ["StoreBusy"]
    holder.kill()
    store.commit(Put(b"k", b"v"))
    assert list(store.scan(b"")) == [(b"k", b"v")]


def test_slots_of_killed_readers_are_freed(path: Path, child: Callable[[str], Child]) -> None:
    read = "env = lmdb.open(path, max_readers=4); txn = env.begin(); txn.get(b'k'); say('reading'); input()"
    path.mkdir()
    readers = [child(read) for _ in range(3)]
    assert [each.hear() for each in readers] == ["reading"] * 3
    with closing(LMDBStore(path, durability="none")) as store:
        readers += [child(read)]  # the last slot
        assert readers[-1].hear() == "reading"
        for each in readers[1:]:
            each.kill()
        store.commit(Put(b"k", b"v"))
        assert store.get(b"k") == b"v"
        assert list(store.scan(b"")) == [(b"k", b"v")]


def test_killed_readers_are_cleared_at_open(path: Path, child: Callable[[str], Child]) -> None:
    path.mkdir()
    living = child(OPEN_RAW)
    assert living.hear() == "open"
    reader = child("env = lmdb.open(path); txn = env.begin(); txn.get(b'k'); say('reading'); input()")
    assert reader.hear() == "reading"
    reader.kill()
    with closing(LMDBStore(path)) as store:
        assert raw(store).reader_check() == 0
        assert str(reader.process.pid) not in raw(store).readers()


# ---- growth


def test_processes_that_outgrow_a_small_map_lose_nothing(path: Path, child: Callable[[str], Child]) -> None:
    fill = """
    store = LMDBStore(path, durability="none", map_size=1 << 16)
    say("open"); input()
    for i in range(300):
        key = b"%d-%05d" % (os.getpid(), i)
        store.commit(Check(key, None), Put(key, b"v" * 4000))
        assert store.get(key) == b"v" * 4000
    store.close()
    """
    children = [child(fill) for _ in range(4)]
    assert [each.hear() for each in children] == ["open"] * 4
    for each in children:
        each.poke()
    for each in children:
        each.end()
    with closing(LMDBStore(path, map_size=1 << 16)) as store:
        assert sum(len(value) for _, value in store.scan(b"")) == 4 * 300 * 4000


def test_one_commit_may_be_many_times_the_map(path: Path) -> None:
    with closing(LMDBStore(path, durability="none", map_size=1 << 16)) as store:
        store.commit(Put(b"k", b"v" * (20 << 20)))
        assert store.get(b"k") == b"v" * (20 << 20)


def test_a_read_adopts_a_map_that_another_process_has_grown(path: Path, child: Callable[[str], Child]) -> None:
    with closing(LMDBStore(path, durability="none", map_size=1 << 16)) as store:
        store.commit(*(Put(b"a%04d" % i, b"v") for i in range(300)))
        under_way = store.scan(b"")
        next(under_way)
        other = child("""
        store = LMDBStore(path, durability="none", map_size=1 << 16)
        store.commit(Put(b"b", b"v" * (1 << 20)))
        store.close()
        """)
        other.end()
        assert len(list(under_way)) == 300
        assert store.get(b"b") == b"v" * (1 << 20)


def test_threads_may_read_while_the_map_grows(path: Path, restless_threads: None) -> None:
    with (
        closing(LMDBStore(path, durability="none", map_size=1 << 16)) as store,
        ThreadPoolExecutor(4) as pool,
    ):
        store.commit(*(Put(b"k%03d" % i, b"v") for i in range(250)))
        finished = threading.Event()

        def read() -> None:
            while not finished.is_set():
                assert store.get(b"k000") == b"v"
                assert sum(1 for _ in store.scan(b"k")) == 250

        reading = [pool.submit(read) for _ in range(3)]
        for i in range(9):
            store.commit(Put(b"l", b"v" * (40_000 << i)))
        finished.set()
        for each in reading:
            each.result()


def test_without_address_space_to_grow_a_store_is_full_but_usable(child: Callable[[str], Child]) -> None:
    other = child("""
    store = LMDBStore(path, durability="none", map_size=64 << 20)
    store.commit(Put(b"k", b"v"))
    used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), resource.RLIM_INFINITY))
    say(outcome(lambda: [store.commit(Put(b"%d" % i, b"v" * (1 << 20))) for i in range(200)]))
    say(store.get(b"k").decode())
    store.commit(Delete(b"0"))
    say(store.get(b"0"))
    """)
    assert other.end() == ["StoreFull", "v", "None"]


# ---- forks


def test_a_forked_child_can_use_neither_the_store_nor_its_path(store: LMDBStore, child: Callable[[str], Child]) -> None:
    other = child("""
    store = LMDBStore(path, durability="none")
    store.commit(Put(b"k", b"v"))
    scan = store.scan(b"")
    if os.fork() == 0:
        for call in (
            lambda: store.get(b"k"),
            lambda: store.commit(Put(b"k", b"child")),
            lambda: list(scan),
            lambda: store.shared,
            lambda: LMDBStore(path, durability="none"),
            store.close,
            lambda: store.get(b"k"),
            lambda: LMDBStore(path, durability="none"),
        ):
            say(outcome(call))
        sys.exit()
    os.wait()
    store.commit(Check(b"k", b"v"), Put(b"k", b"parent"))
    say(store.get(b"k").decode())
    store.close()
    if os.fork() == 0:
        say(LMDBStore(path).get(b"k").decode())
        sys.exit()
    os.wait()
    """)
    refused = ["StoreForked"] * 5 + ["None", "StoreClosed", "StoreForked"]
    assert other.end() == [*refused, "parent", "parent"]
    assert store.get(b"k") == b"parent"


def test_a_child_forked_in_the_middle_of_another_threads_commit_does_not_hang(
    child: Callable[[str], Child],
) -> None:
    other = child("""
    store = LMDBStore(path, durability="none")
    store._environment._turn.acquire()
    store._environment._reads.acquire()
    if os.fork() == 0:
        say(outcome(lambda: store.commit(Put(b"k", b"v"))))
        say(outcome(lambda: store.get(b"k")))
        sys.exit()
    os.wait()
    """)
    assert other.end() == ["StoreForked"] * 2


# ---- files


def test_the_folder_and_its_files_are_the_owners_alone(path: Path) -> None:
    with closing(LMDBStore(path / "a" / "b")):
        assert stat.S_IMODE((path / "a" / "b").stat().st_mode) == 0o700
        for name in ("data.mdb", "lock.mdb"):
            assert stat.S_IMODE((path / "a" / "b" / name).stat().st_mode) == 0o600


def test_a_relative_path_is_made_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with closing(LMDBStore("here")) as store:
        assert store.path == str(tmp_path / "here")


# RLIMIT_FSIZE simulates a full disk without mounts or privileges. The second limit cuts a page in two.
@pytest.mark.parametrize("limit", [1 << 20, (1 << 20) + 1000])
@pytest.mark.parametrize("size", [300, 100_000])
def test_a_full_disk_is_reported_and_loses_nothing(child: Callable[[str], Child], limit: int, size: int) -> None:
    other = child(f"""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LMDBStore(path, durability="none")
    resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
    def fill():
        for i in range(100_000):
            fill.last = i
            store.commit(Put(b"%06d" % i, b"v" * {size}), Put(b"last", b"%06d" % i))
    for _ in range(2):
        say(outcome(fill))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    last = int(store.get(b"last"))
    say(last > 3 and sum(1 for _ in store.scan(b"0")) == last + 1)
    store.commit(Put(b"more", b"v" * 100_000))
    store.close()
    say(LMDBStore(path).get(b"more") is not None)
    """)
    assert other.end() == ["StoreFull", "StoreFull", "True", "True"]


def test_no_address_space_for_the_map_is_reported(child: Callable[[str], Child]) -> None:
    other = child("""
    resource.setrlimit(resource.RLIMIT_AS, (4 << 30, resource.RLIM_INFINITY))
    say(outcome(lambda: LMDBStore(path)))
    say(LMDBStore(path, map_size=1 << 20).get(b"k"))
    """)
    assert other.end() == ["StoreFull", "None"]


# Root may write everywhere, so the other process gives its rights up.
@pytest.mark.parametrize("exists", [True, False])
def test_a_path_without_write_permission_is_reported(path: Path, child: Callable[[str], Child], exists: bool) -> None:
    path.mkdir()
    (path / "inner").mkdir(mode=0o755)
    if exists:
        LMDBStore(path / "inner").close()
        (path / "inner" / "data.mdb").chmod(0o444)
    (path / "inner").chmod(0o555)
    other = child("""
    LMDBStore
    os.chdir(path)
    if os.geteuid() == 0:
        os.setuid(65534)
    say(outcome(lambda: LMDBStore(os.path.join(path, "inner"))))
    say(outcome(lambda: LMDBStore(os.path.join(path, "inner", "new"))))
    """)
    assert other.end() == ["StoreReadOnly"] * 2


def test_a_path_that_is_a_file_is_refused_and_the_file_kept(path: Path) -> None:
    path.write_text("precious")
    with pytest.raises(StoreReadOnly) as caught:
        LMDBStore(path)
    assert str(caught.value) == (
        f"store {str(path)!r} cannot be written: it is a file, and a store is a folder; "
        "give write permission or another path"
    )
    with pytest.raises(StoreReadOnly):
        LMDBStore(path / "below")
    assert path.read_text() == "precious"


def test_a_folder_in_the_place_of_the_file_is_reported(path: Path) -> None:
    (path / "data.mdb").mkdir(parents=True)
    with pytest.raises(StoreReadOnly, match="Is a directory"):
        LMDBStore(path)


@pytest.mark.parametrize("content", [b"abc", b"garbage!" * 4096])
def test_garbage_is_damage_and_is_not_touched(path: Path, content: bytes) -> None:
    path.mkdir()
    (path / "data.mdb").write_bytes(content)
    for _ in range(2):
        with pytest.raises(StoreDamaged, match=r"is damaged: .*MDB_INVALID.*; restore a copy of it$"):
            LMDBStore(path)
    assert (path / "data.mdb").read_bytes() == content


@pytest.mark.parametrize("kept", [0.01, 0.2, 0.7, 0.99])
def test_a_file_that_was_cut_off_is_damage_and_ends_no_reader(
    path: Path, child: Callable[[str], Child], kept: float
) -> None:
    with closing(LMDBStore(path, durability="none")) as store:
        store.commit(*(Put(b"%06d" % i, b"v" * 300) for i in range(10_000)))
    os.truncate(path / "data.mdb", int((path / "data.mdb").stat().st_size * kept))
    reader = child("""
    for _ in range(2):
        say(outcome(lambda: sum(1 for _ in LMDBStore(path).scan(b""))))
    """)
    assert reader.end() == ["StoreDamaged", "StoreDamaged"]


def test_a_file_that_lacks_only_free_pages_is_sound(path: Path) -> None:
    with closing(LMDBStore(path, durability="none")) as store:
        store.commit(Put(b"large", b"v" * (1 << 20)))
        store.commit(Delete(b"large"))
        for _ in range(10):  # moves the used pages into the free ones
            store.commit(Put(b"k", b"v"))
    os.truncate(path / "data.mdb", (path / "data.mdb").stat().st_size - (1 << 12))
    with closing(LMDBStore(path, durability="none")) as store:
        assert dict(store.scan(b"")) == {b"k": b"v"}
        store.commit(Put(b"large", b"v" * (2 << 20)))
        assert store.get(b"large") == b"v" * (2 << 20)
