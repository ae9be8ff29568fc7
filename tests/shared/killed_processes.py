"""Processes of tests that may kill themselves."""

import signal
import subprocess
import sys
from pathlib import Path

__all__ = ["run_child"]

ROOT = Path(__file__).parents[2]


def run_child(script: Path, *args: object) -> str | None:
    """Run a script, whose warnings are errors, and return its output; `None` if it was killed."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(script), *map(str, args)],
        capture_output=True,
        text=True,
        check=False,
        env={"PYTHONPATH": str(ROOT)},
    )
    if done.returncode == -signal.SIGKILL:
        return None
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.strip()
