"""A failed write does no damage: the process continues or ends, no step is lost, and no node runs twice."""

import asyncio
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import failing_disk_child
import pytest
from failing_disk import build, environment, left
from failing_disk_child import NODES

from beluga_graph import Engine
from beluga_graph.storage.verify import verify_store
from stores import LMDBStore

FAULTS = ["meta", "sync"]


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("library"))


@contextmanager
def child(library: Path, folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    command = [sys.executable, failing_disk_child.__file__, arguments[0], str(folder), *arguments[1:]]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, text=True, env=environment(library, folder / "fault"), **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def ran(folder: Path) -> list[int]:
    """Return the numbers of the nodes that ran, in order."""
    return [int(line.split()[0]) for line in (folder / "log").read_text().splitlines()]


@pytest.mark.parametrize("what", FAULTS)
def test_a_store_goes_on_after_a_failed_write_and_names_the_cause(library: Path, tmp_path: Path, what: str) -> None:
    with child(library, tmp_path, "store", what) as process:
        said, complaints = process.communicate()
    assert process.returncode == 0, complaints
    error, *rest = said.splitlines()
    assert error.startswith("StoreFailed store ")
    assert "EIO (" in error
    assert "while writing" in error
    assert "damage" not in error
    assert rest == ["0 b'0'", "[] b'2'", "True"]
    with closing(LMDBStore(tmp_path / "store")) as store:
        assert store.get(b"k") == b"2"
        assert sum(1 for _ in store.scan(b"m")) == 3000


@pytest.mark.parametrize("what", FAULTS)
def test_an_engine_resumes_a_run_whose_commit_failed(library: Path, tmp_path: Path, what: str) -> None:
    with child(library, tmp_path, "engine", what) as process:
        said, complaints = process.communicate()
    assert process.returncode == 0, complaints
    error, result = said.splitlines()
    assert "EIO" in error
    assert result == str(NODES)
    assert ran(tmp_path) == [0, 1, 2, 2, 3, 4, 5]  # the one whose commit failed runs again, no other


@pytest.mark.parametrize("what", FAULTS)
@pytest.mark.parametrize("count", [1, 2, 5])
async def test_a_serving_process_continues_by_itself(library: Path, tmp_path: Path, what: str, count: int) -> None:
    """Also if the lease cannot be given back because the disk fails again: no other process could take the run over."""
    with child(library, tmp_path, "serve", what, str(count)) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "serving\n"
        async with Engine(tmp_path / "store") as engine:
            until = asyncio.get_running_loop().time() + 60
            while await engine.status("r") != "completed":
                assert process.poll() is None, process.communicate()
                assert asyncio.get_running_loop().time() < until
                await asyncio.sleep(0.02)
        process.send_signal(signal.SIGTERM)
        said, complaints = process.communicate()
        assert (process.returncode, said) == (0, "handed back\n"), complaints
    assert left(tmp_path / "fault") == 0
    assert sorted(set(ran(tmp_path))) == list(range(NODES))
    assert all(ran(tmp_path).count(number) == 1 for number in range(NODES) if number != 2)
    with closing(LMDBStore(tmp_path / "store")) as store:
        assert verify_store(store).damage == ()
