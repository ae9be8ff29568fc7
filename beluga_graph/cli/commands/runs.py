"""`runs`, `history`, `events`: the runs of a store, and the steps and events of one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated

import typer
from rich.text import Text

from beluga_graph import Event, RunStatus, StepInfo
from beluga_graph.cli.console import console, new_table, print_json, print_line, print_table, status_text, with_engine
from beluga_graph.cli.options import Json, RunId, Store, command, default_store
from beluga_graph.cli.places import Place, at_place
from beluga_graph.cli.terminal_text import brief, local_time, to_printable

app = typer.Typer()


@command(app)
@at_place
def runs(
    status: Annotated[
        list[RunStatus] | None,
        typer.Option("--status", help="List only runs of this status; may be repeated.", show_default=False),
    ] = None,
    flow: Annotated[str | None, typer.Option("--flow", help="List only runs of this flow.", metavar="NAME")] = None,
    *,
    place: Place,
    json: Json = False,
) -> None:
    """List the runs of a store or a server, the newest last."""
    found = sorted(
        (
            run
            for run in place.run(lambda engine: engine.runs())
            if (not status or run.status in status) and flow in (None, run.flow)
        ),
        key=lambda run: (run.created_ms, run.run_id),
    )
    if json:
        print_json(found)
        return
    if not found:
        print_line(f"no {'such ' if status or flow else ''}run in {place}")
        return
    table = new_table("run", "flow", "status", "created", "status since")
    for run in found:
        table.add_row(
            Text(to_printable(run.run_id)),
            Text(to_printable(run.flow)),
            status_text(run.status),
            local_time(run.created_ms),
            local_time(run.updated_ms),
        )
    print_table(table)


@command(app)
def history(run: RunId, store: Store = default_store, json: Json = False) -> None:
    """List the committed steps of a run."""
    steps = with_engine(store, lambda engine: engine.history(run))
    if json:
        print_json(steps)
        return
    table = new_table("step", "at", "what happened", "token", "attempt", "events")
    for step in steps:
        table.add_row(
            str(step.seq),
            local_time(step.at_ms),
            step.trigger,
            Text(to_printable(step.token)),
            str(step.attempt or ""),
            Text(_event_types(step)),
        )
    console().print(table)


def _event_types(step: StepInfo) -> str:
    return ", ".join(event.type if not event.error else f"{event.type}: {brief(event.error)}" for event in step.events)


@command(app)
def events(
    run: RunId,
    after: Annotated[int, typer.Option("--after", help="List only events of later steps.", metavar="N", min=0)] = 0,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """List the stored events of a run, step by step."""
    steps = with_engine(store, lambda engine: engine.history(run))
    found = [event for step in steps if step.seq > after for event in step.events]
    if json:
        print_json(found)
        return
    if not found:
        print_line(f"no event after step {after:,}")
        return
    table = new_table("step", "type", "where", "what")
    for event in found:
        where, details = Text(to_printable(event.token or event.node)), Text(", ".join(_details(event)))
        table.add_row(f"{event.seq}.{event.index}", event.type, where, details)
    console().print(table)


def _details(event: Event) -> Iterator[str]:
    """Yield the fields of an event beside its type and place, briefly."""
    for name in ("name", "source", "target", "error", "arguments", "output", "text"):
        value = getattr(event, name)
        if value not in (None, ""):
            yield f"{name}: {brief(value)}"
    if event.due_ms is not None:
        yield f"due: {local_time(event.due_ms)}"
