"""The command line.

    app         the commands that look, the demo, and their options
    operating   the commands that act, and their options
    options     what all of them share
    given       JSON and durations of the command line
    demo        `demo`: which run to go on with, and the words around it
    progress    what a person sees of a run that goes on
    looking     `runs`, `history`, `events`: what is in a store
    showing     `show`: one run
    trees       the tree of visits that `show` prints
    comparing   `diff`: two runs beside each other
    drawing     `draw`: what a flow, and a run of it, looks like
    sending     `pending`, `answer`, `signal`, `cancel`: what a person says to runs
    driving     `resume`, `fork`, `serve`: runs that go on in this process
    deploying   `check`: which runs a flow would break
    tending     `prune`, `compact`: what keeps a store small
    checking    `verify`: every record of a store, read
    glance      a value in a few words
    shown       stored data as text for a terminal, and as JSON
    ends        exit codes, and errors as one line

Nothing stored is ever imported or run: code is loaded only by a name on the command line.
"""

from __future__ import annotations

import contextlib
import io
import sys

__all__ = ["main"]


def main() -> None:
    """Run the command line and exit with its code."""
    from beluga_graph.cli.app import app  # noqa: PLC0415 - typer and rich are loaded by the program alone

    for stream in (sys.stdout, sys.stderr):
        # Stored text may hold what the terminal's encoding lacks; that must not end a listing.
        with contextlib.suppress(io.UnsupportedOperation):
            if isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
    app(prog_name="beluga-graph")
