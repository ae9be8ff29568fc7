"""Large values of Temporal runs: every backend keeps whole values, finds them again, and reports damage."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from claims_child import value_of
from s3_server import S3_ENVIRONMENT, s3_client, s3_server
from servers import find_free_port

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.codec.records import seal
from beluga_graph.errors import BelugaError
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.verify import verify_store
from beluga_graph.temporal.claims import backends as claim_backends
from beluga_graph.temporal.claims.backends import CLAIM, ClaimsFailed, FolderClaims, S3Claims, StoreClaims
from beluga_graph.temporal.claims.claims import CachedClaims, ClaimNotFound, open_claims
from stores import LMDBStore, MemoryStore, Put

CHILD = Path(__file__).with_name("claims_child.py")
DATA = b"a large value" * 1_000
DIGEST = sha256(DATA).digest()

Open = Callable[[], CachedClaims]


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a prefix of a bucket, of this test only, and set the environment so that it is found."""
    for name, text in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return f"s3://claims/{tmp_path.name}"


@pytest.fixture(params=["folder", "lmdb", "s3"])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return the location of each backend, as users name it."""
    if request.param == "s3":
        return request.getfixturevalue("bucket")
    return str(tmp_path / ("claims.lmdb" if request.param == "lmdb" else "claims"))


@pytest.fixture
def reopen(location: str) -> Iterator[Open]:
    """Return a function that opens the location with an empty cache, as another process does."""
    opened: list[CachedClaims] = []

    def open_again() -> CachedClaims:
        claims = open_claims(location)
        assert claims is not None
        opened.append(claims)
        return claims

    yield open_again
    for claims in opened:
        claims.close()


def damage(location: str, s3_url: str, digest: bytes, data: bytes) -> None:
    """Replace the stored bytes of a value, behind the back of the claims."""
    if location.startswith("s3://"):
        client = s3_client(s3_url)
        _, _, prefix = location.removeprefix("s3://").partition("/")
        client.put_object(Bucket="claims", Key=f"{prefix}/{digest.hex()}", Body=data)
        client.close()
    elif location.endswith(".lmdb"):
        store = LMDBStore(location)
        key = Prefix.CLAIM + digest
        record = bytearray(store.get(key) or b"")
        record[-len(data) :] = data
        store.commit(Put(key, bytes(record)))
        store.close()
    else:
        (Path(location) / digest.hex()[:2] / digest.hex()).write_bytes(data)


# All kinds of backends.


def test_a_value_comes_back_in_another_process(reopen: Open) -> None:
    big = os.urandom(9_000_000)
    reopen().put(DIGEST, DATA)
    reopen().put(sha256(big).digest(), big)
    reopen().put(sha256(b"").digest(), b"")
    assert reopen().get(DIGEST) == DATA
    assert reopen().get(sha256(big).digest()) == big
    assert reopen().get(sha256(b"").digest()) == b""


def test_a_missing_value_names_its_digest_its_location_and_the_way_out(reopen: Open) -> None:
    claims = reopen()
    with pytest.raises(ClaimNotFound) as caught:
        claims.get(DIGEST)
    assert isinstance(caught.value, BelugaError)
    assert DIGEST.hex() in str(caught.value)
    assert repr(claims.location) in str(caught.value)
    assert "give all workers and clients the same claims" in str(caught.value)
    assert str(pickle.loads(pickle.dumps(caught.value))) == str(caught.value)


def test_a_damaged_value_is_refused_and_mended_by_the_next_put(location: str, reopen: Open, s3_url: str) -> None:
    reopen().put(DIGEST, DATA)
    damage(location, s3_url, DIGEST, b"!")
    with pytest.raises(DamagedRecord):
        reopen().get(DIGEST)
    reopen().put(DIGEST, DATA)
    assert reopen().get(DIGEST) == DATA


@pytest.mark.parametrize("digest", [b"", b"x" * 31, b"x" * 33, b"../../etc/passwd"])
def test_bytes_of_another_length_are_not_a_digest(reopen: Open, digest: bytes) -> None:
    with pytest.raises(DamagedRecord, match="not 32"):
        reopen().get(digest)
    with pytest.raises(ValueError, match="is not a digest"):
        reopen().put(digest, DATA)


def test_a_digest_that_looks_like_a_path_finds_nothing(reopen: Open) -> None:
    with pytest.raises(ClaimNotFound):
        reopen().get(b"../../../../../../../etc/passwd\0")


def test_a_value_is_not_stored_under_the_digest_of_another(reopen: Open) -> None:
    with pytest.raises(ValueError, match=r"is not the SHA-256 of the 5 bytes"):
        reopen().put(DIGEST, b"other")
    with pytest.raises(ClaimNotFound):
        reopen().get(DIGEST)


def start_child(location: str, count: int) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, str(CHILD), location, str(count)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def test_two_processes_put_the_same_values_at_once(location: str, reopen: Open) -> None:
    children = [start_child(location, 8) for _ in range(2)]
    for child in children:
        assert child.stdin is not None
        child.stdin.write("go\n")
        child.stdin.flush()
    for child in children:
        out, _ = child.communicate(timeout=300)
        assert out.split() == [*map(str, range(8))]
        assert child.returncode == 0
    claims = reopen()
    for index in range(8):
        data = value_of(index)
        assert claims.get(sha256(data).digest()) == data


@pytest.mark.parametrize("delay_s", [0.0, 0.003, 0.01])
def test_a_killed_process_leaves_each_value_whole_or_absent(location: str, reopen: Open, delay_s: float) -> None:
    child = start_child(location, 1_000)
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write("go\n")
    child.stdin.flush()
    for _ in range(3):
        child.stdout.readline()
    time.sleep(delay_s)  # the kill comes at another moment of a write
    child.kill()
    out, _ = child.communicate()
    stored = 3 + len(out.split())
    claims = reopen()
    for index in range(stored):
        data = value_of(index)
        assert claims.get(sha256(data).digest()) == data, index
    next_one = value_of(stored)
    try:
        found = claims.get(sha256(next_one).digest())
    except ClaimNotFound:
        found = next_one
    assert found == next_one
    claims.put(sha256(next_one).digest(), next_one)
    assert reopen().get(sha256(next_one).digest()) == next_one


async def test_many_values_are_put_and_read_together(reopen: Open) -> None:
    values = [b"%d" % index * 1_000 for index in range(40)]
    digests = await reopen().put_all(values)
    assert digests == [sha256(data).digest() for data in values]
    claims = reopen()
    await claims.put_all(values[:5])  # these are in its cache
    assert await claims.get_all(digests + digests) == dict(zip(digests, values, strict=True))
    with pytest.raises(ClaimNotFound):
        await claims.get_all([*digests, DIGEST])
    assert await claims.get_all([]) == {}


# Folders.

BLOCKED_CHILD = """
import os, stat, sys, time
from hashlib import sha256
from beluga_graph.temporal.claims.backends import FolderClaims

