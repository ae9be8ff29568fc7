"""Compaction: the file shrinks and keeps its records, no process is overtaken, and a crash leaves either file."""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest

import stores
from stores import Check, Delete, LMDBStore, Put, StoreBusy, StoreClosed, StoreGone, StoreInUse, rewriting

PREAMBLE = """
import os, signal, sys, time
import lmdb
from stores import *
from stores import environment, files, lock_file, rewriting
path = sys.argv[1]

def say(word):
    print(word, flush=True)

def outcome(call):
    try:
        return call()
    except Exception as error:
        return type(error).__name__
"""


class Child:
    """Another process, which runs `program` on a path and answers line by line."""

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

    def end(self) -> list[str]:
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
        each.process.kill()
        each.process.wait()
        each.process.stdin.close()
        each.process.stdout.close()


def fill(path: Path, *, steps: int = 400) -> dict[bytes, bytes]:
    """Make a store of which most records are deleted again; return the others."""
    with closing(LMDBStore(path, durability="none")) as store:
        for i in range(steps):
            store.commit(Put(b"%06d" % i, b"v" * 9_000), Put(b"kept-%06d" % i, b"%d" % i))
        store.commit(*(Delete(b"%06d" % i) for i in range(steps)))
        return dict(store.scan(b""))


def size(path: Path) -> int:
    return (path / "data.mdb").stat().st_size


def held(path: Path) -> dict[bytes, bytes]:
    with closing(LMDBStore(path)) as store:
        return dict(store.scan(b""))


@pytest.mark.parametrize("durability", ["commit", "none"])
def test_the_file_shrinks_and_holds_the_same(path: Path, durability: str) -> None:
    kept = fill(path)
    before = size(path)
    with closing(LMDBStore(path, durability=durability)) as store:
        assert store.compact() == (before, size(path))
        assert size(path) < before / 10
        assert dict(store.scan(b"")) == kept
        assert store.shared is False
        store.commit(Check(b"kept-000001", b"1"), Put(b"more", b"v" * (4 << 20)))
    assert held(path) == kept | {b"more": b"v" * (4 << 20)}
    assert sorted(item.name for item in path.iterdir()) == ["data.mdb", "lock.mdb"]
    assert (path / "data.mdb").stat().st_mode & 0o777 == 0o600


def test_a_store_may_be_compacted_again_and_an_empty_one_too(path: Path) -> None:
    with closing(LMDBStore(path)) as store:
        for number in range(5):
            store.compact()
            store.commit(Put(b"%d" % number, b"v" * 50_000))
        for number in range(4):
            store.commit(Delete(b"%d" % number))
        assert store.compact()[1] < 100_000
        assert dict(store.scan(b"")) == {b"4": b"v" * 50_000}


def test_a_map_that_had_grown_stays_as_large(path: Path) -> None:
    with closing(LMDBStore(path, durability="none", map_size=1 << 16)) as store:
        store.commit(Put(b"k", b"v" * (4 << 20)))
        store.commit(Delete(b"k"))
        store.compact()
        store.commit(Put(b"k", b"w" * (8 << 20)))
        assert store.get(b"k") == b"w" * (8 << 20)


@pytest.mark.parametrize("program", ["env = lmdb.open(path)", "store = LMDBStore(path)"], ids=["raw", "store"])
def test_a_compaction_is_refused_while_another_process_has_the_store(
    path: Path, child: Callable[[str], Child], program: str
) -> None:
    kept, before = fill(path), size(path)
    other = child(f"{program}; say('open'); input(); say('closed'); os._exit(0)")
    assert other.hear() == "open"
    with closing(LMDBStore(path)) as store:
        with pytest.raises(StoreInUse) as caught:
            store.compact()
        assert str(caught.value) == (
            f"store {str(path)!r} is in use: another process has it open; try again once that has ended"
        )
        assert isinstance(caught.value, StoreBusy)
        assert store.shared is True
        store.commit(Put(b"more", b"v"))
        assert size(path) == before
        other.poke()
        assert other.end() == ["closed"]
        store.compact()
        assert dict(store.scan(b"")) == kept | {b"more": b"v"}


