"""`resume`, `fork`, `serve`: runs that advance in this process until they end, wait, or the process is stopped."""

from __future__ import annotations

import asyncio
import contextlib
import shlex
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import beluga_graph
from beluga_graph import GraphChanged, RunStatus
from beluga_graph.cli.console import load_flow, open_bus, print_event, print_json, print_line, require_store
from beluga_graph.cli.exit_codes import CommandError, Exit, print_error
from beluga_graph.cli.options import (
    BusFolder,
    FlowNames,
    FlowOption,
    Grace,
    Json,
    RunId,
    Store,
    command,
    default_bus,
    default_grace,
    default_store,
)
from beluga_graph.cli.parsing import parse_assignments, parse_renames
from beluga_graph.cli.places import Place, at_place
from beluga_graph.cli.temporal_options import TemporalPlace
from beluga_graph.cli.terminal_text import brief, local_time

if TYPE_CHECKING:
    from beluga_graph.flows.flow import Flow
    from beluga_graph.inspection.waits import RunWaits

app = typer.Typer()

_POLL_S = 0.05


@command(app)
@at_place
def resume(
    run: RunId,
    flow: FlowOption,
    wait: Annotated[
        bool,
        typer.Option("--wait", help="Wait while another process drives the run, instead of exiting with code 4."),
    ] = False,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            "--rename", help="The new path of a node that a changed flow renames; may be repeated.", metavar="OLD=NEW"
        ),
    ] = None,
    *,
    place: Place,
    json: Json = False,
) -> None:
    """Continue a run in this process until it ends or waits. A failed run retries the nodes that failed.

    A run on a server goes on there, with its workers: the command does not wait for it.
    """
    renames = parse_renames(rename or (), "--rename")
    try:
        if place.server is None:
            _drive(place.store, flow, lambda engine: engine.resume(run, wait=wait, rename=renames), json=json)
        else:
            asyncio.run(_resume_at(place.server, run, flow, renames, json=json))
    except GraphChanged as error:
        if not error.rename:
            raise
        options = " ".join(shlex.quote(f"--rename={old}={new}") for old, new in error.rename.items())
        raise CommandError(f"{error}. As options of this command, these renames are: {options}") from error


async def _resume_at(place: TemporalPlace, run_id: str, flow: str, renames: dict[str, str], *, json: bool) -> None:
    loaded = load_flow(flow)
    async with place.open() as engine:
        engine.register(loaded)
        status = await (await engine.resume(run_id, rename=renames)).status()
    if json:
        print_json({"run_id": run_id, "status": status})
    else:
        print_line(f"run {run_id!r} is {status} on the server")


