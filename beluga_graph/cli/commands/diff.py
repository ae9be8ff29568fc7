"""`diff`: two runs beside each other, and where they diverge."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from beluga_graph.cli.console import console, new_table, print_json, with_engine
from beluga_graph.cli.options import Json, RunId, Store, command, default_store
from beluga_graph.cli.summaries import summarize, summarize_pair
from beluga_graph.cli.terminal_text import brief, to_printable
from beluga_graph.cli.tree_view import token_count
from beluga_graph.codec.to_json import to_json
from beluga_graph.draw.text import clip, format_duration

if TYPE_CHECKING:
    from beluga_graph import ComparedRun, ComparedValue, Divergence, RunComparison

app = typer.Typer()

_ROWS_MAX = 12  # nodes, or values, without --all
_PLACES_MAX = 3  # differences shown within one value


@command(app)
def diff(
    run: RunId,
    other: Annotated[str, typer.Argument(help="The other run's id.", metavar="RUN")],
    unfolded: Annotated[bool, typer.Option("--all", help="Show every node, and every value that differs.")] = False,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Compare two runs, such as a run and its fork.

    Shows where their paths diverge, how each ended, and the nodes, outputs and state that differ. Visits are matched
    by name: it does not matter which branch finished first, or when. Exits with 0 also if the runs differ.
    """
    found = with_engine(store, lambda engine: engine.compare(run, other))
    if json:
        print_json(_data(found))
        return
    out = console()
    for note in _notes(found):
        out.print(Text(note), soft_wrap=True)
    out.print(_side_by_side(found))
    out.print(Text(_divergences(found)), soft_wrap=True)
    rows_max = None if unfolded else _ROWS_MAX
    _print_nodes(found, rows_max)
    ids = found.first.run_id, found.second.run_id
    _print_values("outputs that differ", found.outputs, ids, rows_max)
    _print_values("state that differs", found.state, ids, rows_max)
    if not found.differs:
        out.print("no difference")


def _data(found: RunComparison) -> dict[str, Any]:
    """Return the comparison as JSON data, its properties included."""
    properties = {"differs": found.differs, "same_flow": found.same_flow, "same_plan": found.same_plan}
    nodes = [{**to_json(node), "differs": node.differs} for node in found.nodes]
    return {**properties, **to_json(found), "nodes": nodes}


def _notes(found: RunComparison) -> list[str]:
    notes = []
    first, second = found.first, found.second
    if not found.same_flow:
        names = f"{to_printable(first.flow)} and {to_printable(second.flow)}"
        notes.append(f"runs of different flows, {names}: nodes and fields of the same name are compared")
    elif not found.same_plan:
        notes.append("the flow was changed between them: nodes and fields of the same name are compared")
    for run in (first, second):
        if run.forked_from is not None:
            source, seq = run.forked_from
            notes.append(f"{to_printable(run.run_id)} was forked from {to_printable(source)} after step {seq}")
        if run.lost_before is not None:
            source, seq = run.lost_before
            notes.append(
                f"the history of {to_printable(run.run_id)} before step {seq} of {to_printable(source)} is not in the "
                "store any more: only later steps are compared"
            )
    if found.shared_steps:
        steps = f"{found.shared_steps:,} steps are" if found.shared_steps > 1 else "step is"
        notes.append(f"the first {steps} the history of both")
    return notes


def _side_by_side(found: RunComparison) -> Table:
    first, second = found.first, found.second
    table = new_table("", to_printable(first.run_id), to_printable(second.run_id))
    rows: list[tuple[str, Callable[[ComparedRun], str]]] = [
        ("flow", lambda run: to_printable(run.flow)),
        ("status", lambda run: run.status.value),
        ("last step", lambda run: f"{run.seq:,}"),
        ("nodes finished", lambda run: f"{run.steps:,}"),
        ("took", lambda run: format_duration(run.took_ms)),
        ("at work", lambda run: format_duration(run.busy_ms)),
        ("attempts", lambda run: f"{run.attempts:,}"),
        ("tokens", lambda run: f"{token_count(run.usage):,}"),
        ("output", lambda run: _summary(run.output)),
        ("failure", lambda run: "" if run.failure is None else brief(f"{run.failure.node}: {run.failure}", 80)),
    ]
    for name, describe in rows:
        cells = describe(first), describe(second)
        if any(cell not in ("", "0") for cell in cells):
            same = cells[0] == cells[1] and not (name == "output" and found.output_differs)
            style = "" if same or name in ("last step", "took", "at work") else "yellow"
            table.add_row(name, *(Text(cell, style=style) for cell in cells))
    return table


