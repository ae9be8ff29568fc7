"""Temporal servers that only these tests need, and the path of the flows that other folders share."""

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
