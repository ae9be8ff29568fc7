"""Large values of Temporal runs: every backend keeps whole values, finds them again, and reports damage."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from claim_values import DATA, DIGEST
from claims_child import value_of
from s3_server import s3_client

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.errors import BelugaError
from beluga_graph.storage.keys import Prefix
from beluga_graph.temporal.claims.claims import CachedClaims, ClaimNotFound, open_claims
from stores import LMDBStore, Put

CHILD = Path(__file__).with_name("claims_child.py")

Open = Callable[[], CachedClaims]


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
