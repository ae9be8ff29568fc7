"""Large values, which workers and clients share: a history holds the digest, and the claims hold the bytes.

`open_claims` chooses the backend; `CachedClaims` reads and writes there, and verifies each value.
"""

from __future__ import annotations

import asyncio
import inspect
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Final, Protocol, TypeAlias, TypeVar

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.errors import SnapshotError
from beluga_graph.temporal.claims.backends import (
    CONNECTIONS_MAX,
    DIGEST_BYTES,
    FolderClaims,
    S3Claims,
    StoreClaims,
    check_digest,
)
from stores import LMDBStore, Store

__all__ = ["CachedClaims", "ClaimNotFound", "Claims", "ClaimsOption", "open_claims"]

CACHE_BYTES: Final = 64 * 1024 * 1024

T = TypeVar("T")


class Claims(Protocol):
    """A backend for large values: any object with these two methods. They are called from several threads.

    Example, with a table `blobs` of a database:

        class Blobs:
            def put(self, digest: bytes, data: bytes) -> None:
                with pool.connection() as db:
                    db.execute("INSERT INTO blobs VALUES (%s, %s) ON CONFLICT DO NOTHING", (digest, data))

            def get(self, digest: bytes) -> bytes | None:
                with pool.connection() as db:
                    row = db.execute("SELECT data FROM blobs WHERE digest = %s", (digest,)).fetchone()
                return row[0] if row else None
    """

    def put(self, digest: bytes, data: bytes) -> None:
        """Store a value under its SHA-256, so that it is safe when this returns. Several may store it at once."""
        ...

    def get(self, digest: bytes) -> bytes | None:
        """Return the value stored under a digest, or `None`."""
        ...


ClaimsOption: TypeAlias = Claims | Store | str | os.PathLike[str] | None
"""The forms in which users name a backend; see `open_claims`."""


class ClaimNotFound(SnapshotError):
    """A run refers to a large value that the claims do not have.

    Attributes:
        digest: The SHA-256 of the value.
        location: The folder, the URL, or the class of the user's object; empty in a process without claims.
    """

    def __init__(self, digest: bytes, location: str) -> None:
        super().__init__(digest, location)
        self.digest, self.location = digest, location

    def __str__(self) -> str:
        if not self.location:
            way_out = "give the claims of its workers, as claims= or --claims"
            return f"the run's large value {self.digest.hex()} is in claims, and this process has none: {way_out}"
        return (
            f"claims in {self.location!r} have no value {self.digest.hex()}: "
            "give all workers and clients the same claims; "
            "if the value was deleted, restore it from a backup, or fork the run from a step before it"
        )


class CachedClaims:
    """A backend with a cache of the values last used. Every value is verified when it is read.

    May be used from several threads. `put_all` and `get_all` do their work in threads of their own, at most 16.

    Attributes:
        location: The folder, the URL, or the class of the user's object, for messages.
    """

    def __init__(
        self, claims: Claims, location: str, *, bytes_max: int = CACHE_BYTES, on_close: Callable[[], None] | None = None
    ) -> None:
        self.location = location
        self._claims = claims
        self._cache = _Cache(bytes_max)
        self._threads = ThreadPoolExecutor(CONNECTIONS_MAX, "claims")
        self._on_close = on_close

    def put(self, digest: bytes, data: bytes) -> None:
        """Store a value under its digest. Raises `ValueError` for another digest, and the errors of the backend."""
        check_digest(digest)
        if sha256(data).digest() != digest:
            raise ValueError(f"{digest.hex()} is not the SHA-256 of the {len(data):,} bytes")
        # Also if it is in the cache: to put a value again renews its time, for cleaners that delete by age.
        self._claims.put(digest, data)
        self._cache.add(digest, data)

    def get(self, digest: bytes) -> bytes:
        """Return the value of a digest.

        Raises `ClaimNotFound`; `DamagedRecord` if the stored bytes have another digest, or `digest` is not one; and
        the errors of the backend.
        """
        cached = self._cache.get(digest)
        if cached is not None:
            return cached
        if len(digest) != DIGEST_BYTES:
            raise DamagedRecord("the reference to a large value", f"has {len(digest)} bytes, not {DIGEST_BYTES}")
        data = self._claims.get(digest)
        if data is None:
            raise ClaimNotFound(digest, self.location)
        if not isinstance(data, bytes):
            raise TypeError(f"{self.location}.get returned {type(data).__name__}: return bytes, or None")
        if sha256(data).digest() != digest:
            way_out = "restore it from a backup, or delete it there and fork the run from a step before it"
            raise DamagedRecord(
                f"the large value {digest.hex()} in {self.location!r}",
                f"has {len(data):,} bytes of another digest: it was changed or cut off; {way_out}",
            )
        self._cache.add(digest, data)
        return data

    async def put_all(self, values: Iterable[bytes]) -> list[bytes]:
        """Store values, and return the digest of each, in their order. Raises the first error of `put`."""
        return await self._map(self._put_value, list(values))

    async def get_all(self, digests: Iterable[bytes]) -> dict[bytes, bytes]:
        """Return the values by digest. Raises the first error of `get`."""
        wanted = dict.fromkeys(digests)
        found = {digest: self._cache.get(digest) for digest in wanted}
        missing = [digest for digest, data in found.items() if data is None]
        found.update(zip(missing, await self._map(self.get, missing), strict=True))
        return {digest: data for digest, data in found.items() if data is not None}

    def close(self) -> None:
        """Wait for calls under way; close the threads, and the backend unless the caller has opened it. Idempotent."""
        self._threads.shutdown()
        on_close, self._on_close = self._on_close, None
        if on_close is not None:
            on_close()

    def _put_value(self, data: bytes) -> bytes:
        digest = sha256(data).digest()
        self._claims.put(digest, data)
        self._cache.add(digest, data)
        return digest

    async def _map(self, call: Callable[[bytes], T], arguments: list[bytes]) -> list[T]:
        futures = [self._threads.submit(call, argument) for argument in arguments]
        try:
            return await asyncio.gather(*map(asyncio.wrap_future, futures))
        finally:
            for future in futures:
                future.cancel()  # after an error: those that wait for a thread


