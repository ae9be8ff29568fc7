"""The backends of claims: a folder, a store and a bucket, each a `Claims`.

A value is stored under its digest, the SHA-256 of its bytes. A backend stores and returns bytes, and never deletes any;
`CachedClaims` verifies them. Putting a value again renews its time in a folder and in a bucket, so a cleaner may
delete values by age. A safe age is longer than the longest run and the retention of the namespace together.
"""

from __future__ import annotations

import base64
import os
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from beluga_graph.codec.records import seal, unseal
from beluga_graph.errors import SnapshotError
from stores import Put, Store

__all__ = [
    "CLAIM",
    "CONNECTIONS_MAX",
    "DIGEST_BYTES",
    "ClaimsFailed",
    "FolderClaims",
    "S3Claims",
    "StoreClaims",
    "check_digest",
]

DIGEST_BYTES: Final = 32
CLAIM: Final = 0x76
"""The first byte of a claim's key in a store, of which `storage.keys` has the table."""
CONNECTIONS_MAX: Final = 16  # one for each thread of `CachedClaims`

_UNFINISHED: Final = "unfinished"  # folder of files that are being written
_ABANDONED_S: Final = 24 * 60 * 60  # a file that is unfinished for so long was left by a crash


class ClaimsFailed(SnapshotError):
    """Claims cannot be read or written. The request may succeed later.

    Attributes:
        location: The folder or the URL.
        action: The request that failed, such as `reading`.
        detail: The error of the system or the service.
    """

    def __init__(self, location: str, action: str, detail: str) -> None:
        super().__init__(location, action, detail)
        self.location, self.action, self.detail = location, action, detail

    def __str__(self) -> str:
        return (
            f"claims in {self.location!r}: {self.detail} while {self.action} a large value: "
            "check the location and the permissions, then try again"
        )


def check_digest(digest: bytes) -> None:
    """Raise `ValueError` unless `digest` is 32 bytes: digests come from stored bytes, and become keys and paths."""
    if not isinstance(digest, bytes) or len(digest) != DIGEST_BYTES:
        raise ValueError(f"{digest!r:.80} is not a digest: it has {DIGEST_BYTES} bytes, the SHA-256 of a value")


