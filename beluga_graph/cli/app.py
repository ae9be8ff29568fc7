"""The commands that look, the demo, and their options. What they do is in the modules beside this one."""

# ruff: noqa: FBT002  # typer gives options by name

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from beluga_graph import __version__
from beluga_graph.cli import operating
from beluga_graph.cli.commands import diff as comparing
from beluga_graph.cli.commands import draw as drawing
from beluga_graph.cli.commands import runs as looking
from beluga_graph.cli.commands import show as showing
from beluga_graph.cli.commands import verify as checking
from beluga_graph.cli.commands.draw import Form, Shade
from beluga_graph.cli.exit_codes import Exit, complain, told
from beluga_graph.cli.options import CODES, Json, RunId, Store, default_store
from beluga_graph.cli.terminal_text import as_json
from beluga_graph.inspection.views import RunStatus

__all__ = ["app"]

_HELP = "Durable graphs: a demo to kill, a look into stores and flows, and what it takes to operate them."

app = typer.Typer(
    name="beluga-graph",
    help=_HELP,
    epilog=CODES,
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,  # its boxes show local variables, which may be secrets
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Durability(StrEnum):
    """When a step counts as done."""

    commit = "commit"
    batch = "batch"
    none = "none"


def _version(wanted: bool) -> None:  # noqa: FBT001 - typer calls it
    if wanted:
        typer.echo(f"beluga-graph {__version__}")
        raise typer.Exit


@app.callback()
def root(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
) -> None:
    """Take the options that belong to no command."""


@app.command(epilog=CODES)
@told
def demo(
    folder: Annotated[
        Path | None,
        typer.Argument(
            help="Folder of text files; by default the documents and sources of beluga_graph itself.",
            exists=True,
            file_okay=False,
            show_default=False,
        ),
    ] = None,
    store: Store = default_store,
    output: Annotated[Path, typer.Option("--output", help="Where the report goes.", metavar="PATH")] = Path(
        "report.md"
    ),
    fresh: Annotated[bool, typer.Option("--fresh", help="Forget earlier runs over the folder; start a new one.")] = (
        False
    ),
    slow: Annotated[
        float,
        typer.Option(
            "--slow",
            help="Pause before each document. Nothing needs it: it leaves you time to kill the run. 0 is full speed.",
            metavar="SECONDS",
            min=0.0,
            max=3600.0,
        ),
    ] = 0.1,
    durability: Annotated[
        Durability, typer.Option("--durability", help="When a step counts as done: see `Engine`.")
    ] = Durability.commit,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Let a model say in a sentence what each document is about: openai:NAME or anthropic:NAME. How each "
            "document begins is sent to that provider. The key and the address come from the environment "
            "(OPENAI_API_KEY, OPENAI_BASE_URL, …).",
            metavar="PROVIDER:NAME",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read a folder's text files and write a report about them. Kill it at any moment and start it again.

    Each document is parsed, counted, searched for keywords and links in branches of their own; the corpus is
    compared as a whole and summed up in a loop. Every finished node is on disk, so the same command goes on
    where it was killed, and ends in the same report. Needs no key, no network and no server, unless
    you name a model; then too no answer is paid for twice.
    """
    from beluga_graph.cli.commands.demo import demo as run_demo  # noqa: PLC0415 - looking into a store needs no pipeline

    run_demo(folder, store=store, output=output, fresh=fresh, pause_s=slow, durability=durability.value, model=model)


@app.command(epilog=CODES)
@told
def runs(
    status: Annotated[
        list[RunStatus] | None,
        typer.Option("--status", help="Only those of this status; may be repeated.", show_default=False),
    ] = None,
    flow: Annotated[
        str | None, typer.Option("--flow", help="Only those of the flow of this name.", metavar="NAME")
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """List the runs of a store."""
    looking.runs(store, status=status or (), flow=flow, json=json)


@app.command(epilog=CODES)
@told
def show(
    run: RunId,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth",
            help="Tree: how deep it goes into frames and fan-outs; 0 is the outermost visits.",
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
    """Show a run as of its last step: status, steps, tokens, state, and its visits as a tree.

    Each visit stands under the frame or the branch that it is in, with what became of it, how long it took, and what
    it waits for or ended in. Many in a row are folded: the first, the last, and those that failed or go on are shown.
    """
    showing.show(store, run, depth=depth, unfolded=unfolded, json=json)


@app.command(epilog=CODES)
@told
def diff(
    run: RunId,
    other: Annotated[str, typer.Argument(help="The other run's id.", metavar="RUN")],
    unfolded: Annotated[bool, typer.Option("--all", help="Show every node, and every value that differs.")] = False,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Compare two runs, such as a run and its fork: where their paths part, and what came of each.

    A visit is known by its name, so it makes no difference which branch finished first, or when. What differs is
    no error: the exit code is 0.
    """
    comparing.diff(store, run, other, unfolded=unfolded, json=json)


@app.command(epilog=CODES)
@told
def history(run: RunId, store: Store = default_store, json: Json = False) -> None:
    """List the committed steps of a run."""
    looking.history(store, run, json=json)


@app.command(epilog=CODES)
@told
def events(
    run: RunId,
    after: Annotated[int, typer.Option("--after", help="Only those of later steps.", metavar="N", min=0)] = 0,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """List what watchers of a run were told, step by step."""
    looking.events(store, run, after=after, json=json)


@app.command(epilog=CODES)
@told
def draw(
    target: Annotated[
        str,
        typer.Argument(
            help="A run's id, or where a flow is, such as package.module:name. If the store has a run of that id, it "
            "is the run; else the module is run.",
            metavar="MODULE:FLOW|RUN",
            show_default=False,
        ),
    ],
    form: Annotated[
        Form | None,
        typer.Option(
            "--format",
            help="What to draw it in; by default what the name of --output says, else mermaid for a flow and ascii "
            "for a run.",
            show_default=False,
        ),
    ] = None,
    depth: Annotated[
        int | None,
        typer.Option(
            "--depth", help="Fold sub-flows deeper than this; 0 folds all.", metavar="N", min=0, show_default=False
        ),
    ] = None,
    theme: Annotated[Shade, typer.Option("--theme", help="Of svg: its colours; auto is what its reader prefers.")] = (
        Shade.auto
    ),
    step: Annotated[
        int | None,
        typer.Option(
            "--step", help="Of a run: as of this step; by default the last.", metavar="N", min=0, show_default=False
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", help="The file to write, whole or not at all.", metavar="PATH", show_default=False),
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Draw a flow, or a run over its graph. A run is drawn from the store alone, without its code.

    The drawing goes to the standard output, or to a file. The same flow, or step of a run, gives the same bytes.
    Of a run, html is a page on which it can be replayed.
    """
    drawing.draw(target, store=store, form=form, depth=depth, theme=theme, step=step, output=output, json=json)


@app.command(epilog=CODES)
@told
def verify(store: Store = default_store, json: Json = False) -> None:
    """Check a store: its file page by page, every record, and every run. Exits with 1 if something is damaged.

    It needs no code of the flows, may run beside processes that use the store, and changes nothing. Of a file that is
    damaged nothing else is read. Each line names a run or a record, what is wrong with it, and the way out.
    """
    checked = checking.check_path(store)
    if json:
        typer.echo(as_json(checked))
    else:
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in checked.records.items()) or "none"
        typer.echo(f"records read: {sum(checked.records.values()):,} ({kinds}); runs rebuilt: {checked.runs:,}")
        for found in checked.damage:
            complain(f"{found.where}: {found.detail}; {found.advice}")
        if not checked.damage:
            typer.echo("no damage")
    if checked.damage:
        raise typer.Exit(Exit.error)


app.add_typer(operating.app)
