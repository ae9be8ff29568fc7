"""The console, tables and JSON that commands print, and the stores, buses and flows that they open."""

from __future__ import annotations

import asyncio
import importlib
import sys
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import typer
from rich.console import Console, ConsoleDimensions
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

import beluga_graph
from beluga_graph.cli.exit_codes import CommandError
from beluga_graph.cli.terminal_text import as_json, to_printable
from stores import LMDBStore, StoreReadOnly

if TYPE_CHECKING:
    from beluga_graph.flows.flow import Flow

__all__ = [
    "console",
    "load_flow",
    "load_object",
    "new_table",
    "open_bus",
    "open_store",
    "print_event",
    "print_json",
    "print_line",
    "print_table",
    "require_store",
    "status_text",
    "with_engine",
]

T = TypeVar("T")

_STYLES = {"completed": "green", "failed": "red", "cancelled": "yellow", "running": "cyan", "waiting": "cyan"}
_WIDTH_MAX = 10_000
_PIPE_WIDTH = 200  # a pipe has no columns to fit in


# Output.


def console() -> Console:
    """Return the console of standard output. It interprets no markup and highlights nothing."""
    made = Console(markup=False, emoji=False, highlight=False)
    if not made.is_terminal:
        made.width = _PIPE_WIDTH
    return made


def print_line(text: str) -> None:
    """Print text as one `plain` line, however long."""
    console().print(Text(to_printable(text)), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON."""
    sys.stdout.write(as_json(value) + "\n")


def print_event(event: str, text: str, *, json: bool, **facts: Any) -> None:
    """Print a line of a process that serves, at once, also into a pipe. JSON is printed as one line too."""
    typer.echo(" ".join(as_json({"event": event, **facts}).split("\n")) if json else to_printable(text))


def status_text(status: str) -> Text:
    """Return a run's status in its colour."""
    return Text(status, style=_STYLES.get(status, ""))


def new_table(*columns: str, headed: bool = True, title: str | None = None) -> Table:
    """Return a table without lines."""
    table = Table(*columns, box=None, show_header=headed, header_style="bold", title=title, pad_edge=False)
    table.title_justify = "left"
    table.columns[0].overflow = "fold"
    return table


def print_table(table: Table) -> None:
    """Print a table without folding or cutting a column, however narrow the terminal is, so that ids can be copied."""
    out = console()
    widest = Measurement.get(out, out.options.update(width=_WIDTH_MAX), table).maximum
    # Set the height too: a dumb terminal ignores a width that is set alone, and has 80 columns.
    out.size = ConsoleDimensions(max(out.width, widest), out.height)
    out.print(table, soft_wrap=True)


# Stores, buses and flows.


def require_store(path: Path) -> Path:
    """Return the path if it holds a store. Raises `CommandError` if not: these commands never create one."""
    if not (path / "data.mdb").is_file():
        raise CommandError(f"there is no store at {path}: name one with --store PATH")
    return path


@contextmanager
def open_store(path: Path) -> Iterator[LMDBStore]:
    """Open an existing store, read-only if it cannot be written. Raises `CommandError`, `StoreError`."""
    require_store(path)
    try:
        store = LMDBStore(path)
    except StoreReadOnly:
        store = LMDBStore(path, read_only=True)
    with closing(store):
        yield store


def with_engine(path: Path, call: Callable[[beluga_graph.Engine], Awaitable[T]]) -> T:
    """Run an async call with an engine on an existing store. Raises `CommandError` if there is no store."""

    async def run() -> T:
        with open_store(path) as store:
            async with beluga_graph.Engine(store) as engine:
                return await call(engine)

    return asyncio.run(run())


@asynccontextmanager
async def open_bus(folder: Path, *, json: bool) -> AsyncIterator[beluga_graph.EventBus]:
    """Open an event bus that prints the status of runs, and handles at its end all that was published in the block."""

    def on_run_event(event: beluga_graph.BusEvent) -> None:
        text = f"run {event.data['run_id']!r} is {event.data['status']}"
        print_event(event.topic, text, json=json, **event.data)

    async with beluga_graph.EventBus(folder) as bus:
        bus.subscribe("run.*", on_run_event)
        yield bus
        await bus.drain()


def load_flow(name: str) -> Flow:
    """Import `MODULE:FLOW`, also from the current folder. Raises `CommandError`, `BadParameter`."""
    from beluga_graph.flows.flow import Flow  # noqa: PLC0415 - many commands need no flow

    module_name, _, path = name.partition(":")
    if not (module_name and path):
        message = f"{name!r} is not a flow: write MODULE:FLOW, such as beluga_graph.demo.pipeline:pipeline"
        raise typer.BadParameter(message, param_hint="MODULE:FLOW")
    module = _import_module(module_name)
    found = _find_in(module, path)
    if found is None:
        flows = ", ".join(sorted(key for key, value in vars(module).items() if isinstance(value, Flow)))
        raise CommandError(f"module {module_name!r} has no {path!r}; its flows are: {flows or 'none'}")
    if not isinstance(found, Flow):
        raise CommandError(f"{name} is of type {type(found).__name__}, not a flow")
    return found


def load_object(name: str, hint: str) -> Any:
    """Import `MODULE:NAME`, also from the current folder. Raises `CommandError`, `BadParameter`."""
    module_name, _, path = name.partition(":")
    if not (module_name and path):
        raise typer.BadParameter(f"{name!r} names no object: write MODULE:NAME, such as app:deps", param_hint=hint)
    found = _find_in(_import_module(module_name), path)
    if found is None:
        raise CommandError(f"module {module_name!r} has no {path!r}, or it is None: correct {hint}")
    return found


def _find_in(module: Any, path: str) -> Any:
    """Return the object at a dotted path, or `None`."""
    return reduce(lambda found, part: getattr(found, part, None), path.split("."), module)


def _import_module(name: str) -> Any:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything
        frames = [frame for frame in traceback.extract_tb(error.__traceback__) if frame.filename[0] != "<"]
        where = f" ({frames[-1].filename}, line {frames[-1].lineno})" if len(frames) > 2 else ""
        text = f"module {name!r} cannot be imported{where}: {type(error).__name__}: {error}"
        if isinstance(error, ModuleNotFoundError) and error.name == name.partition(".")[0]:
            text += "; give the command in the folder that contains it, or install it"
        raise CommandError(text) from error
    finally:
        sys.path.pop(0)
