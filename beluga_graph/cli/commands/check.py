"""`check`: which unfinished runs could not continue with flows as they are now."""

from __future__ import annotations

from typing import TYPE_CHECKING

import typer
from rich.text import Text

from beluga_graph.cli.console import load_flow, new_table, print_json, print_line, print_table, with_engine
from beluga_graph.cli.exit_codes import Exit
from beluga_graph.cli.options import FlowNames, Json, Store, command, default_store
from beluga_graph.cli.terminal_text import one_line

if TYPE_CHECKING:
    from beluga_graph import Engine, JudgedChange
    from beluga_graph.flows.flow import Flow

app = typer.Typer()


@command(app)
def check(flows: FlowNames, store: Store = default_store, json: Json = False) -> None:
    """List the unfinished runs that changed flows would break.

    Run it before a deploy, with all the flows that the new process registers. It names the changes that each run cannot
    continue with, also that its version is missing, and exits with 1 if there is such a run.
    """
    loaded = [load_flow(flow) for flow in flows]
    found = with_engine(store, lambda engine: _check_all(engine, loaded))
    broken = {run_id: changes for run_id, changes in found.items() if changes}
    if json:
        reasons = {run_id: [str(change) for change in changes] for run_id, changes in broken.items()}
        print_json({"checked": len(found), "broken": reasons})
    elif not broken:
        print_line(f"unfinished runs: {len(found):,}; all can continue with {', '.join(flows)}")
    else:
        table = new_table("run", "cannot continue with")
        for run_id, changes in broken.items():
            for change in changes:
                table.add_row(Text(one_line(run_id)), Text(one_line(str(change))))
        print_table(table)
    if broken:
        raise typer.Exit(Exit.error)


async def _check_all(engine: Engine, flows: list[Flow]) -> dict[str, tuple[JudgedChange, ...]]:
    """Return the unsafe changes for each unfinished run of some flows."""
    for flow in flows:
        engine.register(flow)
    found: dict[str, tuple[JudgedChange, ...]] = {}
    for flow in flows:
        found |= await engine.check(flow)
    return found
