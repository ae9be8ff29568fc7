"""`verify` finds every fault of a file and of its records, survives all of them, and reports none in a sound store."""

import asyncio
import json
import random
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import lmdb.verify
import pytest
import verifying_child
from healthy_stores import fill

from beluga_graph import END, START, Engine, Graph, RunFailed
from beluga_graph.cli.commands.verify import check_path
from beluga_graph.storage.keys import Keys, hash16
from beluga_graph.storage.loading import rebuild
from beluga_graph.storage.records import decode_record, encode_record
from beluga_graph.storage.verify import verify_store
from stores import Delete, LMDBStore, MemoryStore, Put

PAGE = 4096


class Asker:
    """Sends commands to the process that forks."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process

    def __call__(self, command: str, path: Path) -> tuple[int, str]:
        """Return the exit code, negative for a signal, and all output."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{command} {path}\n")
        self._process.stdin.flush()
        code, said = json.loads(self._process.stdout.readline())
        return code, said


@pytest.fixture(scope="module")
def ask() -> Iterator[Asker]:
    command = [sys.executable, verifying_child.__file__]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Asker(process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a sound store with runs of every kind."""
    path = tmp_path_factory.mktemp("sound") / "store"
    asyncio.run(fill(path, seed=1, actions=0))
    return path


@pytest.fixture
def copy(sound: Path, tmp_path: Path) -> Path:
    """Return a copy to damage."""
    path = tmp_path / "store"
    path.mkdir()
    shutil.copy(sound / "data.mdb", path / "data.mdb")
    return path


def in_use(path: Path) -> tuple[list[int], int]:
    """Return the pages that a file's trees reach, and the root of the tree of free pages."""
    with (path / "data.mdb").open("rb") as file:
        verifier = lmdb.verify._Verifier(file, (path / "data.mdb").stat().st_size)
        assert verifier.verify() == []
        return [page for page, live in enumerate(verifier.live) if live], verifier.meta.free.root


def write(path: Path, page: int, content: bytes, at: int = 0) -> None:
    with (path / "data.mdb").open("r+b") as file:
        file.seek(page * PAGE + at)
        file.write(content)


def page_of(path: Path, page: int) -> bytes:
    return (path / "data.mdb").read_bytes()[page * PAGE : (page + 1) * PAGE]


def zero(path: Path, page: int) -> None:
    write(path, page, bytes(PAGE))


def scramble(path: Path, page: int) -> None:
    write(path, page, random.Random(page).randbytes(PAGE))


def flip(path: Path, page: int) -> None:
    """Flip a bit of the header: of the page's number, its flags, its number of entries, or the offset of the entries.

    The last one is flipped up: a page whose entries begin later than it says has some bytes less to give, no more.
    """
    at = (0, 10, 12, 14)[page % 4]
    byte = page_of(path, page)[at]
    bit = ~byte & (byte + 1) if at == 14 else 1 << (1 + page % 2)
    write(path, page, bytes([(byte ^ bit) & 0xFF]), at)


def move_entry(path: Path, page: int) -> None:
    """Let the first entry of a page begin at an offset without an entry."""
    write(path, page, struct.pack("=H", 0xFFF0 + page % 8), 16)


@pytest.mark.parametrize("damage", [zero, scramble, flip, move_entry])
def test_a_changed_page_is_found(ask: Asker, sound: Path, copy: Path, damage: Callable[[Path, int], None]) -> None:
    pages, free = in_use(copy)
    assert free in pages
    assert len(pages) > 20
    tree_pages = [page for page in pages if page_of(sound, page)[10] in (1, 2)]  # without the pages of large values
    sample = sorted({free, *random.Random(3).sample(tree_pages, 12)})
    for page in sample:
        shutil.copy(sound / "data.mdb", copy / "data.mdb")
        damage(copy, page)
        code, said = ask("verify", copy)
        assert code == 1, (page, said)
        assert "error: data.mdb: " in said, (page, said)
        assert "restore a copy" in said
        code, said = ask("use", copy)
        assert code in (0, 1), (page, said)  # never a signal
        assert code == 0 or "StoreDamaged" in said


def test_swapped_pages_are_found(ask: Asker, sound: Path, copy: Path) -> None:
    pages = [page for page in in_use(copy)[0] if page_of(copy, page)[10] == 2]
    rng = random.Random(5)
    for _ in range(6):
        first, second = rng.sample(pages, 2)
        shutil.copy(sound / "data.mdb", copy / "data.mdb")
        write(copy, first, page_of(sound, second))
        write(copy, second, page_of(sound, first))
        assert ask("verify", copy)[0] == 1
        assert ask("use", copy)[0] in (0, 1)


@pytest.mark.parametrize("kept", [0.05, 0.3, 0.6, 0.95])
def test_a_file_that_was_cut_off_is_found(ask: Asker, copy: Path, kept: float) -> None:
    # Cut before a page of a tree: the last pages of a file may be free, and their loss is not damage.
    tree_pages = [page for page in in_use(copy)[0] if page_of(copy, page)[10] in (1, 2)]
    with (copy / "data.mdb").open("r+b") as opened:
        opened.truncate(tree_pages[int(len(tree_pages) * kept)] * PAGE)
    for command in ("verify", "use"):
        code, said = ask(command, copy)
        assert code == 1, said
        assert "Traceback" not in said


META = {
    "flags": 10,
    "magic": 16,
    "page size": 40,
    "free root": 80,
    "depth": 94,
    "root": 128,
    "last page": 136,
    "commit": 144,
}


@pytest.mark.parametrize("what", META)
@pytest.mark.parametrize("bit", [0, 3, 7])
def test_a_changed_meta_page_is_found(ask: Asker, copy: Path, what: str, bit: int) -> None:
    commits = [struct.unpack_from("=Q", page_of(copy, page), META["commit"])[0] for page in (0, 1)]
    newer = commits.index(max(commits))
    write(copy, newer, bytes([page_of(copy, newer)[META[what]] ^ 1 << bit]), META[what])
    code, said = ask("verify", copy)
    assert code == 1, said
    assert "Traceback" not in said
    code, said = ask("use", copy)
    assert code == 1, said
    assert "StoreDamaged" in said


def test_an_unknown_format_is_not_damage(ask: Asker, copy: Path) -> None:
    for page in (0, 1):
        write(copy, page, struct.pack("=I", 7), 20)
    for command in ("verify", "use"):
        code, said = ask(command, copy)
        assert code == 1
        said = " ".join(said.split())
        assert "cannot be read by the installed LMDB: its format is 7; open it with the release of the package" in said
        assert "damage" not in said


# ---- records


def lose(*prefixes: bytes, which: int = 0, last: bool = False) -> Callable[[LMDBStore], list[bytes]]:
    """Return a function that finds the records to delete: one for each prefix."""

    def find(store: LMDBStore) -> list[bytes]:
        found = []
        for prefix in prefixes:
            keys = [key for key, _ in store.scan(prefix)]
            found.append(keys[-1 if last else which])
        return found

    return find


DONE, PARKED, ASKS, NAPS, FORK = (Keys(name) for name in ("done", "parked", "asks", "naps", "fork"))
SESSION = hash16("talker\nchat")


@pytest.mark.parametrize(
    ("find", "message"),
    [
        (lose(b"H" + DONE.run_key), "done: its head is missing, so it is not among the runs; left of it are: "),
        (lose(b"H" + PARKED.run_key), "points to a run that is not there"),
        (lose(b"N" + DONE.run_key), "done: its first snapshot is missing"),
        (lose(b"S" + DONE.run_key, which=2), "step 3 of run 'done' is missing"),
        (lose(b"S" + DONE.run_key), "step 1 of run 'done' is missing"),
        (
            lose(b"S" + DONE.run_key, last=True),
            "done: its head says completed, its steps say running: the last steps are missing",
        ),
        (lose(b"S" + PARKED.run_key, last=True), "parked: its head says waiting, its steps say running"),
        (lose(b"C" + DONE.run_key, which=1), "done: item 1 of the 3 of field 'log' is missing"),
        (lose(b"C" + DONE.run_key, last=True), "done: item 2 of the 3 of field 'log' is missing"),
        (lose(b"C" + FORK.run_key), "fork: item 0 of the "),
        (lose(b"V"), "is missing"),
        (lose(b"W"), "is missing"),
        (lose(b"X" + DONE.run_key), "done: its large value "),
        (lose(b"L" + DONE.run_key), "done: its lease is missing"),
        (lose(b"P"), "of its graph is missing"),
        (lose(b"G" + PARKED.run_key), "parked: it is waiting, but not listed among the runs that go on"),
        (lose(b"I" + PARKED.run_key), "parked: signal 0 of the name 'other' is missing"),
        (lose(b"B" + ASKS.run_key), "asks: its question 'pay.approval#1' is not listed: it cannot be answered"),
        (lose(b"T"), "naps: its timer 't:nap#1' is not listed: it would never fire"),
        (lose(b"Y" + SESSION, which=1), "message 1 of session 'chat' is missing"),
        (lose(b"Z"), "the session of a message is missing"),
        (lose(b"e", which=1), "event 2 of the bus is missing"),
        (lose(b"d"), "the position of event "),
        (lose(b"t"), "the correlation of event "),
    ],
)
def test_a_missing_record_is_found(
    ask: Asker, copy: Path, find: Callable[[LMDBStore], list[bytes]], message: str
) -> None:
    with closing(LMDBStore(copy, durability="none")) as store:
        lost = find(store)
        store.commit(*map(Delete, lost))
    code, said = ask("verify", copy)
    assert code == 1, (lost, said)
    assert message in said
    assert "restore a copy of the store" in said


def resealed(letter: bytes, run: bytes, change: Callable[[Any], Any]) -> Callable[[LMDBStore], Put]:
    """Return a function that changes the last record of a kind and run, with a good checksum."""

    def find(store: LMDBStore) -> Put:
        key, blob = list(store.scan(letter + run))[-1]
        return Put(key, encode_record(key, change(decode_record(key, blob))))

    return find


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (resealed(b"H", DONE.run_key, lambda head: (*head[:3], "running", *head[4:])), "its head says running"),
        (resealed(b"H", DONE.run_key, lambda head: ("other", *head[1:])), "is that of another run"),
        (resealed(b"H", DONE.run_key, lambda _: 5), "not the form of its kind"),
        (resealed(b"L", DONE.run_key, lambda _: {"a": 1}), "not the form of its kind"),
        (
            resealed(b"L", DONE.run_key, lambda lease: (b"o" * 16, lease[1])),
            "done: it is completed, but its lease has an owner",
        ),
        (resealed(b"S", DONE.run_key, lambda step: (*step[:4], (), *step[5:])), "not the form of its kind"),
        (
            resealed(b"S", DONE.run_key, lambda step: (*step[:5], (("drop", "nobody"),), ())),
            "does not fit the steps before it",
        ),
        (resealed(b"S", DONE.run_key, lambda _: None), "step"),
        (resealed(b"N", DONE.run_key, lambda snapshot: {**snapshot, "seq": 1}), "done: "),
        (resealed(b"I", PARKED.run_key, lambda _: (1,)), "not the form of its kind"),
        (resealed(b"P", b"", lambda _: {}), "not the form of its kind"),
        (resealed(b"Z", b"", lambda _: ()), "not the form of its kind"),
        (resealed(b"e", b"", lambda _: 1), "not the form of its kind"),
        (resealed(b"d", b"", lambda _: 77), "event 77 of the bus is missing"),
    ],
)
def test_a_record_with_wrong_content_is_found(
    ask: Asker, copy: Path, change: Callable[[LMDBStore], Put], message: str
) -> None:
    with closing(LMDBStore(copy, durability="none")) as store:
        store.commit(change(store))
    code, said = ask("verify", copy)
    assert code == 1, said
    assert message in said
    assert "Traceback" not in said


