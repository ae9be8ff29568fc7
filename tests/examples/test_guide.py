"""The pages of the guide are true: their programs run, and their commands print the output that they show.

A Python block that begins with a comment such as `# app.py` is a file of the page's folder; any other one is a
program. In a `console` block each line with a `$` is a command, and the lines below it are its output, in which `…`
matches any text. A `serve` or `worker` command runs until the page ends, or until the page stops it with `kill`. A page
that starts a Temporal server gets a real one, on another port. Packages are not installed: the tests have them.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from servers import dev_server

ROOT = Path(__file__).parents[2]
PAGES = sorted((ROOT / "examples/guide").glob("*.md"))
PATIENCE_S = 60.0
INSTALL, START_TEMPORAL = "pip install", "temporal server start-dev"
SERVING = ("beluga-graph serve", "beluga-graph worker")
TEMPORAL = "localhost:7233"


class Terminal:
    """Runs the blocks of a page in a folder."""

    def __init__(self, folder: Path, temporal: str) -> None:
        self.folder = folder / "page"
        self.folder.mkdir()
        self.server: subprocess.Popen[str] | None = None
        programs = folder / "bin"
        programs.mkdir()
        for name, command in (("python", ""), ("beluga-graph", "-m beluga_graph")):
            program = programs / name
            program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -W error {command} "$@"\n')
            program.chmod(0o755)
        self.environment = {
            **{key: value for key, value in os.environ.items() if not key.endswith("_API_KEY")},
            "TEMPORAL_ADDRESS": temporal,
            "PYTHONPATH": os.pathsep.join((str(ROOT), str(self.folder))),
            "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}",
        }

    def run_python(self, block: str) -> None:
        named = re.match(r"# (\w+\.py)\n", block)
        path = self.folder / (named[1] if named else "program.py")
        path.write_text(block)
        if not named:
            done = self._call(f"python {path.name}")
            assert done.returncode == 0, done.stdout

    def run_command(self, command: str, expected: str) -> None:
        """Run a command until it prints the expected output: another process may still have to do its work."""
        if command.startswith((INSTALL, START_TEMPORAL)):
            return
        if command.startswith(SERVING):
            self._serve(command, expected)
            return
        if command.startswith("kill"):
            self.stop()
            return
        end = time.monotonic() + PATIENCE_S
        while True:
            done = self._call(command)
            if done.returncode == 0 and (not expected or matches(expected, done.stdout)):
                return
            assert time.monotonic() < end, f"$ {command}\n{done.stdout}\nexpected:\n{expected}"
            time.sleep(0.1)

    def stop(self) -> None:
        if self.server is not None:
            self.server.terminate()
            output, _ = self.server.communicate(timeout=PATIENCE_S)
            assert self.server.returncode == 0, output
            self.server = None

    def kill(self) -> None:
        if self.server is not None:
            self.server.kill()
            self.server.communicate()

    def _serve(self, command: str, expected: str) -> None:
        self.server = subprocess.Popen(
            ["sh", "-c", f"exec {command}"],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        assert self.server.stdout is not None
        assert matches(expected, self.server.stdout.readline())

    def _call(self, command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["sh", "-c", command],
            cwd=self.folder,
            env=self.environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=PATIENCE_S,
            check=False,
        )


def matches(expected: str, output: str) -> bool:
    """Return whether lines of output match, up to spaces at their ends."""
    lines = [line.rstrip() for line in output.rstrip().splitlines()]
    pattern = ".*".join(map(re.escape, expected.rstrip().split("…")))
    return re.fullmatch(pattern, "\n".join(lines), re.DOTALL) is not None


def commands_of(block: str) -> Iterator[tuple[str, str]]:
    for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]:
        command, _, expected = part.partition("\n")
        yield command, expected


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page: Path, tmp_path: Path) -> None:
    text = page.read_text()
    with ExitStack() as stack:
        address = stack.enter_context(dev_server(tmp_path)).address if f"$ {START_TEMPORAL}" in text else TEMPORAL
        blocks = re.findall(r"^```(\w+)\n(.*?)^```", text.replace(TEMPORAL, address), re.MULTILINE | re.DOTALL)
        assert {kind for kind, _ in blocks} <= {"python", "console"}
        terminal = Terminal(tmp_path, address)
        stack.callback(terminal.kill)
        for kind, block in blocks:
            if kind == "python":
                terminal.run_python(block)
            else:
                for command, expected in commands_of(block):
                    terminal.run_command(command, expected)
        terminal.stop()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_a_page_is_short(page: Path) -> None:
    lines = page.read_text().splitlines()
    assert lines[0].startswith("# ")
    assert len(lines) < 150
    assert max(map(len, lines)) <= 160
