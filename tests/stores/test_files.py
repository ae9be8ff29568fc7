"""Files that are not complete stores: interrupted at their creation, of another format, or read-only."""

import struct
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

import stores
from stores import LMDBStore, Put, StoreDamaged, StoreFormat, StoreReadOnly

PAGE = 4096


@pytest.fixture
def path(tmp_path: Path) -> Path:
    (tmp_path / "store").mkdir()
    return tmp_path / "store"


def fresh(tmp_path: Path) -> bytes:
    """Return the file of a store that was just created."""
    LMDBStore(tmp_path / "fresh").close()
    return (tmp_path / "fresh" / "data.mdb").read_bytes()


@pytest.mark.parametrize("size", [0, 1, 100, PAGE - 1, PAGE, 2 * PAGE - 1, 2 * PAGE, 3 * PAGE])
def test_a_store_whose_creation_left_zeroes_is_created_again(path: Path, size: int) -> None:
    (path / "data.mdb").write_bytes(bytes(size))
    with closing(LMDBStore(path)) as store:
        assert list(store.scan(b"")) == []
        store.commit(Put(b"k", b"v"))
    with closing(LMDBStore(path)) as store:
        assert store.get(b"k") == b"v"


@pytest.mark.parametrize("written", [11, 17, 24, 60, 151, 152, 1000, PAGE])
@pytest.mark.parametrize("size", [0, PAGE, 2 * PAGE])
def test_a_store_whose_creation_was_cut_short_is_created_again(path: Path, written: int, size: int) -> None:
    (path / "data.mdb").write_bytes(fresh(path.parent)[:written].ljust(size, b"\0"))
    with closing(LMDBStore(path)) as store:
        store.commit(Put(b"k", b"v"))


@pytest.mark.parametrize("content", [b"\1", bytes(3 * PAGE + 1), bytes(100) + b"x", b"\0" * PAGE + b"precious"])
def test_a_file_that_is_not_an_interrupted_creation_is_damage_and_is_not_changed(path: Path, content: bytes) -> None:
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(StoreDamaged):
        LMDBStore(path)
    assert (path / "data.mdb").read_bytes() == content


def test_a_store_that_held_something_is_never_taken_for_a_cut_creation(path: Path) -> None:
    with closing(LMDBStore(path)) as store:
        for number in range(2):  # each meta page is written
            store.commit(Put(b"k", b"%d" % number))
    content = (path / "data.mdb").read_bytes()
    for kept in (PAGE, PAGE + 100, 2 * PAGE - 1):
        (path / "data.mdb").write_bytes(content[:kept])
        with pytest.raises(StoreDamaged):
            LMDBStore(path)
        assert (path / "data.mdb").read_bytes() == content[:kept]


def test_processes_that_find_a_cut_creation_at_once_share_one_new_store(path: Path) -> None:
    program = """
import sys
from stores import LMDBStore, Put
for number in range(60):
    store = LMDBStore(sys.argv[1])
    store.commit(Put(sys.argv[2].encode() + b"%d" % number, b"v"))
    store.close()
"""
    (path / "data.mdb").write_bytes(bytes(PAGE))

    def run(name: str) -> int:
        root = Path(stores.__file__).parent.parent
        return subprocess.run([sys.executable, "-c", program, str(path), name], cwd=root, check=True).returncode

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(run, "abcd")) == [0] * 4
    with closing(LMDBStore(path)) as store:
        assert sum(1 for _ in store.scan(b"")) == 4 * 60


def test_a_file_of_another_format_is_reported_by_its_format(path: Path) -> None:
    content = bytearray(fresh(path.parent))
    for page in (0, 1):
        struct.pack_into("=I", content, page * PAGE + 20, 3)
    (path / "data.mdb").write_bytes(content)
    with pytest.raises(StoreFormat) as caught:
        LMDBStore(path)
    assert str(caught.value) == (
        f"store {str(path)!r} cannot be read by the installed LMDB: its format is 3; "
        "open it with the release of the package lmdb that wrote it"
    )
    assert (path / "data.mdb").read_bytes() == content


def test_a_store_that_is_opened_to_read_takes_no_commit_and_is_not_made(path: Path) -> None:
    with closing(LMDBStore(path)) as store:
        store.commit(Put(b"k", b"v"))
    with closing(LMDBStore(path, read_only=True)) as store:
        assert store.get(b"k") == b"v"
        for call in (lambda: store.commit(Put(b"k", b"w")), store.compact):
            with pytest.raises(StoreReadOnly, match="it was opened to read only"):
                call()
        with pytest.raises(ValueError, match="to read only: close it first"):
            LMDBStore(path)
    with pytest.raises(StoreReadOnly, match="No such file"):
        LMDBStore(path.parent / "none", read_only=True)
    assert not (path.parent / "none").exists()


def test_a_reader_beside_a_writer_of_its_process_shares_its_environment(path: Path) -> None:
    with closing(LMDBStore(path, durability="none")) as store, closing(LMDBStore(path, read_only=True)) as reader:
        store.commit(Put(b"k", b"v"))
        assert reader.get(b"k") == b"v"


def test_a_copy_is_a_store(path: Path, tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    with closing(LMDBStore(path)) as store:
        store.commit(Put(b"k", b"v"))
        store.copy(tmp_path / "copy")
        with closing(LMDBStore(tmp_path / "copy")) as copied:
            assert copied.get(b"k") == b"v"