# ---- no false alarm


@pytest.mark.parametrize("seed", range(6))
async def test_a_sound_store_has_no_damage(tmp_path: Path, seed: int) -> None:
    """Checked after each of many random actions."""

    def look(engine: Any) -> None:
        assert verify_store(engine.store).damage == ()

    await fill(tmp_path / "store", seed=seed, look=look)
    assert check_path(tmp_path / "store").damage == ()


async def test_a_sound_store_has_no_damage_while_another_process_writes(tmp_path: Path, ask: Asker) -> None:
    path = tmp_path / "store"
    ended = asyncio.Event()

    async def go_on() -> None:
        seed = 10
        while not ended.is_set():
            await fill(path, seed=seed, prefix=f"{seed}-")
            seed += 1

    await fill(path, seed=9)
    writing = asyncio.ensure_future(go_on())
    try:
        for _ in range(6):
            code, said = await asyncio.to_thread(ask, "verify", path)
            assert code == 0, said
            assert said.endswith("no damage\n")
    finally:
        ended.set()
        await writing


@pytest.mark.parametrize("resumed", [True, False])
async def test_a_store_of_a_release_whose_places_had_no_item_is_sound(resumed: bool) -> None:
    """Also if the run has continued since, with full snapshots of this release."""
    store, works = MemoryStore(), False
    graph = Graph("wide")

    def shaky(value: int) -> int:
        if value == 99 and not works:
            raise ValueError(value)
        return value

    def again(value: Any) -> Any:
        return value

    join = graph.join("join")
    work = graph.node(name="work")(shaky)
    second = graph.node(name="again")(again)
    graph.edge(START, graph.fan_out("out", to=work, over=again, join=join, max_concurrency=3))
    graph.edge(work, second)
    graph.edge(second, join)
    graph.edge(join, END)
    async with Engine(store) as engine:
        with pytest.raises(RunFailed):
            await engine.execute(graph, list(range(150)), run_id="r")
    keys = Keys("r")
    for key, blob in list(store.scan(keys.snapshot(0)[:-8])):
        plain = decode_record(key, blob)
        plain["places"] = {name: parts[:-1] for name, parts in plain["places"].items()}
        store.commit(Put(key, encode_record(key, plain)))
    assert rebuild(store, "r").seq > 64, "it has a full snapshot that is not its first"
    works = True
    if resumed:
        async with Engine(store) as engine:
            assert await engine.execute(graph, list(range(150)), run_id="r") == list(range(150))
    assert verify_store(store).damage == ()
