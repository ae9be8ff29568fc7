"""A small folder of documents, and helpers to call the command line."""

import os
import random
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from typer.testing import CliRunner, Result

from beluga_graph.cli.app import app

ROOT = Path(__file__).parents[2]
WORDS = ("harbour", "whale", "graph", "node", "commit", "winter", "ledger", "branch", "river", "crash", "lantern")
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error", "COLUMNS": "120"}


def write_documents(folder: Path, number: int = 24, *, seed: int = 7) -> Path:
    """Write a folder with prose, code, good and broken links, and some files that are not documents."""
    folder.mkdir()
    chance = random.Random(seed)
    for index in range(number):
        sentences = []
        for _ in range(12):
            words = [chance.choice(WORDS) for _ in range(chance.randint(9, 14))]
            sentences.append(" ".join(words).capitalize() + ".")
        prose = " ".join(sentences)
        if index % 3 == 2:
            text = (
                f'"""{prose}"""\n\ndef function_{index}() -> None:\n    # See https://example.org/{index}.\n    pass\n'
            )
            (folder / f"module_{index:02}.py").write_text(text)
        else:
            links = f"[next](text_{index:02}.md) and [lost](nowhere_{index}.md) and https://example.com/{index}."
            (folder / f"text_{index:02}.md").write_text(f"# Text {index} & *many*\n\n{prose}\n\n{links}\n")
    (folder / "picture.png").write_bytes(b"\x89PNG")
    (folder / "binary.txt").write_bytes(b"some\0thing")
    (folder / "latin.txt").write_bytes("caf\xe9".encode("latin-1"))
    (folder / "huge.txt").write_bytes(b"word " * 300_000)
    (folder / ".hidden.md").write_text("# Hidden\n")
    (folder / ".git").mkdir()
    (folder / ".git" / "config.md").write_text("# Hidden\n")
    (folder / "link.md").symlink_to(folder / "huge.txt")
    return folder


def invoke(*args: object) -> Result:
    """Call the command line in this process."""
    return CliRunner().invoke(app, [str(arg) for arg in args])


def spawn(*args: object, program: tuple[str, ...] = ("-m", "beluga_graph"), **options: Any) -> subprocess.Popen[Any]:
    """Start the command line in another process; its output is a text pipe."""
    command = [sys.executable, *program, *map(str, args)]
    pipes: dict[str, Any] = {
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "text": True,
        "env": ENVIRONMENT,
        **options,
    }
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a shell's background job ignores Ctrl-C; so would its child
        signal.signal(signal.SIGINT, signal.default_int_handler)
    return subprocess.Popen(command, **pipes)


def spawn_gated(reads: int, *args: object) -> subprocess.Popen[Any]:
    """Start the command line with a demo that reads this many documents, then waits until its input is closed."""
    child = str(Path(__file__).with_name("cli_gated_child.py"))
    return spawn(*args, program=(child, str(reads)), stdin=subprocess.PIPE)


def wait_for(process: subprocess.Popen[str], text: str) -> str:
    """Read a process's output up to a line with this text; fail if there is no such line."""
    seen = ""
    for line in process.stdout or ():
        seen += line
        if text in line:
            return seen
    raise AssertionError(f"{text!r} is not in:\n{seen}")
