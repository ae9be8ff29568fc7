"""`worker`, `mirror`: runs on a Temporal server."""

from __future__ import annotations

import asyncio
import signal
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import beluga_graph
from beluga_graph.cli.console import load_flow, load_object, open_bus, print_event, print_json, print_line
from beluga_graph.cli.options import BusFolder, FlowNames, Grace, Json, RunId, command, default_bus, default_grace
from beluga_graph.cli.temporal_options import Claims, Namespace, Server, TaskQueue, TemporalPlace, default_task_queue

if TYPE_CHECKING:
    from beluga_graph.flows.flow import Flow
    from beluga_graph.inspection.views import RunSnapshot

app = typer.Typer()

_STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_VERSION_CHARS = 12  # of a graph's fingerprint, as in the name of its task queue


@command(app)
def worker(
    flows: FlowNames,
    server: Server = None,
    namespace: Namespace = None,
    task_queue: TaskQueue = default_task_queue,
    claims: Claims = None,
    deps: Annotated[
        str | None,
        typer.Option(
            "--deps",
            help="The object that nodes get as ctx.deps, such as package.module:name. Its module is imported.",
            metavar="MODULE:NAME",
            show_default=False,
        ),
    ] = None,
    grace: Grace = default_grace,
    bus: BusFolder = default_bus,
    json: Json = False,
) -> None:
    """Serve runs of flows on a Temporal server until SIGTERM or Ctrl-C.

    It walks the runs of its flows and executes their nodes, each flow in the version that it has. A stop loses
    nothing: nodes that finish within the grace are kept, and the others run again on another worker. A second signal
    ends the process at once. Start as many workers as you like, on any machine. Without --bus, events that runs publish
    are kept on the server until a worker with a bus relays them. A change of status is an event if an engine with a bus
    has started the run.
    """
    loaded = list(dict.fromkeys(map(load_flow, flows)))
    versions = _name_versions(loaded)
    given = load_object(deps, "--deps") if deps is not None else None
    place = TemporalPlace(server=server, namespace=namespace, claims=claims, task_queue=task_queue)
    asyncio.run(_serve(place, given, loaded, versions, grace, bus, json=json))
    print_event("stopped", "stopped; every run goes on with the next worker", json=json)


def _name_versions(flows: list[Flow]) -> list[str]:
    """Return the name and the version of each flow. Raises `BadParameter` for two that a run cannot distinguish."""
    plans = [flow.plan() for flow in flows]
    versions = [f"{plan.name}:{plan.fingerprint[:_VERSION_CHARS]}" for plan in plans]
    for version in versions:
        if versions.count(version) > 1:
            name = version.rpartition(":")[0]
            text = f"two flows are called {name!r} and have the same graph: give one of them, or rename one"
            raise typer.BadParameter(text, param_hint="MODULE:FLOW")
    return versions


async def _serve(
    place: TemporalPlace,
    deps: Any,
    flows: list[Flow],
    versions: list[str],
    grace_s: float,
    bus: Path | None,
    *,
    json: bool,
) -> None:
    stop = asyncio.Event()
    async with AsyncExitStack() as stack:
        event_bus = await stack.enter_async_context(open_bus(bus, json=json)) if bus is not None else None
        engine = await stack.enter_async_context(place.open(bus=event_bus, deps=deps))
        await stack.enter_async_context(engine.worker(flows, grace=grace_s))
        _handle_stop_signals(stop)
        text = f"serving {', '.join(versions)} on {place}; SIGTERM or Ctrl-C ends it"
        print_event("ready", text, json=json, flows=versions)
        await stop.wait()
        print_event("stopping", f"stopping; running nodes have {grace_s:g} s to finish", json=json)


def _handle_stop_signals(stop: asyncio.Event) -> None:
    """Set an event at the first signal. A second one ends the process, as if it had no handler."""
    loop = asyncio.get_running_loop()

    def on_signal() -> None:
        for number in _STOP_SIGNALS:
            loop.remove_signal_handler(number)
            signal.signal(number, signal.SIG_DFL)
        stop.set()

    for number in _STOP_SIGNALS:
        loop.add_signal_handler(number, on_signal)


@command(app)
def mirror(
    run: RunId,
    store: Annotated[
        Path, typer.Option("--store", help="Folder of the LMDB store. A new one is created.", metavar="PATH")
    ],
    server: Server = None,
    namespace: Namespace = None,
    claims: Claims = None,
    json: Json = False,
) -> None:
    """Copy a run from a Temporal server into a store, up to its last step.

    The commands that look at runs then work on the copy: `show`, `diff`, `history`, `events`, `draw`. `fork` starts a
    local run from it. Give the command again to add the steps since then. The run itself goes on on the server.
    """
    place = TemporalPlace(server=server, namespace=namespace, claims=claims)
    found = asyncio.run(_mirror(place, run, store))
    if json:
        print_json({"run_id": run, "status": found.status, "seq": found.seq})
    else:
        print_line(f"run {run!r} is copied to {store}: {found.status} after step {found.seq:,}")


async def _mirror(place: TemporalPlace, run_id: str, path: Path) -> RunSnapshot:
    async with place.open() as engine:
        await engine.mirror(run_id, path)
    async with beluga_graph.Engine(path) as reader:
        return await reader.snapshot(run_id)
