"""One run as a person reads it: its facts, the tree of what it did, and how it differs from another one."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from rich.text import Text
from rich.tree import Tree

from beluga_graph import Engine, RunInfo, RunSnapshot
from beluga_graph.cli.looking import console, new_table, print_json, print_table, status_text, with_engine
from beluga_graph.cli.shown import brief, local_time, plain
from beluga_graph.codec.plain import as_data
from beluga_graph.draw.compare import RunDifference, Side
from beluga_graph.draw.marks import Span
from beluga_graph.draw.text import shown_duration, shown_number
from beluga_graph.draw.theme import STATUS_SIGNS
from beluga_graph.draw.trail import Trail
from beluga_graph.draw.tree import Folded, Visit, tree_of
from beluga_graph.kernel.rules import is_answer

__all__ = ["diff", "show"]

_ROW = 20  # of visits in a row that are shown
_STYLES = {"done": "green", "failed": "red", "running": "cyan", "retrying": "yellow", "waiting": "cyan"}
_PAIRS = 20  # of differences of a kind that are told


def show(store: Path, run_id: str, *, whole: bool, depth: int | None, json: bool) -> None:
    """Show one run as of its last step, with the tree of its visits."""

    async def look(engine: Engine) -> tuple[RunInfo, RunSnapshot, Trail]:
        snapshot = await engine.snapshot(run_id)
        info = next(run for run in await engine.runs() if run.run_id == run_id)
        return info, snapshot, await engine.trail(run_id)

    info, snapshot, trail = with_engine(store, look)
    visits = tree_of(trail, most=None if whole else _ROW, depth=depth)
    if json:
        tree = [_as_data(visit) for visit in visits]
        print_json({"flow": info.flow, "created_ms": info.created_ms, **as_data(snapshot), "visits": tree})
        return
    out = console()
    facts = new_table("", "", headed=False)
    facts.add_row("run", Text(plain(snapshot.run_id)))
    facts.add_row("flow", Text(plain(info.flow)))
    facts.add_row("status", status_text(snapshot.status))
    facts.add_row("steps", f"{snapshot.seq:,} committed, {snapshot.steps:,} nodes finished")
    facts.add_row("created", local_time(info.created_ms))
    facts.add_row("input", Text(brief(snapshot.input)))
    if snapshot.output is not None:
        facts.add_row("output", Text(brief(snapshot.output)))
    if snapshot.failure is not None:
        facts.add_row("failure", Text(brief(f"node {snapshot.failure.node!r}: {snapshot.failure}", 300)))
    out.print(facts)
    if visits:
        root = Tree(Text("visits"), guide_style="dim")
        _grow(root, visits, trail)
        out.print(root, soft_wrap=True)
    _show_standing(snapshot)


def _show_standing(snapshot: RunSnapshot) -> None:
    """Print where a run stands, and its state."""
    out = console()
    if snapshot.tokens:
        tokens = new_table("token", "node", "state", "attempt", "value", title="tokens")
        for token in snapshot.tokens:
            name, node, value = Text(plain(token.name)), Text(plain(token.node)), Text(brief(token.value))
            tokens.add_row(name, node, token.state, str(token.attempt), value)
        out.print(tokens)
    if snapshot.state:
        state = new_table("field", "value", title="state")
        for field, value in snapshot.state.items():
            state.add_row(Text(plain(field)), Text(brief(value)))
        out.print(state)


def _grow(branch: Tree, visits: Iterable[Visit | Folded], trail: Trail) -> None:
    for visit in visits:
        if isinstance(visit, Folded):
            told = ", ".join(f"{count:,} {status}" for status, count in visit.counts.items())
            branch.add(Text(f"… {sum(visit.counts.values()):,} more: {told} (--all shows them)", style="dim"))
        else:
            _grow(branch.add(_line(visit, trail)), visit.inside, trail)


def _line(visit: Visit, trail: Trail) -> Text:
    """Return a visit as one line: state, branch, name, time, attempts, tokens, what it waits for."""
    span = visit.span
    name = plain(span.name[len(span.place) :].removesuffix("#1"))
    parts = [] if not _spent(span, trail) and span.ended_ms is None else [shown_duration(_spent(span, trail))]
    if span.attempts > 1:
        parts.append(f"{span.attempts} attempts")
    if tokens := span.usage.get("input_tokens", 0) + span.usage.get("output_tokens", 0):
        parts.append(f"{shown_number(tokens)} tokens")
    if span.signal:
        parts.append("asks a person" if is_answer(span.signal) else f"awaits signal {plain(span.signal)}")
    if span.due_ms is not None:
        parts.append(f"due {local_time(span.due_ms)}")
    if span.status not in ("done", "running"):
        parts.append(span.status)
    line = Text()
    line.append(f"{STATUS_SIGNS[span.status]} ", style=_STYLES.get(span.status, "dim"))
    if visit.branch is not None:
        line.append(f"[{visit.branch}] ", style="dim")
    line.append(name)
    line.append(f"  {' · '.join(parts)}", style="dim")
    return line


def _spent(span: Span, trail: Trail) -> int:
    running = span.ended_ms is None and span.status == "running"
    return span.busy_ms + (trail.at_ms - span.since_ms if running else 0)


def _as_data(visit: Visit | Folded) -> dict[str, Any]:
    if isinstance(visit, Folded):
        return {"folded": visit.counts}
    inside = [_as_data(part) for part in visit.inside]
    found = {**as_data(visit.span), "branch": visit.branch}
    return {**found, "inside": inside} if inside else found


def diff(store: Path, first: str, second: str, *, json: bool) -> None:
    """Tell what is otherwise in a second run than in a first."""
    found = with_engine(store, lambda engine: engine.compare(first, second))
    if json:
        print_json({"same": found.is_same, **as_data(found)})
        return
    table = new_table("", "first", "second")
    for name, one, other in _facts(found.first, found.second):
        style = "bold" if one != other else ""
        table.add_row(name, Text(one, style=style), Text(other, style=style))
    print_table(table)
    for line in _told(found):
        console().print(Text(line), soft_wrap=True)


def _facts(first: Side, second: Side) -> Iterable[tuple[str, str, str]]:
    def fact(name: str, told: Any) -> tuple[str, str, str]:
        return name, told(first), told(second)

    yield fact("run", lambda side: plain(side.run_id))
    yield fact("flow", lambda side: plain(side.flow))
    yield fact("graph", lambda side: side.plan[:12])
    yield fact("status", lambda side: side.status)
    yield fact("output", lambda side: "" if side.output is None else brief(side.output, 60))
    if first.failure or second.failure:
        yield fact("failure", lambda side: brief(side.failure, 60))
    yield fact("visits", lambda side: f"{side.visits:,}")
    yield fact("attempts", lambda side: f"{side.attempts:,}")
    yield fact("lasted", lambda side: shown_duration(side.lasted_ms))
    for name in dict.fromkeys([*first.usage, *second.usage]):
        yield fact(plain(name.replace("_", " ")), lambda side, name=name: f"{side.usage.get(name, 0):,}")


def _told(found: RunDifference) -> Iterable[str]:
    if found.is_same:
        yield "they took the same way, to the same end"
        return
    if found.parted is not None:
        yield f"their ways part at {plain(found.parted)}"
    elif found.only_second:
        yield "the second goes on where the first is"
    yield from _listed("only the first visited", (plain(name) for name in found.only_first))
    yield from _listed("only the second visited", (plain(name) for name in found.only_second))
    yield from _listed("ended otherwise", (f"{plain(name)}: {a} | {b}" for name, a, b in found.outcomes))
    yield from _listed("gave something else", _pairs({name: (a, b) for name, a, b in found.outputs}))
    yield from _listed("state", _pairs({name: (a, b) for name, a, b in found.state}))


def _pairs(found: Mapping[str, tuple[Any, Any]]) -> Iterable[str]:
    return (f"{plain(name)}: {brief(a, 60)} | {brief(b, 60)}" for name, (a, b) in found.items())


def _listed(title: str, lines: Iterable[str]) -> Iterable[str]:
    all_lines = list(lines)
    if all_lines:
        yield f"{title}:"
        yield from (f"  {line}" for line in all_lines[:_PAIRS])
    if len(all_lines) > _PAIRS:
        yield f"  … and {len(all_lines) - _PAIRS:,} more (--json tells all)"
