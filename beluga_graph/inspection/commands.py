"""Commands that move a run, as texts to copy: for the shell, or as Python calls where no command reaches the store."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from stores import LMDBStore
from stores.base import Store

__all__ = ["Commands", "PythonCalls", "ShellCommands", "commands_for"]


class Commands(Protocol):
    """The commands that explanations name."""

    def answer(self, run_id: str, question: str) -> str:
        """Return the command that answers a question."""

    def signal(self, run_id: str, signal: str, *, is_typed: bool) -> str:
        """Return the command that sends a signal; with a placeholder for the payload if the wait names a type."""

    def resume(self, run_id: str) -> str:
        """Return the command that continues one run, also a failed one."""

    def drive(self) -> str:
        """Return the command that drives all runs."""


class ShellCommands:
    """Commands of `beluga-graph`.

    `place` are the options that name the place of the runs, and `drive` is the command that drives them.
    """

    def __init__(self, place: Sequence[str], drive: str) -> None:
        self._place, self._drive = place, drive

    def answer(self, run_id: str, question: str) -> str:
        """Return the command that answers a question."""
        return self._command("answer", run_id, question, "approve")

    def signal(self, run_id: str, signal: str, *, is_typed: bool) -> str:
        """Return the command that sends a signal."""
        return self._command("signal", run_id, signal, *(["JSON"] if is_typed else []))

    def resume(self, run_id: str) -> str:
        """Return the command that continues one run."""
        return self._command("resume", run_id, options=("--flow", "MODULE:FLOW"))

    def drive(self) -> str:
        """Return the command that drives all runs."""
        return self._command(self._drive, "MODULE:FLOW")

    def _command(self, name: str, *arguments: str, options: tuple[str, ...] = ()) -> str:
        options = (*options, *self._place)
        if any(argument.startswith("-") for argument in arguments):  # such as a run id, which may be any text
            return shlex.join(("beluga-graph", name, *options, "--", *arguments))
        return shlex.join(("beluga-graph", name, *arguments, *options))


class PythonCalls:
    """Calls of an engine in Python, for runs that no command reaches."""

    def answer(self, run_id: str, question: str) -> str:
        """Return the call that answers a question."""
        return f"await engine.answer({run_id!r}, {question!r}, 'approve')"

    def signal(self, run_id: str, signal: str, *, is_typed: bool) -> str:
        """Return the call that sends a signal."""
        return f"await engine.signal({run_id!r}, {signal!r}{', payload' if is_typed else ''})"

    def resume(self, run_id: str) -> str:
        """Return the call that continues one run."""
        return f"await engine.resume({run_id!r})"

    def drive(self) -> str:
        """Return the call that drives all runs."""
        return "await engine.serve()"


def commands_for(store: Store) -> Commands:
    """Return the commands that reach the runs of a store."""
    if not isinstance(store, LMDBStore):
        return PythonCalls()
    path, here = Path(store.path), Path.cwd()
    return ShellCommands(("--store", str(path.relative_to(here) if path.is_relative_to(here) else path)), "serve")