class FolderClaims:
    """One file for each value, in a folder that all workers and clients see.

    A crash leaves a file whole or absent: each is written under another name, synced and renamed. Files that a crash
    left unfinished are deleted a day later, when the folder is opened.

    Raises `ClaimsFailed` if the folder cannot be created.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self._root = Path(path).resolve()
        self.location = str(self._root)
        self._synced: set[Path] = set()  # sub-folders whose entry in the root is known to be on disk
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            (self._root / _UNFINISHED).mkdir(exist_ok=True)
            self._delete_abandoned()
        except OSError as error:
            raise ClaimsFailed(self.location, "opening the location for", str(error)) from error

    def put(self, digest: bytes, data: bytes) -> None:
        """Store a value; it is on disk when this returns. Raises `ClaimsFailed`."""
        path = self._path(digest)
        try:
            if self._read(path) == data:
                os.utime(path)
            else:
                self._write(path, data)
            _sync_folder(path.parent)  # also for a file that another process has just renamed
        except OSError as error:
            raise ClaimsFailed(self.location, "writing", str(error)) from error

    def get(self, digest: bytes) -> bytes | None:
        """Return the bytes stored under a digest, or `None`. Raises `ClaimsFailed`."""
        path = self._path(digest)
        try:
            return self._read(path)
        except OSError as error:
            raise ClaimsFailed(self.location, "reading", str(error)) from error

    def _path(self, digest: bytes) -> Path:
        check_digest(digest)
        name = digest.hex()
        return self._root / name[:2] / name

    def _read(self, path: Path) -> bytes | None:
        try:
            return path.read_bytes()
        except FileNotFoundError:
            return None

    def _write(self, path: Path, data: bytes) -> None:
        if path.parent not in self._synced:
            path.parent.mkdir(exist_ok=True)
            _sync_folder(self._root)
            self._synced.add(path.parent)
        unfinished = self._root / _UNFINISHED / f"{path.name}.{uuid.uuid4().hex}"
        try:
            with unfinished.open("xb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            unfinished.replace(path)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def _delete_abandoned(self) -> None:
        until = time.time() - _ABANDONED_S
        for path in (self._root / _UNFINISHED).iterdir():
            with suppress(FileNotFoundError):  # renamed or deleted meanwhile by another process
                if path.stat().st_mtime < until:
                    path.unlink()


class StoreClaims:
    """One record for each value in a store, which may also hold runs. The processes must be on one machine.

    Raises `ValueError` for a store that exists only in this process.
    """

    def __init__(self, store: Store) -> None:
        if store.private:
            raise ValueError(f"{type(store).__name__} exists only in this process: give an LMDBStore or a folder")
        self._store = store
        self.location = str(store.folder)

    def put(self, digest: bytes, data: bytes) -> None:
        """Store a value, with the durability of the store. Raises `StoreError`."""
        key = self._key(digest)
        record = seal(CLAIM, data, key)
        if self._store.get(key) != record:
            self._store.commit(Put(key, record))

    def get(self, digest: bytes) -> bytes | None:
        """Return the bytes stored under a digest, or `None`. Raises `DamagedRecord` or `StoreError`."""
        key = self._key(digest)
        record = self._store.get(key)
        return None if record is None else unseal(CLAIM, record, key)

    def _key(self, digest: bytes) -> bytes:
        check_digest(digest)
        return bytes((CLAIM,)) + digest


class S3Claims:
    """One object for each value, in a bucket of S3 or of a service with its interface.

    `url` is `s3://bucket/prefix`. Endpoint, region and credentials are those of the AWS SDK: `AWS_ENDPOINT_URL_S3`,
    `AWS_DEFAULT_REGION`, `AWS_ACCESS_KEY_ID`, `AWS_PROFILE` and so on, its configuration files, or the role of the
    machine. The bucket must exist. Reading needs the permissions `s3:GetObject` and `s3:ListBucket`: without the
    second, S3 reports a missing object as a forbidden one. Writing needs `s3:PutObject`.

    Needs the extra `s3`, and raises `ImportError` without it; raises `ValueError` for another kind of URL, and
    `ClaimsFailed` if the settings cannot be used.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        if parts.scheme != "s3" or not parts.netloc or parts.query or parts.fragment or "@" in parts.netloc:
            raise ValueError(f"{url!r} does not name a bucket: give s3://bucket or s3://bucket/prefix")
        try:
            import botocore.session  # noqa: PLC0415 - of the extra s3, and slow
            from botocore.config import Config  # noqa: PLC0415
            from botocore.exceptions import BotoCoreError, ClientError  # noqa: PLC0415
        except ImportError as error:
            raise ImportError(f"{url!r} needs the package botocore: pip install 'beluga-graph[s3]'") from error
        self.location = url
        self._bucket = parts.netloc
        self._prefix = parts.path.strip("/") + "/" if parts.path.strip("/") else ""
        self._refusal: Any = ClientError
        self._errors: Any = (BotoCoreError, ClientError)
        try:
            session = botocore.session.get_session()
            self._client = session.create_client("s3", config=Config(max_pool_connections=CONNECTIONS_MAX))
        except (BotoCoreError, ValueError) as error:  # ValueError: an endpoint that is not a URL
            raise ClaimsFailed(url, "opening the location for", str(error)) from error

    def put(self, digest: bytes, data: bytes) -> None:
        """Store a value. The service verifies the digest, unless it ignores checksums. Raises `ClaimsFailed`."""
        checksum = base64.b64encode(digest).decode()
        try:
            self._client.put_object(Bucket=self._bucket, Key=self._key(digest), Body=data, ChecksumSHA256=checksum)
        except self._errors as error:
            raise ClaimsFailed(self.location, "writing", str(error)) from error

    def get(self, digest: bytes) -> bytes | None:
        """Return the bytes stored under a digest, or `None`. Raises `ClaimsFailed`."""
        key = self._key(digest)
        try:
            with self._client.get_object(Bucket=self._bucket, Key=key)["Body"] as body:
                data: bytes = body.read()
        except self._errors as error:
            if isinstance(error, self._refusal) and error.response.get("Error", {}).get("Code") == "NoSuchKey":
                return None
            raise ClaimsFailed(self.location, "reading", str(error)) from error
        return data

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def _key(self, digest: bytes) -> str:
        check_digest(digest)
        return self._prefix + digest.hex()


def _sync_folder(path: Path) -> None:
    """Write the entries of a folder to disk."""
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
