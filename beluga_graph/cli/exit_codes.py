"""Exit codes, and expected errors as one line instead of a traceback."""

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

__all__ = ["CommandError", "Exit", "print_error", "report_errors"]

P = ParamSpec("P")
R = TypeVar("R")


class Exit(IntEnum):
    """The exit codes that the help documents. An unexpected error exits with 1 too, with its traceback."""

    ok = 0
    error = 1
    usage = 2
    failed = 3
    busy = 4
    interrupted = 130


class CommandError(Exception):
    """A command cannot do its work. The text says why, and how to go on."""


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


def report_errors(command: Callable[P, R]) -> Callable[P, R]:
    """Decorate a command so that it prints an expected error as one line and exits with the error's code."""

    @functools.wraps(command)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except BrokenPipeError:  # the reader of our output, such as `head`, has stopped reading: typer exits quietly
            raise
        except (KeyboardInterrupt, asyncio.CancelledError):
            raise typer.Exit(Exit.interrupted) from None
        except tuple(kind for kind, _ in _CODES) as error:
            print_error(str(error))
            code = next(code for kind, code in _CODES if isinstance(error, kind))
            raise typer.Exit(code) from None

    return call


def print_error(message: str) -> None:
    """Write one line to standard error."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    console.print(Text.assemble(("error: ", "bold red"), one_line(message)))
