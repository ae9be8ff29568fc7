"""Looking: what is in a store. Nothing here changes it."""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from collections.abc import Awaitable, Callable, Collection, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import typer
from rich.console import Console, ConsoleDimensions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from beluga_graph import Engine, Event, StepInfo
from beluga_graph.cli.exit_codes import CommandError
from beluga_graph.cli.terminal_text import as_json, brief, local_time, plain
from beluga_graph.flows.flow import Flow
from stores import LMDBStore, StoreReadOnly

__all__ = [
    "console",
    "events",
    "existing",
    "history",
    "load_flow",
    "new_table",
    "opened",
    "print_json",
    "print_table",
    "runs",
    "status_text",
    "with_engine",
]

T = TypeVar("T")

_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "waiting": "cyan"}
_WIDEST = 10_000
_PIPE_WIDTH = 200  # what reads a pipe has no columns to fit in


def console() -> Console:
    """Return the console for standard output: no markup, no guesses at what looks like a number."""
    made = Console(markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def existing(store: Path) -> Path:
    """Return the store's path if a store is there; looking must not make one. Raises `CommandError`."""
    if not (store / "data.mdb").is_file():
        raise CommandError(f"there is no store at {store}: name one with --store PATH")
    return store


def runs(store: Path, *, status: Collection[str], flow: str | None, json: bool) -> None:
    """List the runs of a store, the newest last; only those of a status that is named, and of a flow, if one is."""
    found = sorted(
        (
            run
            for run in with_engine(store, lambda engine: engine.runs())
            if (not status or run.status in status) and flow in (None, run.flow)
        ),
        key=lambda run: (run.created_ms, run.run_id),
    )
    if json:
        print_json(found)
        return
    if not found:
        console().print(f"no {'such ' if status or flow else ''}run in {plain(str(store))}", soft_wrap=True)
        return
    table = new_table("run", "flow", "status", "created", "status since")
    for run in found:
        table.add_row(
            Text(plain(run.run_id)),
            Text(plain(run.flow)),
            status_text(run.status),
            local_time(run.created_ms),
            local_time(run.updated_ms),
        )
    print_table(table)


def history(store: Path, run_id: str, *, json: bool) -> None:
    """List the committed steps of a run."""
    steps = with_engine(store, lambda engine: engine.history(run_id))
    if json:
        print_json(steps)
        return
    table = new_table("step", "at", "what happened", "token", "attempt", "events")
    for step in steps:
        table.add_row(
            str(step.seq),
            local_time(step.at_ms),
            step.trigger,
            Text(plain(step.token)),
            str(step.attempt or ""),
            Text(_events(step)),
        )
    console().print(table)


def events(store: Path, run_id: str, *, after: int, json: bool) -> None:
    """List the stored events of a run's steps after one."""
    steps = with_engine(store, lambda engine: engine.history(run_id))
    found = [event for step in steps if step.seq > after for event in step.events]
    if json:
        print_json(found)
        return
    if not found:
        console().print(f"no event after step {after:,}", soft_wrap=True)
        return
    table = new_table("step", "type", "where", "what")
    for event in found:
        where, what = Text(plain(event.token or event.node)), Text(", ".join(_carried(event)))
        table.add_row(f"{event.seq}.{event.index}", event.type, where, what)
    console().print(table)


def _carried(event: Event) -> Iterator[str]:
    """Yield what an event tells beside its type and place, briefly."""
    for name in ("name", "source", "target", "error", "arguments", "output", "text"):
        value = getattr(event, name)
        if value not in (None, ""):
            yield f"{name}: {brief(value)}"
    if event.due_ms is not None:
        yield f"due: {local_time(event.due_ms)}"


def load_flow(name: str) -> Flow:
    """Import `MODULE:FLOW`, from the current folder too. Raises `CommandError`, `BadParameter`."""
    module_name, colon, path = name.partition(":")
    if not (module_name and colon and path):
        message = f"{name!r} is not such as beluga_graph.demo.pipeline:pipeline"
        raise typer.BadParameter(message, param_hint="MODULE:FLOW")
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except Exception as error:  # a user's module may raise anything
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename[0] != "<"]
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 2 else ""
        raise CommandError(
            f"module {module_name!r} cannot be imported{where}: {type(error).__name__}: {error}"
        ) from error
    finally:
        sys.path.pop(0)
    for part in path.split("."):
        if not hasattr(found, part):
            flows = ", ".join(sorted(key for key, value in vars(found).items() if isinstance(value, Flow)))
            raise CommandError(f"module {module_name!r} has no {path!r}; the flows in it are: {flows or 'none'}")
        found = getattr(found, part)
    if not isinstance(found, Flow):
        raise CommandError(f"{name} is of type {type(found).__name__}, not a flow")
    return found


def with_engine(store: Path, look: Callable[[Engine], Awaitable[T]]) -> T:
    """Ask an engine on a store that is there. Raises `CommandError` if none is."""

    async def call() -> T:
        with opened(store) as found:
            async with Engine(found) as engine:
                return await look(engine)

    return asyncio.run(call())


@contextmanager
def opened(store: Path) -> Iterator[LMDBStore]:
    """Open an existing store; one that cannot be written can still be read. Raises `CommandError`, `StoreError`."""
    path = existing(store)
    try:
        found = LMDBStore(path)
    except StoreReadOnly:
        found = LMDBStore(path, read_only=True)
    with closing(found):
        yield found


def _events(step: StepInfo) -> str:
    return ", ".join(event.type if not event.error else f"{event.type}: {brief(event.error)}" for event in step.events)


def status_text(status: str) -> Text:
    return Text(status, style=_STYLES.get(status, ""))


def new_table(*columns: str, headed: bool = True, title: str | None = None) -> Table:
    """Return a table without lines."""
    table = Table(*columns, box=None, show_header=headed, header_style="bold", title=title, pad_edge=False)
    table.title_justify = "left"
    table.columns[0].overflow = "fold"
    return table


def print_table(table: Table) -> None:
    """Print a table of which no column is folded or cut, however narrow the terminal is: ids are there to be copied."""
    out = console()
    widest = Measurement.get(out, out.options.update(width=_WIDEST), table).maximum
    out.size = ConsoleDimensions(max(out.width, widest), out.height)  # by width alone a dumb terminal has 80 columns
    out.print(table, soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(as_json(value) + "\n")
