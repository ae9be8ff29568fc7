"""`why`: why a run does not go on."""

from __future__ import annotations

import typer

from beluga_graph.cli.console import print_json, print_line
from beluga_graph.cli.options import Json, RunId, command
from beluga_graph.cli.places import Place, at_place

app = typer.Typer()


@command(app)
@at_place
def why(run: RunId, *, place: Place, json: Json = False) -> None:
    """Explain why a run does not go on: what each of its tokens waits for, since when, and what would move the run.

    Commands to copy are among the answers. It needs no code of the flow, and changes nothing.
    """
    found = place.run(lambda engine: engine.why(run))
    if json:
        print_json(found)
    else:
        for line in str(found).split("\n"):
            print_line(line)
