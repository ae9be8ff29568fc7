"""`show`: the facts, tokens and state of one run, and the tree of its visits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.text import Text

import beluga_graph
from beluga_graph.cli.console import console, new_table, print_json, status_text, with_engine
from beluga_graph.cli.options import Json, RunId, Store, command, default_store
from beluga_graph.cli.terminal_text import brief, local_time, to_printable
from beluga_graph.cli.tree_view import render_tree, tree_data
from beluga_graph.codec.to_json import to_json

if TYPE_CHECKING:
    from beluga_graph.inspection.run_tree import RunTree

app = typer.Typer()


@command(app)
def show(
    run: RunId,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            help="Tree: levels of frames and fan-outs to show; 0 shows the outermost visits.",
            metavar="N",
            min=0,
            show_default=False,
        ),
    ] = None,
    unfolded: Annotated[
        bool, typer.Option("--all", help="Tree: show every visit of long loops and every branch of wide fan-outs.")
    ] = False,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Show a run: status, steps, tokens, state and the tree of visits.

    The tree shows each visit below its frame or branch, with its status, its duration, and its result or what it
    waits for. Of a long row of visits it shows the first, the last, and those that failed or are not finished.
    """

    async def look(engine: beluga_graph.Engine) -> tuple[beluga_graph.RunInfo, beluga_graph.RunSnapshot, RunTree]:
        snapshot = await engine.snapshot(run)
        info = next(info for info in await engine.runs() if info.run_id == run)
        return info, snapshot, await engine.inspector.tree(run, depth=depth, unfolded=unfolded)

    info, snapshot, tree = with_engine(store, look)
    if json:
        about = {"flow": info.flow, "created_ms": info.created_ms, "moved_to": info.moved_to}
        print_json({**about, **to_json(snapshot), "visits": tree_data(tree)})
        return
    out = console()
    _print_facts(out, info, snapshot)
    _print_tokens(out, snapshot)
    _print_state(out, snapshot)
    out.print(render_tree(tree, snapshot.status, ascii_only=out.options.ascii_only), soft_wrap=True)


def _print_facts(out: Console, info: beluga_graph.RunInfo, snapshot: beluga_graph.RunSnapshot) -> None:
    facts = new_table("", "", headed=False)
    facts.add_row("run", Text(to_printable(snapshot.run_id)))
    facts.add_row("flow", Text(to_printable(info.flow)))
    facts.add_row("status", status_text(snapshot.status))
    if info.moved_to:
        facts.add_row("goes on at", Text(to_printable(info.moved_to)))
    facts.add_row("steps", f"{snapshot.seq:,} committed, {snapshot.steps:,} nodes finished")
    facts.add_row("created", local_time(info.created_ms))
    facts.add_row("input", Text(brief(snapshot.input)))
    if snapshot.output is not None:
        facts.add_row("output", Text(brief(snapshot.output)))
    if snapshot.failure is not None:
        facts.add_row("failure", Text(brief(f"node {snapshot.failure.node!r}: {snapshot.failure}", 300)))
    out.print(facts)


def _print_tokens(out: Console, snapshot: beluga_graph.RunSnapshot) -> None:
    if not snapshot.tokens:
        return
    tokens = new_table("token", "node", "state", "attempt", "value", title="tokens")
    for token in snapshot.tokens:
        name, node, value = Text(to_printable(token.name)), Text(to_printable(token.node)), Text(brief(token.value))
        tokens.add_row(name, node, token.state, str(token.attempt), value)
    out.print(tokens)


def _print_state(out: Console, snapshot: beluga_graph.RunSnapshot) -> None:
    if not snapshot.state:
        return
    state = new_table("field", "value", title="state")
    for field, value in snapshot.state.items():
        state.add_row(Text(to_printable(field)), Text(brief(value)))
    out.print(state)
