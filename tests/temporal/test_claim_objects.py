"""Objects of users that keep large values, the cache in front of them, and the choice of the backend."""

from __future__ import annotations

import threading
from hashlib import sha256
from pathlib import Path

import pytest
from claim_values import DATA, DIGEST

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.temporal.claims import backends as claim_backends
from beluga_graph.temporal.claims.backends import FolderClaims, StoreClaims
from beluga_graph.temporal.claims.claims import CachedClaims, ClaimNotFound, open_claims
from stores import LMDBStore


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
