"""Fixtures of the paid tests: a server that counts each answer as paid, and a process whose forks ask it and die."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
# The helpers for the providers' wire formats, and for the command line.
sys.path.extend(str(HERE.parent / folder) for folder in ("models", "cli"))

from paid_processes import Payer  # noqa: E402 - needs the path above
from paid_server import PaidServer  # noqa: E402


@pytest.fixture(scope="session")
def paid_server() -> Iterator[PaidServer]:
    with PaidServer() as server:
        yield server


@pytest.fixture(scope="session")
def payer(paid_server: PaidServer) -> Iterator[Payer]:
    path = os.pathsep.join(map(str, (ROOT, HERE.parent / "models")))
    with subprocess.Popen(
        [sys.executable, "-W", "error", str(HERE / "paid_child.py")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": path},
    ) as process:
        yield Payer(process, paid_server)
