"""Large values in folders, stores and buckets: what each kind does on its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from claim_values import DATA, DIGEST
from servers import find_free_port

from beluga_graph.codec.records import seal
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.verify import verify_store
from beluga_graph.temporal.claims.backends import CLAIM, ClaimsFailed, FolderClaims, S3Claims
from beluga_graph.temporal.claims.claims import open_claims
from stores import LMDBStore, MemoryStore, Put

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
