"""One run as a person reads it: its facts, where it stands, its state, and the tree of what it did."""

from __future__ import annotations

from pathlib import Path

from rich.text import Text

from beluga_graph import Engine, RunInfo, RunSnapshot
from beluga_graph.cli.commands.runs import console, new_table, print_json, status_text, with_engine
from beluga_graph.cli.terminal_text import brief, local_time, plain
from beluga_graph.cli.tree_view import Walked, walked
from beluga_graph.codec.to_json import as_data

__all__ = ["show"]


def show(store: Path, run_id: str, *, depth: int | None, unfolded: bool, json: bool) -> None:
    """Show one run as of its last step: the facts, where it stands, its state, and the tree of its visits."""

    async def look(engine: Engine) -> tuple[RunInfo, RunSnapshot, Walked]:
        snapshot = await engine.snapshot(run_id)
        info = next(run for run in await engine.runs() if run.run_id == run_id)
        return info, snapshot, walked(engine.store, run_id, depth=depth, unfolded=unfolded)

    info, snapshot, tree = with_engine(store, look)
    if json:
        print_json({"flow": info.flow, "created_ms": info.created_ms, **as_data(snapshot), "visits": tree.data()})
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
    out.print(tree.shown(snapshot.status, ascii_only=out.options.ascii_only), soft_wrap=True)
