"""Driving: runs that go on in this process, until they end, wait, or the process is told to stop."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from beluga_graph import BusEvent, Engine, EventBus, Outcome, Run, RunStatus
from beluga_graph.cli.commands.runs import console, existing, load_flow, print_json
from beluga_graph.cli.exit_codes import Exit, complain
from beluga_graph.cli.terminal_text import as_json, brief, local_time, plain
from beluga_graph.kernel.rules import is_answer
from beluga_graph.kernel.snapshot import RETRY, Snapshot
from beluga_graph.storage.keys import Keys
from beluga_graph.storage.run_log import rebuild
from stores.base import Store

__all__ = ["fork", "resume", "serve"]

_LOOK_S = 0.05  # between two looks whether a run is parked


@dataclass(frozen=True, slots=True)
class _Waits:
    """What a run that is parked waits for, as lines."""

    lines: tuple[str, ...]


def resume(store: Path, run_id: str, flow: str, *, wait: bool, json: bool) -> None:
    """Go on with a run until it ends or waits."""
    _driven(store, flow, lambda engine: engine.resume(run_id, wait=wait), json=json)


def fork(
    store: Path,
    run_id: str,
    seq: int,
    flow: str,
    *,
    new_id: str | None,
    update: dict[str, Any],
    replace: dict[str, Any],
    json: bool,
) -> None:
    """Start a new run from where another one was, and go on with it until it ends or waits."""

    async def begin(engine: Engine) -> Run:
        run = await engine.fork(run_id, seq, run_id_new=new_id, update=update, replace=replace)
        if not json:  # at once: whoever stops the command must know what it has begun
            _say(f"run {run.id!r} is a fork of {run_id!r} after step {seq}")
        return run

    _driven(store, flow, begin, json=json)


def _driven(store: Path, flow: str, begin: Callable[[Engine], Awaitable[Run]], *, json: bool) -> None:
    known = load_flow(flow)

    async def call() -> tuple[str, Outcome | _Waits]:
        async with Engine(existing(store)) as engine:
            engine.register(known)
            run = await begin(engine)
            return run.id, await _until_it_ends_or_waits(engine.store, run)

    run_id, found = asyncio.run(call())
    if isinstance(found, _Waits):
        _tell_waiting(run_id, found, json=json)
    else:
        _tell_end(run_id, found, json=json)


async def _until_it_ends_or_waits(store: Store, run: Run) -> Outcome | _Waits:
    """Return how a run ended; or what it waits for, once it is parked and nothing that was sent to it is left."""
    keys = Keys(run.id)
    ending = asyncio.ensure_future(run.outcome())
    try:
        while not (await asyncio.wait({ending}, timeout=_LOOK_S))[0]:
            if store.get(keys.parked) is None:
                continue
            snapshot, _ = rebuild(store, run.id)
            if not any(token.state == RETRY for token in snapshot.tokens.values()):
                return _Waits(tuple(_waiting_for(snapshot)))
        return await ending
    finally:
        ending.cancel()


def _waiting_for(run: Snapshot) -> list[str]:
    lines = [f"signal {signal!r}" for signal in run.waits if not is_answer(signal)]
    questions = [token for signal, tokens in run.waits.items() if is_answer(signal) for token in tokens]
    lines += [f"the answer to question {question!r}" for question in questions]
    due = min(run.timers.values(), default=None)
    return lines if due is None else [*lines, f"its timer at {local_time(due)}"]


def _tell_waiting(run_id: str, waits: _Waits, *, json: bool) -> None:
    if json:
        print_json({"run_id": run_id, "status": RunStatus.waiting, "waits_for": waits.lines})
    else:
        _say(f"run {run_id!r} waits for {' or '.join(waits.lines)}")


def _tell_end(run_id: str, outcome: Outcome, *, json: bool) -> None:
    if json:
        print_json({"run_id": run_id, "outcome": outcome})
    elif outcome.status == RunStatus.completed:
        _say(f"run {run_id!r} is completed after {outcome.steps:,} nodes; its output: {brief(outcome.output, 10_000)}")
    else:
        failure = outcome.failure
        why = f" at node {failure.node!r}: {failure.type}: {failure.message}" if failure is not None else ""
        way_out = "; mend the cause and resume it, or cancel it" if outcome.status == RunStatus.failed else ""
        if failure is not None and not failure.node and failure.type == "Timeout":
            way_out = "; its time is over, also for a resume and a fork: start a new run"
        complain(f"run {run_id!r} is {outcome.status}{why}{way_out}")
    if outcome.status != RunStatus.completed:
        raise typer.Exit(Exit.failed)


def serve(
    store: Path, flows: Sequence[str], *, max_runs: int | None, grace_s: float, bus: Path | None, json: bool
) -> None:
    """Drive whatever the flows' runs need until SIGTERM or Ctrl-C, then finish or hand back what is under way.

    With a bus what the runs publish goes there, and what becomes of them, which is also told here.
    """
    known = [load_flow(flow) for flow in dict.fromkeys(flows)]
    is_new = not (store / "data.mdb").is_file()

    def tell(event: BusEvent) -> None:
        _line(event.topic, f"run {event.data['run_id']!r} is {event.data['status']}", json=json, **event.data)

    async def call() -> None:
        async with contextlib.AsyncExitStack() as stack:
            spoken = None if bus is None else await stack.enter_async_context(EventBus(bus))
            if spoken is not None:
                spoken.subscribe("run.*", tell)
                stack.push_async_callback(spoken.drain)  # once the engine has said its last
            engine = await stack.enter_async_context(Engine(store, bus=spoken))
            names = [engine.register(flow).name for flow in known]
            serving = asyncio.ensure_future(engine.serve(max_runs=max_runs, grace=grace_s))
            await asyncio.sleep(0)  # from now on a signal ends it in order
            if not serving.done():
                of = ", ".join(names)
                where = f"{store}, a new store" if is_new else str(store)
                text = f"serving {of} in {where}; SIGTERM or Ctrl-C ends it"
                _line("ready", text, json=json, flows=names, new_store=is_new)
            await serving

    asyncio.run(call())
    _line("stopped", "stopped; everything was handed back", json=json)


def _line(event: str, text: str, *, json: bool, **facts: Any) -> None:
    """Print a line at once, also into a pipe; as JSON it is one line, too."""
    typer.echo(" ".join(as_json({"event": event, **facts}).split("\n")) if json else plain(text))


def _say(line: str) -> None:
    console().print(plain(line), soft_wrap=True)
