"""`check`: which unfinished runs could not continue with a flow as it is now."""

from __future__ import annotations

import typer
from rich.text import Text

from beluga_graph.cli.console import load_flow, new_table, print_json, print_line, print_table, with_engine
from beluga_graph.cli.exit_codes import Exit
from beluga_graph.cli.options import FlowName, Json, Store, command, default_store
from beluga_graph.cli.terminal_text import one_line

app = typer.Typer()


@command(app)
def check(flow: FlowName, store: Store = default_store, json: Json = False) -> None:
    """List the unfinished runs that a changed flow would break.

    Run it before a deploy. It names the changes that each run cannot continue with, and exits with 1 if there is
    such a run.
    """
    loaded = load_flow(flow)
    found = with_engine(store, lambda engine: engine.check(loaded))
    broken = {run_id: changes for run_id, changes in found.items() if changes}
    if json:
        reasons = {run_id: [str(change) for change in changes] for run_id, changes in broken.items()}
        print_json({"checked": len(found), "broken": reasons})
    elif not broken:
        print_line(f"unfinished runs: {len(found):,}; all can continue with {flow}")
    else:
        table = new_table("run", "cannot continue with")
        for run_id, changes in broken.items():
            for change in changes:
                table.add_row(Text(one_line(run_id)), Text(one_line(str(change))))
        print_table(table)
    if broken:
        raise typer.Exit(Exit.error)
