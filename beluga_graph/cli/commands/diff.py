"""Comparing: two runs beside each other, and where they part."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from rich.text import Text

from beluga_graph import ComparedRun, ComparedValue, Divergence, RunComparison
from beluga_graph.cli.commands.runs import console, new_table, print_json, with_engine
from beluga_graph.cli.summaries import glance, glance_apart
from beluga_graph.cli.terminal_text import brief, plain
from beluga_graph.cli.tree_view import tokens_of
from beluga_graph.codec.to_json import as_data
from beluga_graph.draw.text import clipped, shown_duration
from beluga_graph.inspection.comparison import ABSENT, apart

__all__ = ["diff"]

_MOST = 12  # nodes, or values, without --all
_PLACES = 3  # where a value is apart


def diff(store: Path, first: str, second: str, *, unfolded: bool, json: bool) -> None:
    """Compare two runs of a store as of their last steps."""
    found = with_engine(store, lambda engine: engine.compare(first, second))
    if json:
        print_json(_data(found))
        return
    out = console()
    for note in _notes(found):
        out.print(Text(note), soft_wrap=True)
    out.print(_side_by_side(found))
    out.print(Text(_partings(found)), soft_wrap=True)
    most = None if unfolded else _MOST
    nodes = [node for node in found.nodes if unfolded or node.differs]
    if nodes:
        table = new_table(
            "node", "visits", "attempts", "tokens", "at work", title="nodes" if unfolded else "nodes that differ"
        )
        for node in nodes[:most]:
            used = tokens_of(node.usage[0]), tokens_of(node.usage[1])
            table.add_row(
                Text(plain(node.node)),
                _pair(node.visits),
                _pair(node.attempts),
                _pair(used) if any(used) else "",
                _pair(node.busy_ms, shown_duration),
            )
        out.print(table)
        _tell_more(len(nodes), most)
    ids = found.first.run_id, found.second.run_id
    _values("outputs that differ", found.outputs, ids, most)
    _values("state that differs", found.state, ids, most)
    if not found.differs:
        out.print("no difference")


def _data(found: RunComparison) -> dict[str, Any]:
    """Return the comparison as JSON has it, with what its properties tell."""
    told = {"differs": found.differs, "same_flow": found.same_flow, "same_plan": found.same_plan}
    return {**told, **as_data(found), "nodes": [{**as_data(node), "differs": node.differs} for node in found.nodes]}


def _notes(found: RunComparison) -> list[str]:
    notes = []
    first, second = found.first, found.second
    if not found.same_flow:
        names = f"{plain(first.flow)} and {plain(second.flow)}"
        notes.append(f"runs of different flows, {names}: what has the same name in both is compared")
    elif not found.same_plan:
        notes.append("the flow was changed between them: what has the same name in both is compared")
    for run in (first, second):
        if run.forked_from is not None:
            notes.append(
                f"{plain(run.run_id)} was forked from {plain(run.forked_from[0])} after step {run.forked_from[1]}"
            )
        if run.lost_before is not None:
            notes.append(
                f"of {plain(run.run_id)} nothing is known from before step {run.lost_before[1]} of "
                f"{plain(run.lost_before[0])}, which is not in the store any more: only what came later counts"
            )
    if found.shared_steps:
        steps = f"{found.shared_steps:,} steps are" if found.shared_steps > 1 else "step is"
        notes.append(f"the first {steps} the history of both")
    return notes


def _side_by_side(found: RunComparison) -> Any:
    first, second = found.first, found.second
    table = new_table("", plain(first.run_id), plain(second.run_id))
    rows: list[tuple[str, Callable[[ComparedRun], str]]] = [
        ("flow", lambda run: plain(run.flow)),
        ("status", lambda run: run.status.value),
        ("last step", lambda run: f"{run.seq:,}"),
        ("nodes finished", lambda run: f"{run.steps:,}"),
        ("took", lambda run: shown_duration(run.took_ms)),
        ("at work", lambda run: shown_duration(run.busy_ms)),
        ("attempts", lambda run: f"{run.attempts:,}"),
        ("tokens", lambda run: f"{tokens_of(run.usage):,}"),
        ("output", lambda run: _glance(run.output)),
        ("failure", lambda run: "" if run.failure is None else brief(f"{run.failure.node}: {run.failure}", 80)),
    ]
    for name, tell in rows:
        cells = tell(first), tell(second)
        if any(cell not in ("", "0") for cell in cells):
            same = cells[0] == cells[1] and not (name == "output" and found.output_differs)
            style = "" if same or name in ("last step", "took", "at work") else "yellow"
            table.add_row(name, *(Text(cell, style=style) for cell in cells))
    return table


def _partings(found: RunComparison) -> str:
    if found.parts == (None, None):
        return "the paths are the same"
    lines = ["the paths part:"]
    for run, other, parting in zip((found.first, found.second), (found.second, found.first), found.parts, strict=True):
        if parting is None:
            lines.append(f"  {plain(run.run_id)} did nothing that {plain(other.run_id)} did not")
        else:
            lines.append(f"  {plain(run.run_id)}: {_parting(parting, run.run_id)}")
    return "\n".join(lines)


def _parting(parting: Divergence, run_id: str) -> str:
    where = f"step {parting.seq:,}" + ("" if parting.run_id == run_id else f" of {plain(parting.run_id)}")
    detail = f" ({brief(parting.detail, 60)})" if parting.detail else ""
    return f"{where}, {plain(parting.token) or 'the run'} {parting.event}{detail}"


def _values(title: str, values: Sequence[ComparedValue], runs: tuple[str, str], most: int | None) -> None:
    """Print what is apart in each value: the first places where it is."""
    if not values:
        return
    table = new_table("where", *map(plain, runs), title=title)
    for value in values[:most]:
        for where, cells in _apart(value):
            table.add_row(Text(plain(where)), *cells)
    console().print(table)
    _tell_more(len(values), most)


def _apart(value: ComparedValue) -> Iterator[tuple[str, tuple[Text, Text]]]:
    if any(value.errors):
        one, other = (
            Text(brief(error, 60), style="red") if error else Text(_glance(shown))
            for shown, error in zip(value.values, value.errors, strict=True)
        )
        yield value.name, (one, other)
        return
    pair = [found if known else ABSENT for found, known in zip(value.values, value.known, strict=True)]
    places = list(islice(apart(pair[0], pair[1]), _PLACES + 1))
    for number, (path, first, second) in enumerate(places[:_PLACES]):
        shown = glance_apart(first, second)
        cells = [
            Text("(nothing)" if part is ABSENT else word) for part, word in zip((first, second), shown, strict=True)
        ]
        # What is within a value stands under its name.
        yield f"{value.name if number == 0 else '  '}{clipped(path, 60)}", (cells[0], cells[1])
    if len(places) > _PLACES:
        yield "  and more", (Text(""), Text(""))


def _tell_more(count: int, most: int | None) -> None:
    if most is not None and count > most:
        console().print(f"… {count - most:,} more: see them with --all or --json")


def _pair(pair: tuple[int, int], tell: Callable[[int], str] = str) -> Text:
    words = tell(pair[0]), tell(pair[1])
    return Text(words[0] if words[0] == words[1] else f"{words[0]} | {words[1]}")


def _glance(value: Any) -> str:
    return "" if value is None else glance(value, 60)