def block(handle):
    if stat.S_ISREG(os.fstat(handle).st_mode):
        print("written", flush=True)
        time.sleep(600)

os.fsync = block
data = b"a large value" * 1_000
FolderClaims(sys.argv[1]).put(sha256(data).digest(), data)
"""
LIMITED_CHILD = """
import resource, sys
from hashlib import sha256
from beluga_graph.temporal.claims.backends import ClaimsFailed, FolderClaims

resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
data = bytes(1_000_000)
try:
    FolderClaims(sys.argv[1]).put(sha256(data).digest(), data)
except ClaimsFailed as error:
    print(error)
"""


def test_a_writer_killed_before_the_rename_leaves_no_value_and_its_file_is_deleted_a_day_later(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", BLOCKED_CHILD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    assert child.stdout.readline() == "written\n"
    child.kill()
    child.communicate()
    (left,) = (tmp_path / "unfinished").iterdir()
    assert FolderClaims(tmp_path).get(DIGEST) is None
    assert left.exists()  # it may be the file of a living writer
    os.utime(left, (time.time() - 90_000,) * 2)
    claims = FolderClaims(tmp_path)
    assert not left.exists()
    claims.put(DIGEST, DATA)
    assert claims.get(DIGEST) == DATA


def test_a_write_that_the_system_cuts_off_leaves_nothing(tmp_path: Path) -> None:
    command = [sys.executable, "-c", LIMITED_CHILD, str(tmp_path)]
    shown = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "File too large" in shown.stdout
    assert "while writing a large value: check the location" in shown.stdout
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_value_that_is_put_again_is_not_written_again_but_its_time_is_renewed(tmp_path: Path) -> None:
    claims = FolderClaims(tmp_path)
    claims.put(DIGEST, DATA)
    path = tmp_path / DIGEST.hex()[:2] / DIGEST.hex()
    inode = path.stat().st_ino
    os.utime(path, (1_000, 1_000))
    claims.put(DIGEST, DATA)
    assert path.stat().st_ino == inode
    assert path.stat().st_mtime > 1_000


def test_a_path_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(ClaimsFailed, match="while opening the location"):
        open_claims(tmp_path / "file")


# Stores.


def test_claims_share_a_store_with_runs_and_are_verified_with_it(tmp_path: Path) -> None:
    store = LMDBStore(tmp_path)
    claims = open_claims(store)
    assert claims is not None
    claims.put(DIGEST, DATA)
    claims.close()
    assert store.get(Prefix.CLAIM + DIGEST) is not None  # the caller's store stays open
    report = verify_store(store)
    assert report.records == {"claims": 1}
    assert report.damage == ()
    other = Prefix.CLAIM + bytes(32)
    store.commit(Put(other, seal(CLAIM, DATA, other)))
    assert [damage.where for damage in verify_store(store).damage] == [other.hex()]
    store.close()


def test_the_letter_of_claims_is_in_the_table_of_keys() -> None:
    assert bytes((CLAIM,)) == Prefix.CLAIM


def test_a_store_of_one_process_is_refused() -> None:
    with pytest.raises(ValueError, match="MemoryStore exists only in this process"):
        open_claims(MemoryStore())


# Buckets.


def test_a_missing_bucket_is_a_failure_and_not_a_missing_value(bucket: str) -> None:
    claims = S3Claims("s3://no-such-bucket/prefix")
    with pytest.raises(ClaimsFailed, match="NoSuchBucket"):
        claims.get(DIGEST)
    claims.close()


def test_a_key_that_the_service_refuses_is_a_failure(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    claims = S3Claims(bucket)
    with pytest.raises(ClaimsFailed, match="while writing"):
        claims.put(DIGEST, DATA)
    with pytest.raises(ClaimsFailed, match="while reading"):
        claims.get(DIGEST)
    claims.close()


def test_a_service_that_does_not_answer_is_a_failure(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://127.0.0.1:{find_free_port()}")
    claims = S3Claims(bucket)
    with pytest.raises(ClaimsFailed, match="Could not connect"):
        claims.get(DIGEST)
    claims.close()


def test_the_service_refuses_bytes_of_another_digest(bucket: str) -> None:
    claims = S3Claims(bucket)
    with pytest.raises(ClaimsFailed, match="while writing"):
        claims.put(DIGEST, b"cut off")
    assert claims.get(DIGEST) is None
    claims.close()


def test_an_endpoint_that_is_not_a_url_is_a_failure(bucket: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "localhost")
    with pytest.raises(ClaimsFailed, match="Invalid endpoint"):
        S3Claims(bucket)


@pytest.mark.parametrize("url", ["s3://", "s3:///prefix", "s3://key@bucket", "s3://bucket?x=1", "s3://bucket#x"])
def test_a_url_without_a_plain_bucket_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="does not name a bucket"):
        open_claims(url)


def test_without_the_extra_the_error_names_it() -> None:
    code = "import sys; sys.modules['botocore.session'] = None\n"
    code += "from beluga_graph.temporal.claims.claims import open_claims; open_claims('s3://bucket')"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert shown.stderr.splitlines()[-1].endswith("needs the package botocore: pip install 'beluga-graph[s3]'")


# Objects of users, and the choice.


class Table:
    """The object of a user; it counts calls, and notes in which threads they were made."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.calls: list[str] = []
        self.threads: set[int] = set()

    def put(self, digest: bytes, data: bytes) -> None:
        self._note("put")
        self.values[digest] = data

    def get(self, digest: bytes) -> bytes | None:
        self._note("get")
        return self.values.get(digest)

    def _note(self, call: str) -> None:
        self.calls.append(call)
        self.threads.add(threading.get_ident())


