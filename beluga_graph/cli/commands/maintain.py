"""Tending: what keeps a store small. Runs that are over are taken out of it, and the disk gets its room back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import typer
from rich.text import Text

from beluga_graph import EventBus
from beluga_graph.cli.commands.runs import console, existing, new_table, print_json, print_table, with_engine
from beluga_graph.cli.terminal_text import local_time, plain
from stores import LMDBStore

__all__ = ["compact", "prune", "prune_bus"]


def prune(store: Path, *, older_than_s: float, status: Sequence[str], dry_run: bool, json: bool) -> None:
    """Delete the runs that have had one of these statuses for so long, or tell which they are."""
    try:
        gone = with_engine(store, lambda engine: engine.prune(older_than=older_than_s, status=status, dry_run=dry_run))
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--status") from None
    if json:
        print_json({"dry_run": dry_run, "runs": gone})
        return
    if gone:
        table = new_table("run", "flow", "status", "status since")
        for run in gone:
            table.add_row(Text(plain(run.run_id)), Text(plain(run.flow)), run.status, local_time(run.updated_ms))
        print_table(table)
    verb = "would be pruned" if dry_run else "pruned; `compact` gives their room back to the disk"
    console().print(f"{len(gone):,} {'run' if len(gone) == 1 else 'runs'} {verb}", soft_wrap=True)


def prune_bus(store: Path, *, older_than_s: float, json: bool) -> None:
    """Delete the events of a store's bus that are so old and handled by every named subscription."""

    async def call() -> int:
        async with EventBus(existing(store)) as bus:
            return await bus.prune(older_than=older_than_s)

    count = asyncio.run(call())
    if json:
        print_json({"events": count})
        return
    what = "event" if count == 1 else "events"
    console().print(f"{count:,} {what} pruned; `compact` gives their room back to the disk", soft_wrap=True)


def compact(store: Path, *, json: bool) -> None:
    """Rewrite the store's file without its free pages, and tell its size before and after."""
    opened = LMDBStore(existing(store))
    try:
        before, after = opened.compact()
    finally:
        opened.close()
    if json:
        print_json({"bytes_before": before, "bytes_after": after})
    else:
        console().print(f"{before:,} bytes before, {after:,} bytes after", soft_wrap=True)