class _Cache:
    """Values by digest, up to a number of bytes. The least recently used ones are dropped first."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._values: OrderedDict[bytes, bytes] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, digest: bytes) -> bytes | None:
        with self._lock:
            data = self._values.get(digest)
            if data is not None:
                self._values.move_to_end(digest)
            return data

    def add(self, digest: bytes, data: bytes) -> None:
        if len(data) > self._bytes_max:
            return
        with self._lock:
            if digest not in self._values:
                self._bytes += len(data)
            self._values[digest] = data
            self._values.move_to_end(digest)
            while self._bytes > self._bytes_max:
                _, dropped = self._values.popitem(last=False)
                self._bytes -= len(dropped)


def open_claims(claims: ClaimsOption) -> CachedClaims | None:
    """Open the backend that a user names; `None` stays `None`.

    * `s3://bucket/prefix`: a bucket, for any number of machines.
    * A path: a folder, for one machine or for several that mount it. If the path ends in `.lmdb`, or is the folder of
      an `LMDBStore`, it is opened as such a store, for one machine.
    * An open `LMDBStore`, which may also hold runs. The caller closes it.
    * An object with `put` and `get`; see `Claims`. The caller closes it.
    * The result of an earlier `open_claims`, which is returned as it is.

    Raises `TypeError` or `ValueError` for anything else, and the errors of the backend.
    """
    if claims is None or isinstance(claims, CachedClaims):
        return claims
    if isinstance(claims, str | os.PathLike):
        return _open_path(os.fspath(claims))
    if callable(getattr(claims, "commit", None)):
        in_store = StoreClaims(claims)  # type: ignore[arg-type] # a store has `commit`, and a user's object `put`
        return CachedClaims(in_store, in_store.location)
    for name in ("put", "get"):
        method = getattr(claims, name, None)
        if not callable(method) or inspect.iscoroutinefunction(method):
            found = "it is a coroutine function" if callable(method) else "there is none"
            raise TypeError(
                f"claims={claims!r:.80} needs a plain method {name}, which is called in a thread, and {found}: "
                "give it one, or give a path or s3://bucket/prefix"
            )
    return CachedClaims(claims, type(claims).__qualname__)  # type: ignore[arg-type] # it has both methods


def _open_path(path: str) -> CachedClaims:
    if path.startswith("s3://"):
        bucket = S3Claims(path)
        return CachedClaims(bucket, bucket.location, on_close=bucket.close)
    if "://" in path:
        raise ValueError(f"claims={path!r}: give s3://bucket/prefix, a path, or an object with put and get")
    if not path:
        raise ValueError("claims='': give the path of a folder, or None for no claims")
    if path.endswith(".lmdb") or (Path(path) / "data.mdb").exists():
        store = LMDBStore(path)
        in_store = StoreClaims(store)
        return CachedClaims(in_store, in_store.location, on_close=store.close)
    folder = FolderClaims(path)
    return CachedClaims(folder, folder.location)
