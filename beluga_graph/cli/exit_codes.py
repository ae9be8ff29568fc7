"""Ends: exit codes, and the errors of the tree as one line instead of a traceback."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from enum import IntEnum
from typing import ParamSpec, TypeVar

import typer
from rich.console import Console
from rich.text import Text

from beluga_graph import BelugaError, LeaseLost, RunBusy, RunCancelled, RunFailed
from beluga_graph.cli.terminal_text import one_line
from stores import StoreBusy, StoreError

__all__ = ["CommandError", "Exit", "complain", "told"]

P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    """Exit codes, as the help documents them. An unexpected error is a 1 as well, with its traceback."""

    ok = 0
    error = 1
    usage = 2
    failed = 3
    busy = 4
    interrupted = 130


class CommandError(Exception):
    """What was asked for cannot be done; the text says why, and the way out."""


_CODES: tuple[tuple[type[BaseException], Exit], ...] = (
    (RunBusy, Exit.busy),
    (LeaseLost, Exit.busy),
    (StoreBusy, Exit.busy),
    (RunFailed, Exit.failed),
    (RunCancelled, Exit.failed),
    (BelugaError, Exit.error),
    (StoreError, Exit.error),
    (CommandError, Exit.error),
    (OSError, Exit.error),
)


def told(command: Callable[P, R]) -> Callable[P, R]:
    """Make a command tell its expected errors in one line and exit with their code."""

    @functools.wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # whoever read our output has enough; typer ends quietly
            raise
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise typer.Exit(Exit.interrupted) from None
        except tuple(kind for kind, _ in _CODES) as error:
            complain(str(error))
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            raise typer.Exit(code) from None

    return call


def complain(message: str) -> None:
    """Write one line to the error output."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), one_line(message)))
