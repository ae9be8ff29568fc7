"""`verify`: the damage of a store."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from beluga_graph.cli.console import open_store, print_json, require_store
from beluga_graph.cli.exit_codes import Exit, print_error
from beluga_graph.cli.options import Json, Store, command, default_store

if TYPE_CHECKING:
    from beluga_graph.inspection.verification import StoreReport

__all__ = ["check_path"]

app = typer.Typer()


@command(app)
def verify(store: Store = default_store, json: Json = False) -> None:
    """Check a store for damage: its file, every record, every run.

    Exits with 1 if something is damaged. It needs no code of the flows, changes nothing, and may run while other
    processes use the store. If pages of the file are damaged, nothing else is read. Each line names a run or a
    record, the damage, and how to repair it.
    """
    report = check_path(store)
    if json:
        print_json(report)
    else:
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in report.records.items()) or "none"
        typer.echo(f"records read: {sum(report.records.values()):,} ({kinds}); runs rebuilt: {report.runs:,}")
        for found in report.damage:
            print_error(f"{found.where}: {found.detail}; {found.advice}")
        if not report.damage:
            typer.echo("no damage")
    if report.damage:
        raise typer.Exit(Exit.error)


def check_path(path: Path) -> StoreReport:
    """Check the store at a path. Raises `CommandError` if there is none, and what `verify_path` raises."""
    from beluga_graph.inspection.verification import verify_path  # noqa: PLC0415 - no other command needs it

    return verify_path(require_store(path), open_store)