async def test_an_object_of_a_user_is_called_in_threads() -> None:
    table = Table()
    claims = open_claims(table)
    assert claims is not None
    (digest,) = await claims.put_all([DATA])
    again = CachedClaims(table, "Table")
    assert await again.get_all([digest]) == {DIGEST: DATA}
    assert threading.get_ident() not in table.threads
    table.values[DIGEST] = b"damaged"
    other = CachedClaims(table, "Table")
    with pytest.raises(DamagedRecord, match=r"in 'Table' has 7 bytes of another digest"):
        await other.get_all([DIGEST])
    del table.values[DIGEST]
    with pytest.raises(ClaimNotFound, match="claims in 'Table' have no value"):
        await other.get_all([DIGEST])
    table.values[DIGEST] = "text"  # type: ignore[assignment]
    with pytest.raises(TypeError, match=r"Table\.get returned str: return bytes, or None"):
        await other.get_all([DIGEST])
    for opened in (claims, again, other):
        opened.close()


async def test_at_most_sixteen_calls_run_at_once_and_an_error_stops_those_that_wait() -> None:
    digests = [sha256(b"%d" % index).digest() for index in range(100)]
    all_run, has_failed = threading.Event(), threading.Event()

    class Slow(Table):
        def get(self, digest: bytes) -> bytes | None:
            super().get(digest)
            if len(self.calls) >= claim_backends.CONNECTIONS_MAX:
                all_run.set()
            assert (all_run if digest == digests[0] else has_failed).wait(60)
            return None

    slow = Slow()
    claims = CachedClaims(slow, "Slow")
    with pytest.raises(ClaimNotFound):
        await claims.get_all(digests)
    has_failed.set()
    claims.close()
    assert len(slow.threads) == claim_backends.CONNECTIONS_MAX
    # The thread of the failed call may have begun one more.
    assert len(slow.calls) <= claim_backends.CONNECTIONS_MAX + 1