def _divergences(found: RunComparison) -> str:
    if found.divergences == (None, None):
        return "the paths are the same"
    lines = ["the paths diverge:"]
    pairs = (found.first, found.second), (found.second, found.first)
    for (run, other), divergence in zip(pairs, found.divergences, strict=True):
        if divergence is None:
            lines.append(f"  {to_printable(run.run_id)} did nothing that {to_printable(other.run_id)} did not")
        else:
            lines.append(f"  {to_printable(run.run_id)}: {_divergence(divergence, run.run_id)}")
    return "\n".join(lines)


def _divergence(part: Divergence, run_id: str) -> str:
    where = f"step {part.seq:,}" + ("" if part.run_id == run_id else f" of {to_printable(part.run_id)}")
    detail = f" ({brief(part.detail, 60)})" if part.detail else ""
    return f"{where}, {to_printable(part.token) or 'the run'} {part.event}{detail}"


def _print_nodes(found: RunComparison, rows_max: int | None) -> None:
    """Print the nodes that differ; all nodes if the rows have no limit."""
    nodes = [node for node in found.nodes if rows_max is None or node.differs]
    if not nodes:
        return
    title = "nodes" if rows_max is None else "nodes that differ"
    table = new_table("node", "visits", "attempts", "tokens", "at work", title=title)
    for node in nodes[:rows_max]:
        used = token_count(node.usage[0]), token_count(node.usage[1])
        table.add_row(
            Text(to_printable(node.node)),
            _pair(node.visits),
            _pair(node.attempts),
            _pair(used) if any(used) else "",
            _pair(node.busy_ms, format_duration),
        )
    console().print(table)
    _print_rest(len(nodes), rows_max)


def _print_values(title: str, values: Sequence[ComparedValue], runs: tuple[str, str], rows_max: int | None) -> None:
    """Print the first differences within each value."""
    if not values:
        return
    table = new_table("where", *map(to_printable, runs), title=title)
    for value in values[:rows_max]:
        for where, cells in _differences(value):
            table.add_row(Text(to_printable(where)), *cells)
    console().print(table)
    _print_rest(len(values), rows_max)


def _differences(value: ComparedValue) -> Iterator[tuple[str, tuple[Text, Text]]]:
    from beluga_graph.inspection.comparison import ABSENT  # noqa: PLC0415 - no other command needs it
    from beluga_graph.inspection.differences import differences  # noqa: PLC0415 - no other command needs it

    if any(value.errors):
        one, other = (
            Text(brief(error, 60), style="red") if error else Text(_summary(shown))
            for shown, error in zip(value.values, value.errors, strict=True)
        )
        yield value.name, (one, other)
        return
    pair = [found if known else ABSENT for found, known in zip(value.values, value.known, strict=True)]
    places = list(islice(differences(pair[0], pair[1]), _PLACES_MAX + 1))
    for number, (path, first, second) in enumerate(places[:_PLACES_MAX]):
        shown = summarize_pair(first, second)
        cells = [
            Text("(nothing)" if part is ABSENT else word) for part, word in zip((first, second), shown, strict=True)
        ]
        name = value.name if number == 0 else "  "
        yield f"{name}{clip(path, 60)}", (cells[0], cells[1])
    if len(places) > _PLACES_MAX:
        yield "  and more", (Text(""), Text(""))


def _print_rest(count: int, rows_max: int | None) -> None:
    if rows_max is not None and count > rows_max:
        console().print(f"… {count - rows_max:,} more: see them with --all or --json")


def _pair(pair: tuple[int, int], describe: Callable[[int], str] = str) -> Text:
    words = describe(pair[0]), describe(pair[1])
    return Text(words[0] if words[0] == words[1] else f"{words[0]} | {words[1]}")


def _summary(value: Any) -> str:
    return "" if value is None else summarize(value, 60)
