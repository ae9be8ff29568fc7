"""A fixture of the crash tests: one process whose forks run the flows and die."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from crash_processes import Killer

import beluga_graph


@pytest.fixture(scope="session")
def killer() -> Iterator[Killer]:
    program = Path(__file__).with_name("crash_child.py")
    root = Path(beluga_graph.__file__).parent.parent
    with subprocess.Popen(
        [sys.executable, str(program)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={"PYTHONPATH": str(root)},
    ) as process:
        yield Killer(process)
