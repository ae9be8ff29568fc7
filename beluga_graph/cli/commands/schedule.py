"""`schedule`: runs that start at points in time. The processes that serve their flows start them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

import beluga_graph
from beluga_graph.cli.console import load_flow, new_table, print_json, print_line, print_table, with_engine
from beluga_graph.cli.exit_codes import CommandError
from beluga_graph.cli.options import CODES, FlowName, Json, Store, command, default_store
from beluga_graph.cli.parsing import parse_json, parse_seconds
from beluga_graph.cli.terminal_text import brief, to_printable

if TYPE_CHECKING:
    from beluga_graph.flows.flow import Flow

app = typer.Typer()
group = typer.Typer(help="List, add, pause and remove schedules: rules that start runs at points in time.")
app.add_typer(group, name="schedule", no_args_is_help=True, epilog=CODES)

ScheduleName = Annotated[str, typer.Argument(help="The schedule's name.", metavar="NAME")]


class Overlap(StrEnum):
    """The rule for a due time that comes while the previous run has not ended."""

    skip = "skip"
    queue = "queue"
    allow = "allow"


class CatchUp(StrEnum):
    """Which missed due times get a run."""

    last = "last"
    all = "all"
    none = "none"


@command(group, "list")
def list_schedules(store: Store = default_store, json: Json = False) -> None:
    """List the schedules of a store: their rules, the next due times and the last runs."""
    found = with_engine(store, lambda engine: engine.schedules())
    if json:
        print_json([_facts(info) for info in found])
        return
    if not found:
        print_line(f"no schedule in {store}")
        return
    table = new_table("schedule", "flow", "rule", "next due", "last run", "notes")
    for info in found:
        table.add_row(
            Text(to_printable(info.name)),
            Text(to_printable(info.flow)),
            Text(_rule(info)),
            "paused" if info.is_paused else _show(info.next_due),
            Text(to_printable(info.last_run or "")),
            Text(_notes(info)),
        )
    print_table(table)


@command(group)
def add(
    name: ScheduleName,
    flow: FlowName,
    value: Annotated[
        str | None, typer.Argument(help="The input of each run; null by default.", metavar="JSON", show_default=False)
    ] = None,
    cron: Annotated[
        str | None,
        typer.Option(
            "--cron",
            help="Minute, hour, day of the month, month and day of the week, such as '0 9 * * MON-FRI'.",
            metavar="FIELDS",
            show_default=False,
        ),
    ] = None,
    timezone: Annotated[
        str,
        typer.Option("--timezone", help="Time zone whose wall clock counts, such as Europe/Berlin.", metavar="ZONE"),
    ] = "UTC",
    every: Annotated[
        str | None,
        typer.Option("--every", help="Interval, such as 90s, 15m, 12h or 1d.", metavar="TIME", show_default=False),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            "--start",
            help="Nothing is due before this time, and --every counts from it: ISO 8601, with its offset.",
            metavar="TIME",
            show_default=False,
        ),
    ] = None,
    overlap: Annotated[
        Overlap, typer.Option("--overlap", help="What to do with a due time while the previous run has not ended.")
    ] = Overlap.skip,
    catch_up: Annotated[CatchUp, typer.Option("--catch-up", help="Which missed due times get a run.")] = CatchUp.last,
    jitter: Annotated[
        str, typer.Option("--jitter", help="Largest delay of a run after its due time, such as 30s.", metavar="TIME")
    ] = "0s",
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Add a schedule, or change the one of this name. With another rule it counts from now on.

    Its runs start in the processes that serve the flow.
    """
    loaded = load_flow(flow)
    given = None if value is None else parse_json(value, "JSON")
    options: dict[str, Any] = {
        "cron": cron,
        "timezone": timezone,
        "every": None if every is None else parse_seconds(every, "--every"),
        "start": None if start is None else _parse_time(start),
        "overlap": overlap.value,
        "catch_up": catch_up.value,
        "jitter": parse_seconds(jitter, "--jitter"),
    }

    info = _put(store, name, loaded, given, options)
    if json:
        print_json(_facts(info))
    else:
        print_line(f"schedule {name!r} is next due at {_show(info.next_due)}; it starts where {info.flow!r} is served")


def _put(store: Path, name: str, flow: Flow, value: Any, options: dict[str, Any]) -> beluga_graph.ScheduleInfo:
    async def call() -> beluga_graph.ScheduleInfo:
        async with beluga_graph.Engine(store) as engine:
            return await engine.schedule(name, flow, value, **options)

    try:
        return asyncio.run(call())
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    except ImportError as error:  # the extra is missing
        raise CommandError(str(error)) from None


@command(group)
def pause(name: ScheduleName, store: Store = default_store, json: Json = False) -> None:
    """Start no run of a schedule until it is unpaused."""
    _change(lambda engine: engine.pause(name), name, "paused", store=store, json=json)


@command(group)
def unpause(name: ScheduleName, store: Store = default_store, json: Json = False) -> None:
    """Let a paused schedule go on; its catch-up decides about the times that were missed."""
    _change(lambda engine: engine.unpause(name), name, "unpaused", store=store, json=json)


@command(group)
def remove(name: ScheduleName, store: Store = default_store, json: Json = False) -> None:
    """Remove a schedule, and the starts that it has queued. Its runs stay."""
    _change(lambda engine: engine.unschedule(name), name, "removed", store=store, json=json)


def _change(
    call: Callable[[beluga_graph.Engine], Awaitable[None]], name: str, verb: str, *, store: Store, json: bool
) -> None:
    try:
        with_engine(store, call)
    except ValueError as error:  # it is not a name
        raise typer.BadParameter(str(error), param_hint="NAME") from None
    if json:
        print_json({"schedule": name, "change": verb})
    else:
        print_line(f"schedule {name!r} is {verb}")


def _parse_time(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        message = f"{text!r:.100} is not a time: give ISO 8601, such as 2026-11-30T09:00:00+01:00"
        raise typer.BadParameter(message, param_hint="--start") from None


def _facts(info: beluga_graph.ScheduleInfo) -> dict[str, Any]:
    """Return a schedule as data for JSON: times in ISO 8601, and the interval in seconds."""

    def plain(value: Any) -> Any:
        if isinstance(value, timedelta):
            return value.total_seconds()
        return value.isoformat() if isinstance(value, datetime) else value

    return {field: value if field == "input" else plain(value) for field, value in _fields(info)}


def _fields(info: beluga_graph.ScheduleInfo) -> list[tuple[str, Any]]:
    return [(field, getattr(info, field)) for field in info.__dataclass_fields__ if field != "is_registered"]


def _rule(info: beluga_graph.ScheduleInfo) -> str:
    rule = f"every {info.every}" if info.every is not None else f"{info.cron} ({info.timezone})"
    return to_printable(rule)


def _notes(info: beluga_graph.ScheduleInfo) -> str:
    notes = [f"input {brief(info.input, 40)}"] if info.input is not None else []
    if info.queued:
        notes.append(f"{info.queued:,} queued")
    if info.last_skipped is not None:
        notes.append(f"{info.skipped:,} skipped, the last at {_show(info.last_skipped)}")
    if info.last_missed is not None:
        notes.append(f"missed until {_show(info.last_missed)}")
    return "; ".join(notes)


def _show(at: datetime | None) -> str:
    return "never" if at is None else at.isoformat(sep=" ", timespec="seconds")
