"""The servers of the tests run workflows, keep them over a SIGKILL, skip time, and end with the tests."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from uuid import uuid4

import pytest
from servers import Server, dev_server, find_free_port
from small_workflows import Greeting, Pausing
from temporalio.client import Client
from temporalio.worker import Worker

QUEUE = "small"


def worker(client: Client) -> Worker:
    return Worker(client, task_queue=QUEUE, workflows=[Greeting, Pausing])


async def test_the_server_in_memory_runs_a_workflow(temporal_server: Server) -> None:
    client = await temporal_server.connect()
    async with asyncio.timeout(120), worker(client):
        handle = await client.start_workflow(Greeting.run, id=uuid4().hex, task_queue=QUEUE)
        await handle.signal(Greeting.name, "Ada")
        assert await handle.result() == "Hello, Ada!"


async def test_a_durable_server_keeps_its_workflows_and_its_port_over_a_sigkill(durable_server: Server) -> None:
    client = await durable_server.connect()
    started = await client.start_workflow(Greeting.run, id="kept", task_queue=QUEUE)
    await started.signal(Greeting.name, "Ada")
    durable_server.kill()
    assert not accepts(durable_server.port)
    durable_server.start()
    client = await durable_server.connect()
    async with asyncio.timeout(120), worker(client):
        assert await client.get_workflow_handle("kept").result() == "Hello, Ada!"


async def test_thirty_days_pass_at_once_on_the_server_that_skips_time(skipping_server: Server) -> None:
    client = await skipping_server.connect()
    async with asyncio.timeout(120), worker(client):
        assert await client.execute_workflow(Pausing.run, 30, id=uuid4().hex, task_queue=QUEUE) == 30


def test_a_server_ends_with_its_block_also_if_that_fails(tmp_path: Path) -> None:
    server = dev_server(tmp_path)
    with pytest.raises(ZeroDivisionError), server:
        fail_beside(server)
    assert not accepts(server.port)


def fail_beside(server: Server) -> None:
    assert accepts(server.port)
    raise ZeroDivisionError


def test_a_server_that_cannot_start_shows_its_own_output(tmp_path: Path) -> None:
    server = Server(["/bin/sh", "-c", "echo no disk; exit 3"], find_free_port(), tmp_path / "log")
    with pytest.raises(RuntimeError, match=f"on {server.address} does not accept calls: .*\nno disk"):
        server.start()
    server.kill()


STARTS_ONE = """
import sys
import time
from pathlib import Path
from servers import dev_server
with dev_server(Path(sys.argv[1])) as server:
    print(server.port, flush=True)
    sys.stdin.read()
"""


def test_a_server_ends_if_the_process_that_started_it_is_killed(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", STARTS_ONE, str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1] / "shared")},
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert accepts(port)
        process.send_signal(signal.SIGKILL)
    give_up = time.monotonic() + 60
    while accepts(port):  # the shell beside the server needs a moment to notice
        assert time.monotonic() < give_up
        time.sleep(0.01)


def accepts(port: int) -> bool:
    """Return whether a process accepts connections on this port of loopback."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