def test_a_refusal_leaves_the_store_seen_as_open(path: Path, child: Callable[[str], Child]) -> None:
    """A lock that is asked for in vain, or given back, must not take LMDB's own with it."""
    fill(path)
    first = child("store = LMDBStore(path); say('open'); input(); say(outcome(store.compact)); input()")
    assert first.hear() == "open"
    with closing(LMDBStore(path)) as store:
        first.poke()
        assert first.hear() == "StoreInUse"
        assert store.shared is True
        with pytest.raises(StoreInUse):
            store.compact()


def test_a_compaction_is_refused_while_this_process_has_the_store_twice(path: Path) -> None:
    with closing(LMDBStore(path)) as store:
        with closing(LMDBStore(path)), pytest.raises(StoreInUse, match="this process has opened it more than once"):
            store.compact()
        store.compact()
    with pytest.raises(StoreClosed):
        store.compact()


def test_an_open_during_a_compaction_waits_and_gets_the_new_file(path: Path, child: Callable[[str], Child]) -> None:
    kept = fill(path)
    compacting = child("""
    sync = rewriting._sync
    def held(file):
        say("copied"); input(); sync(file)
    rewriting._sync = held
    store = LMDBStore(path)
    store.compact()
    say("compacted"); input()
    say(len(dict(store.scan(b"new"))))
    """)
    assert compacting.hear() == "copied"
    opening = child("""
    say("opening")
    store = LMDBStore(path)
    say(len(dict(store.scan(b"kept"))))
    store.commit(Put(b"new", b"v"))
    say("written"); input()
    """)
    assert opening.hear() == "opening"
    compacting.poke()
    assert compacting.hear() == "copied"  # the folder, after the rename
    compacting.poke()
    assert compacting.hear() == "compacted"
    assert opening.hear() == str(len(kept))
    assert opening.hear() == "written"
    compacting.poke()
    assert compacting.end() == ["1"]
    opening.poke()
    assert opening.end() == []
    assert held(path) == kept | {b"new": b"v"}


@pytest.mark.parametrize("first", ["the open", "the compaction", "either"])
def test_lmdb_itself_never_writes_with_its_knowledge_of_the_old_file(
    path: Path, child: Callable[[str], Child], first: str
) -> None:
    """An open without us waits for LMDB's own lock. It is refused, or comes after the new file has its lock file."""
    kept = fill(path)
    compacting = child("""
    sync, open_files = rewriting._sync, files.open_files
    def held(call):
        def after_the_word(*args, **options):
            say("held"); input(); return call(*args, **options)
        return after_the_word
    store = LMDBStore(path)
    rewriting._sync, files.open_files = held(sync), held(open_files)
    say(outcome(lambda: store.compact() and "compacted"))
    """)
    assert compacting.hear() == "held"  # has the copy
    opening = child("""
    say("opening")
    def write():
        with lmdb.open(path) as env, env.begin(write=True) as txn:
            txn.put(b"new", b"v")
        return "written"
    say(outcome(write))
    """)
    assert opening.hear() == "opening"
    wait_until_it_waits_for_a_lock(opening.process.pid)
    compacting.poke()
    assert compacting.hear() == "held"  # has renamed it
    if first == "the compaction":
        opening.process.send_signal(signal.SIGSTOP)
        os.waitpid(opening.process.pid, os.WUNTRACED)  # it has stopped
    compacting.poke()
    if first != "the open":
        compacting.poke()  # it need not halt at the next word
    assert compacting.hear() == "held"  # has closed the old file, and so lets the other in
    if first == "the open":
        assert opening.process.wait() == 0
        compacting.poke()
    assert compacting.hear() == "compacted"
    opening.process.send_signal(signal.SIGCONT)
    (heard,) = opening.end()
    assert compacting.end() == []
    refused, written = "InvalidError", "written"
    assert heard in {"the open": [refused], "the compaction": [written], "either": [refused, written]}[first]
    assert held(path) == kept | ({b"new": b"v"} if heard == written else {})


def wait_until_it_waits_for_a_lock(pid: int) -> None:
    for _ in range(60_000):
        if f" {pid} " in "".join(line for line in Path("/proc/locks").read_text().splitlines(True) if "->" in line):
            return
        threading.Event().wait(0.001)
    pytest.fail("the process never waited for a lock")


