"""The app: all commands of the command line. Each is declared in a module of `commands`, beside its body."""

from __future__ import annotations

from typing import Annotated

import typer

from beluga_graph import __version__
from beluga_graph.cli.commands import (
    check,
    demo,
    diff,
    draw,
    drive,
    maintain,
    runs,
    schedule,
    show,
    signals,
    temporal,
    verify,
    why,
)
from beluga_graph.cli.options import CODES

__all__ = ["app"]

app = typer.Typer(
    name="beluga-graph",
    help="Durable graphs: run a demo and kill it, look into stores and flows, and operate runs.",
    epilog=CODES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its boxes show local variables, which may be secrets
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"beluga-graph {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that do not belong to a command."""


# The order of the help: first the demo, then the commands that look, then those that act.
for group in (demo, runs, show, why, diff, draw, verify, signals, drive, schedule, temporal, check, maintain):
    app.add_typer(group.app)
