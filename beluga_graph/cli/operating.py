"""The commands that act on runs, and their options. What they do is in the modules beside this one."""

# ruff: noqa: FBT002  # typer gives options by name

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from beluga_graph.cli.commands import check as deploying
from beluga_graph.cli.commands import drive as driving
from beluga_graph.cli.commands import maintain as tending
from beluga_graph.cli.commands import signals as sending
from beluga_graph.cli.exit_codes import told
from beluga_graph.cli.options import CODES, FlowName, Json, RunId, Store, default_store
from beluga_graph.cli.parsing import assignments, from_json, seconds_in
from beluga_graph.inspection.views import RunStatus
from beluga_graph.plan.declared import MISSING

__all__ = ["app"]

app = typer.Typer()

ItsFlow = Annotated[
    str,
    typer.Option("--flow", help="Its flow, such as package.module:name; the module is run.", metavar="MODULE:FLOW"),
]


class Decision(StrEnum):
    """What a person says to a question."""

    approve = "approve"
    reject = "reject"
    modify = "modify"


@app.command(epilog=CODES)
@told
def pending(store: Store = default_store, json: Json = False) -> None:
    """List what the runs ask people, the oldest question first."""
    sending.pending(store, json=json)


@app.command(epilog=CODES)
@told
def answer(
    run: RunId,
    question: Annotated[str, typer.Argument(help="The question, as `pending` lists it.", metavar="QUESTION")],
    decision: Annotated[Decision, typer.Argument(help="What you say to it.")],
    value: Annotated[
        str | None,
        typer.Option("--value", help="With modify: what to go on with instead.", metavar="JSON", show_default=False),
    ] = None,
    reason: Annotated[str, typer.Option("--reason", help="Why; stored with the answer.", metavar="TEXT")] = "",
    flow: Annotated[
        str | None,
        typer.Option(
            "--flow",
            help="The run's flow: a value that does not fit is refused at once. Its module is run.",
            metavar="MODULE:FLOW",
            show_default=False,
        ),
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Answer a question of a run, once. The run goes on wherever it is served, now or later."""
    if (decision is Decision.modify) != (value is not None):
        message = "modify needs it, and nothing else takes it"
        raise typer.BadParameter(message, param_hint="--value")
    meant = MISSING if value is None else from_json(value, "--value")
    sending.answer(store, run, question, decision.value, meant, reason=reason, flow=flow, json=json)


@app.command(epilog=CODES)
@told
def signal(
    run: RunId,
    name: Annotated[str, typer.Argument(help="The signal's name.", metavar="NAME")],
    payload: Annotated[
        str | None, typer.Argument(help="What it carries; null by default.", metavar="JSON", show_default=False)
    ] = None,
    text: Annotated[bool, typer.Option("--text", help="The payload is plain text, not JSON.")] = False,
    flow: Annotated[
        str | None,
        typer.Option(
            "--flow",
            help="The run's flow: a payload that does not fit is refused at once. Its module is run.",
            metavar="MODULE:FLOW",
            show_default=False,
        ),
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Send a signal to a run. It is delivered once, also if nothing drives the run now."""
    if text and payload is None:
        raise typer.BadParameter("it needs the text, after the signal's name", param_hint="--text")
    meant = payload if text or payload is None else from_json(payload, "JSON", otherwise="; or pass --text")
    sending.signal(store, run, name, meant, flow=flow, json=json)


@app.command(epilog=CODES)
@told
def cancel(run: RunId, store: Store = default_store, json: Json = False) -> None:
    """End a run for good, wherever it is driven."""
    sending.cancel(store, run, json=json)


@app.command(epilog=CODES)
@told
def resume(
    run: RunId,
    flow: ItsFlow,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for a run that another process drives, instead of exit code 4.")
    ] = False,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Go on with a run here, until it ends or waits. A failed one tries again what failed."""
    driving.resume(store, run, flow, wait=wait, json=json)


@app.command(epilog=CODES)
@told
def fork(
    run: RunId,
    seq: Annotated[int, typer.Argument(help="The step, as `history` lists it.", metavar="SEQ", min=0)],
    flow: ItsFlow,
    new_id: Annotated[
        str | None, typer.Option("--id", help="Id of the new run.", metavar="NEW", show_default=False)
    ] = None,
    update: Annotated[
        list[str] | None,
        typer.Option(
            "--set", help="Update a field of the state, through its reducer; may be repeated.", metavar="FIELD=JSON"
        ),
    ] = None,
    replace: Annotated[
        list[str] | None,
        typer.Option(
            "--replace",
            help="Give a field of the state this value, whatever it held; may be repeated.",
            metavar="FIELD=JSON",
        ),
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Start a new run from where one was, and go on with it until it ends or waits.

    Unread signals go along; what people were asked they are asked anew.
    """
    driving.fork(
        store,
        run,
        seq,
        flow,
        new_id=new_id,
        update=assignments(update or (), "--set"),
        replace=assignments(replace or (), "--replace"),
        json=json,
    )


@app.command(epilog=CODES)
@told
def serve(
    flows: Annotated[
        list[str],
        typer.Argument(
            help="Where the flows are, such as package.module:name; their modules are run.", metavar="MODULE:FLOW…"
        ),
    ],
    max_runs: Annotated[
        int | None,
        typer.Option(
            "--max-runs", help="The most runs with work under way at a time.", metavar="N", min=1, show_default=False
        ),
    ] = None,
    grace: Annotated[
        float,
        typer.Option(
            "--grace", help="How long what is under way may take to finish, once told to stop.", metavar="S", min=0.0
        ),
    ] = 10.0,
    bus: Annotated[
        Path | None,
        typer.Option(
            "--bus",
            help="Folder of the bus, which may be that of the store: what the runs publish goes there, and what "
            "becomes of them; that is also told here.",
            metavar="PATH",
            show_default=False,
        ),
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Drive every run of the flows that needs it, until SIGTERM or Ctrl-C. Nothing is lost then.

    Without a bus what the runs publish is kept for an engine that has one.
    """
    driving.serve(store, flows, max_runs=max_runs, grace_s=grace, bus=bus, json=json)


@app.command(epilog=CODES)
@told
def check(flow: FlowName, store: Store = default_store, json: Json = False) -> None:
    """Tell which unfinished runs a changed flow would break. Ask it before a deploy."""
    deploying.check(store, flow, json=json)


@app.command(epilog=CODES)
@told
def prune(
    older_than: Annotated[
        str,
        typer.Option(
            "--older-than", help="For how long they must have been over, such as 90s, 15m, 12h, 7d.", metavar="DURATION"
        ),
    ] = "0s",
    status: Annotated[
        list[RunStatus] | None,
        typer.Option("--status", help="Only these; may be repeated.", show_default="completed, cancelled"),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only tell which runs it would be.")] = False,
    bus: Annotated[
        bool, typer.Option("--bus", help="Instead of runs, events of the event bus that every name has handled.")
    ] = False,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Delete runs that are over, with all their records. Safe beside processes that serve."""
    named = [str(each) for each in status or (RunStatus.completed, RunStatus.cancelled)]
    since_s = seconds_in(older_than, "--older-than")
    if bus:
        if status or dry_run:
            message = "it deletes events; --status and --dry-run are for runs"
            raise typer.BadParameter(message, param_hint="--bus")
        tending.prune_bus(store, older_than_s=since_s, json=json)
        return
    tending.prune(store, older_than_s=since_s, status=named, dry_run=dry_run, json=json)


@app.command(epilog=CODES)
@told
def compact(store: Store = default_store, json: Json = False) -> None:
    """Give the room of deleted records back to the disk. Nobody else may have the store open."""
    tending.compact(store, json=json)