def test_an_open_behind_a_compaction_that_hangs_is_refused(
    path: Path, child: Callable[[str], Child], monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(path)
    compacting = child("""
    rewriting._sync = lambda file: (say("copied"), input())
    LMDBStore(path).compact()
    """)
    assert compacting.hear() == "copied"
    monkeypatch.setattr(rewriting, "PATIENCE_S", 0.05)
    with pytest.raises(StoreInUse, match="another process is just compacting it"):
        LMDBStore(path)


KILLED = """
store = LMDBStore(path)
left = int(sys.argv[2]) if len(sys.argv) > 2 else {count}
def dying(call):
    def made(*args, **options):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return call(*args, **options)
    return made
Path = type(rewriting.Path("."))
Path.chmod, Path.replace, Path.mkdir = dying(Path.chmod), dying(Path.replace), dying(Path.mkdir)
rewriting.shutil.rmtree = dying(rewriting.shutil.rmtree)
os.fsync = dying(os.fsync)
lock_file.LockFile.spoil, files.open_files = dying(lock_file.LockFile.spoil), dying(files.open_files)
store.compact()
say("compacted")
"""
POINTS = 9  # calls in the list above that one compaction makes


@pytest.mark.parametrize("count", range(POINTS))
def test_a_kill_at_any_point_leaves_a_good_store(path: Path, child: Callable[[str], Child], count: int) -> None:
    kept, before = fill(path, steps=60), size(path)
    killed = child(KILLED.replace("{count}", str(count)))
    assert killed.process.wait() == -signal.SIGKILL
    assert size(path) == before or size(path) < before / 4
    assert held(path) == kept
    with closing(LMDBStore(path)) as store:
        store.commit(Put(b"more", b"v"))
        assert store.compact()[1] < before / 4
        assert dict(store.scan(b"")) == kept | {b"more": b"v"}
    assert sorted(item.name for item in path.iterdir()) == ["data.mdb", "lock.mdb"]


def test_a_kill_is_tried_at_every_point(path: Path, child: Callable[[str], Child]) -> None:
    fill(path, steps=60)
    assert child(KILLED.replace("{count}", str(POINTS))).end() == ["compacted"]


def test_kills_at_random_moments_of_many_compactions_lose_nothing(path: Path, child: Callable[[str], Child]) -> None:
    kept = fill(path, steps=200)
    seed = int.from_bytes(os.urandom(2), "big")
    print(f"{seed=}")
    for life in range(8):
        killed = child("""
        store = LMDBStore(path)
        say("open")
        for i in range(100_000):
            store.commit(Put(b"scratch", b"v" * 500_000))
            store.compact()
        """)
        assert killed.hear() == "open"
        threading.Event().wait((seed * (life + 1) % 97) / 1000)
        killed.process.kill()
        killed.process.wait()
        found = held(path)
        found.pop(b"scratch", None)
        assert found == kept


def test_a_disk_without_room_leaves_the_store_as_it_was(path: Path, child: Callable[[str], Child]) -> None:
    with closing(LMDBStore(path, durability="none")) as store:
        store.commit(*(Put(b"%06d" % i, b"v" * 9_000) for i in range(400)))
    before = held(path)
    other = child("""
    import resource
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    store = LMDBStore(path)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, resource.RLIM_INFINITY))
    say(outcome(store.compact))
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    store.commit(Put(b"more", b"v"))
    say(outcome(lambda: store.compact() and "compacted"))
    """)
    assert other.end() == ["StoreFull", "compacted"]
    assert held(path) == before | {b"more": b"v"}


def test_threads_may_read_and_commit_during_a_compaction(path: Path, restless_threads: None) -> None:
    kept = fill(path)
    with closing(LMDBStore(path, durability="none")) as store:
        finished = threading.Event()
        errors: list[BaseException] = []

        def use(number: int) -> None:
            try:
                i = 0
                while not finished.is_set():
                    store.commit(Put(b"of-%d" % number, b"%d" % i))
                    assert store.get(b"of-%d" % number) == b"%d" % i
                    assert sum(1 for _ in store.scan(b"kept")) == len(kept)
                    i += 1
            except BaseException as error:  # noqa: BLE001  # told in the main thread
                errors.append(error)

        threads = [threading.Thread(target=use, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(10):
            store.compact()
        finished.set()
        for thread in threads:
            thread.join()
        assert errors == []


def test_a_store_whose_files_were_deleted_is_not_compacted(path: Path) -> None:
    with closing(LMDBStore(path)) as store:
        store.commit(Put(b"k", b"v"))
        shutil.rmtree(path)
        with pytest.raises(StoreGone, match="its file is gone"):
            store.compact()