@command(app)
def fork(
    run: RunId,
    seq: Annotated[int, typer.Argument(help="The step, as `history` lists it.", metavar="SEQ", min=0)],
    flow: FlowOption,
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
            "--replace", help="Replace the value of a field of the state; may be repeated.", metavar="FIELD=JSON"
        ),
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Start a new run from a step of another run.

    It continues until it ends or waits. Signals that were not yet delivered are copied. Pending questions are asked
    again.
    """
    updates = parse_assignments(update or (), "--set")
    replacements = parse_assignments(replace or (), "--replace")

    async def begin(engine: beluga_graph.Engine) -> beluga_graph.Run:
        made = await engine.fork(run, seq, run_id_new=new_id, update=updates, replace=replacements)
        if not json:  # at once: after Ctrl-C the user needs the id of the run that was started
            print_line(f"run {made.id!r} is a fork of {run!r} after step {seq}")
        return made

    _drive(store, flow, begin, json=json)


def _drive(
    store: Path, flow: str, begin: Callable[[beluga_graph.Engine], Awaitable[beluga_graph.Run]], *, json: bool
) -> None:
    loaded = load_flow(flow)

    async def call() -> tuple[str, beluga_graph.Outcome | RunWaits]:
        async with beluga_graph.Engine(require_store(store)) as engine:
            engine.register(loaded)
            run = await begin(engine)
            return run.id, await _until_it_ends_or_waits(engine, run)

    run_id, found = asyncio.run(call())
    if isinstance(found, beluga_graph.Outcome):
        _print_outcome(run_id, found, json=json)
    else:
        _print_waits(run_id, found, json=json)


async def _until_it_ends_or_waits(
    engine: beluga_graph.Engine, run: beluga_graph.Run
) -> beluga_graph.Outcome | RunWaits:
    """Return the outcome of a run, or its waits once it is parked with all its signals delivered."""
    ending = asyncio.ensure_future(run.outcome())
    try:
        while not (await asyncio.wait({ending}, timeout=_POLL_S))[0]:
            if (waits := await engine.inspector.waits(run.id)) is not None:
                return waits
        return await ending
    finally:
        ending.cancel()


def _print_waits(run_id: str, waits: RunWaits, *, json: bool) -> None:
    lines = [f"signal {signal!r}" for signal in waits.signals]
    lines += [f"the answer to question {question!r}" for question in waits.questions]
    if waits.due_ms is not None:
        lines.append(f"its timer at {local_time(waits.due_ms)}")
    if json:
        print_json({"run_id": run_id, "status": RunStatus.waiting, "waits_for": lines})
    else:
        print_line(f"run {run_id!r} waits for {' or '.join(lines)}")


def _print_outcome(run_id: str, outcome: beluga_graph.Outcome, *, json: bool) -> None:
    if json:
        print_json({"run_id": run_id, "outcome": outcome})
    elif outcome.status == RunStatus.completed:
        output = brief(outcome.output, 10_000)
        print_line(f"run {run_id!r} is completed after {outcome.steps:,} nodes; its output: {output}")
    else:
        print_error(f"run {run_id!r} is {outcome.status}{_reason(outcome)}")
    if outcome.status != RunStatus.completed:
        raise typer.Exit(Exit.failed)


def _reason(outcome: beluga_graph.Outcome) -> str:
    """Return why a run ended without an output, and how to go on."""
    failure = outcome.failure
    if failure is None:
        return ""
    text = f" at node {failure.node!r}: {failure.type}: {failure.message}"
    if not failure.node and failure.type == "Timeout":
        return f"{text}; its time is over, also for a resume or a fork: start a new run"
    return f"{text}; fix the cause and resume it, or cancel it" if outcome.status == RunStatus.failed else text


@command(app)
def serve(
    flows: FlowNames,
    max_runs: Annotated[
        int | None,
        typer.Option(
            "--max-runs", help="Most runs with work in progress at a time.", metavar="N", min=1, show_default=False
        ),
    ] = None,
    grace: Grace = default_grace,
    bus: BusFolder = default_bus,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Drive the runs of flows until SIGTERM or Ctrl-C.

    Every run that has something to do advances: new, due, signalled, or left behind by a dead process. A stop loses
    nothing: nodes that finish within the grace are committed, and the others run again where the run is served next.
    The bus may use the folder of the store. Without --bus, events that runs publish are stored until an engine with a
    bus relays them.
    """
    loaded = list(dict.fromkeys(map(load_flow, flows)))
    names = [flow.id for flow in loaded]
    for name in names:
        if names.count(name) > 1:
            text = f"two flows are called {name!r}: rename one, or give them versions"
            raise typer.BadParameter(text, param_hint="MODULE:FLOW")
    asyncio.run(_serve(loaded, store, max_runs, grace, bus, json=json))
    print_event("stopped", "stopped; every run was handed back", json=json)


async def _serve(
    flows: list[Flow], store: Path, max_runs: int | None, grace_s: float, bus: Path | None, *, json: bool
) -> None:
    is_new = not (store / "data.mdb").is_file()

    async with contextlib.AsyncExitStack() as stack:
        event_bus = await stack.enter_async_context(open_bus(bus, json=json)) if bus is not None else None
        engine = await stack.enter_async_context(beluga_graph.Engine(store, bus=event_bus))
        names = [engine.register(flow).name for flow in flows]
        serving = asyncio.ensure_future(engine.serve(max_runs=max_runs, grace=grace_s))
        await asyncio.sleep(0)  # now the signal handlers are installed, so that SIGTERM stops it in order
        if not serving.done():
            where = f"{store}, a new store" if is_new else str(store)
            text = f"serving {', '.join(names)} in {where}; SIGTERM or Ctrl-C ends it"
            print_event("ready", text, json=json, flows=names, new_store=is_new)
        await serving
