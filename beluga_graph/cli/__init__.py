"""The command line.

    app             all commands, assembled
    commands        each command's signature and body
    options         options that several commands share
    parsing         JSON, assignments and durations of the command line
    console         tables, JSON, stores and flows
    tree_view       the tree of visits that `show` prints
    demo_run        the runs of `demo`: which one, and how it is driven and reported
    demo_progress   the progress of a demo run
    summaries       a value in a few words
    terminal_text   stored data as text for a terminal, and as JSON
    exit_codes      exit codes, and errors as one line

Stored data is never imported or run: code is loaded only by a name on the command line.
"""

from __future__ import annotations

import contextlib
import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    from beluga_graph.cli.app import app  # noqa: PLC0415 - importing this package must not load typer and rich

    for stream in (sys.stdout, sys.stderr):
        # Stored text may hold characters that the terminal's encoding lacks; they must not end a listing.
        with contextlib.suppress(io.UnsupportedOperation):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    app(prog_name="beluga-graph")
