"""Deploying: which unfinished runs a flow, as it is now, would break."""

from __future__ import annotations

from pathlib import Path

import typer
from rich.text import Text

from beluga_graph.cli.commands.runs import console, load_flow, new_table, print_json, print_table, with_engine
from beluga_graph.cli.exit_codes import Exit
from beluga_graph.cli.terminal_text import one_line

__all__ = ["check"]


def check(store: Path, flow: str, *, json: bool) -> None:
    """Tell which unfinished runs could not go on with a flow, and why. Exits with 1 if there are any."""
    known = load_flow(flow)
    found = with_engine(store, lambda engine: engine.check(known))
    broken = {run_id: changes for run_id, changes in found.items() if changes}
    if json:
        told = {run_id: [str(change) for change in changes] for run_id, changes in broken.items()}
        print_json({"checked": len(found), "broken": told})
    elif not broken:
        console().print(f"unfinished runs: {len(found):,}; all can go on with {flow}", soft_wrap=True)
    else:
        table = new_table("run", "cannot go on with")
        for run_id, changes in broken.items():
            for change in changes:
                table.add_row(Text(one_line(run_id)), Text(one_line(str(change))))
        print_table(table)
    if broken:
        raise typer.Exit(Exit.error)
