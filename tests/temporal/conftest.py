"""Servers that only these tests need, and the path of the flows that other folders share."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from servers import Server, dev_server, time_skipping_server

sys.path.append(str(Path(__file__).parents[1] / "crash"))
sys.path.append(str(Path(__file__).parents[1] / "properties"))


@pytest.fixture(scope="session")
def skipping_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Run a server that skips time, for all tests of this process."""
    with time_skipping_server(tmp_path_factory.mktemp("skipping")) as server:
        yield server


@pytest.fixture
def durable_server(tmp_path: Path) -> Iterator[Server]:
    """Run a development server for one test, which may kill it and start it again on the same port."""
    with dev_server(tmp_path, durable=True) as server:
        yield server


@pytest.fixture(scope="session")
def s3_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Run a server of buckets, for all tests of this process, and return its URL."""
    from s3_server import s3_server  # noqa: PLC0415 - most tests need no client of buckets

    with s3_server(tmp_path_factory.mktemp("s3")) as url:
        yield url


@pytest.fixture
def bucket(s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return a prefix of a bucket, of this test only, and set the environment so that it is found."""
    from s3_server import S3_ENVIRONMENT  # noqa: PLC0415 - most tests need no client of buckets

    for name, text in S3_ENVIRONMENT.items():
        monkeypatch.setenv(name, text)
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", s3_url)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_MAX_ATTEMPTS", "1")
    return f"s3://claims/{tmp_path.name}"
