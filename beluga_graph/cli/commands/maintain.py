"""`prune`, `compact`: delete ended runs and old events, and give their space back to the disk."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.text import Text

import beluga_graph
from beluga_graph import RunStatus
from beluga_graph.cli.console import new_table, print_json, print_line, print_table, require_store, with_engine
from beluga_graph.cli.options import Json, Store, command, default_store
from beluga_graph.cli.parsing import parse_seconds
from beluga_graph.cli.terminal_text import local_time, to_printable
from stores import LMDBStore

app = typer.Typer()

_PRUNED = "pruned; `compact` gives the space back to the disk"


@command(app)
def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", help="Only runs that ended at least this long ago: 90s, 15m, 12h, 7d.", metavar="DURATION"
        ),
    ] = "0s",
    status: Annotated[
        list[RunStatus] | None,
        typer.Option(
            "--status", help="Only runs of this status; may be repeated.", show_default="completed, cancelled"
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only list the runs that would be deleted.")] = False,
    bus: Annotated[
        bool,
        typer.Option("--bus", help="Delete events instead: those that every named subscription has handled."),
    ] = False,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Delete ended runs with all their records. Safe while other processes serve the store."""
    older_than_s = parse_seconds(older_than, "--older-than")
    if bus:
        if status or dry_run:
            message = "it deletes events; --status and --dry-run are for runs"
            raise typer.BadParameter(message, param_hint="--bus")
        _prune_bus(store, older_than_s, json=json)
        return
    named = [str(each) for each in status or (RunStatus.completed, RunStatus.cancelled)]
    try:
        pruned = with_engine(store, lambda engine: engine.prune(older_than=older_than_s, status=named, dry_run=dry_run))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--status") from None
    if json:
        print_json({"dry_run": dry_run, "runs": pruned})
        return
    if pruned:
        table = new_table("run", "flow", "status", "status since")
        for run in pruned:
            table.add_row(
                Text(to_printable(run.run_id)), Text(to_printable(run.flow)), run.status, local_time(run.updated_ms)
            )
        print_table(table)
    print_line(f"{len(pruned):,} {'run' if len(pruned) == 1 else 'runs'} {'would be pruned' if dry_run else _PRUNED}")


def _prune_bus(store: Path, older_than_s: float, *, json: bool) -> None:
    async def call() -> int:
        async with beluga_graph.EventBus(require_store(store)) as bus:
            return await bus.prune(older_than=older_than_s)

    count = asyncio.run(call())
    if json:
        print_json({"events": count})
    else:
        print_line(f"{count:,} {'event' if count == 1 else 'events'} {_PRUNED}")


@command(app)
def compact(store: Store = default_store, json: Json = False) -> None:
    """Rewrite a store's file without the space of deleted records. No other process may have the store open."""
    opened = LMDBStore(require_store(store))
    try:
        before, after = opened.compact()
    finally:
        opened.close()
    if json:
        print_json({"bytes_before": before, "bytes_after": after})
    else:
        print_line(f"{before:,} bytes before, {after:,} bytes after")