def test_the_values_used_last_are_read_once_and_the_cache_has_a_limit() -> None:
    table = Table()
    values = [bytes((index,)) * 100 for index in range(4)]
    digests = [sha256(data).digest() for data in values]
    claims = CachedClaims(table, "Table", bytes_max=300)
    for digest, data in zip(digests, values, strict=True):
        claims.put(digest, data)
    table.calls.clear()
    assert [claims.get(digest) for digest in digests[1:]] == values[1:]
    assert table.calls == []
    claims.get(digests[1])  # now the second is the oldest but used last
    assert claims.get(digests[0]) == values[0]  # was dropped, and drops the third
    assert table.calls == ["get"]
    claims.get(digests[1])
    assert table.calls == ["get"]
    claims.get(digests[2])
    assert table.calls == ["get", "get"]
    big = bytes(301)
    claims.put(sha256(big).digest(), big)  # is not kept
    claims.get(sha256(big).digest())
    assert table.calls == ["get", "get", "put", "get"]
    claims.close()


def test_a_value_in_the_cache_is_still_put() -> None:
    table = Table()
    claims = CachedClaims(table, "Table")
    claims.put(DIGEST, DATA)
    claims.put(DIGEST, DATA)
    assert table.calls == ["put", "put"]
    claims.close()


def test_the_backend_follows_from_the_form(tmp_path: Path) -> None:
    LMDBStore(tmp_path / "runs").close()
    store = LMDBStore(tmp_path / "open")
    table = Table()
    given = [(tmp_path / "folder", FolderClaims), (str(tmp_path / "new.lmdb"), StoreClaims)]
    given += [(tmp_path / "runs", StoreClaims), (store, StoreClaims), (table, Table)]
    for option, kind in given:
        claims = open_claims(option)
        assert claims is not None
        assert isinstance(claims._claims, kind)
        assert open_claims(claims) is claims
        claims.close()
        claims.close()
    store.close()
    assert open_claims(None) is None


class Asynchronous:
    """An object whose methods would return coroutines."""

    async def put(self, digest: bytes, data: bytes) -> None: ...

    async def get(self, digest: bytes) -> bytes | None: ...


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        (Asynchronous(), TypeError, "plain method put, which is called in a thread, and it is a coroutine function"),
        (object(), TypeError, "and there is none: give it one"),
        (7, TypeError, "claims=7 needs"),
        ("", ValueError, "the path of a folder"),
        ("gs://bucket", ValueError, "give s3://bucket/prefix"),
    ],
)
def test_anything_else_is_refused(option: object, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        open_claims(option)
