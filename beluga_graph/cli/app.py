"""The commands that look, the demo, and their options. What they do is in the modules beside this one."""

# ruff: noqa: FBT002  # typer gives options by name

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from beluga_graph import __version__
from beluga_graph.cli import checking, drawing, looking, operating, showing
from beluga_graph.cli.ends import Exit, complain, told
from beluga_graph.cli.options import CODES, Json, RunId, Store, default_store
from beluga_graph.cli.shown import as_json
from beluga_graph.run import RunStatus

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


class Drawing(StrEnum):
    """What can be drawn."""

    mermaid = "mermaid"
    svg = "svg"
    dot = "dot"
    ascii = "ascii"
    html = "html"


class Colours(StrEnum):
    """The colours of a drawing."""

    auto = "auto"
    light = "light"
    dark = "dark"


Depth = Annotated[
    int | None,
    typer.Option("--depth", help="Fold sub-flows deeper than this.", metavar="N", min=0, show_default=False),
]


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
    from beluga_graph.cli.demo import demo as run_demo  # noqa: PLC0415 - looking into a store needs no pipeline

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
    whole: Annotated[bool, typer.Option("--all", help="Show every visit, also of long rows.")] = False,
    depth: Depth = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Show a run as of its last step: status, steps, the tree of its visits with times, tokens, state."""
    showing.show(store, run, whole=whole, depth=depth, json=json)


@app.command(epilog=CODES)
@told
def diff(
    first: Annotated[str, typer.Argument(help="A run's id.", metavar="RUN")],
    second: Annotated[str, typer.Argument(help="Another run's id.", metavar="RUN")],
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Tell what is otherwise in a second run than in a first: where they part, outputs, state, time and tokens."""
    showing.diff(store, first, second, json=json)


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
            help="A run of the store, by its id; or a flow, as package.module:name, whose module is then run.",
            metavar="RUN|MODULE:FLOW",
        ),
    ],
    form: Annotated[Drawing, typer.Option("--format", help="What to draw it as.")] = Drawing.mermaid,
    depth: Depth = None,
    theme: Annotated[Colours, typer.Option("--theme", help="Of svg: auto is what the reader prefers.")] = Colours.auto,
    step: Annotated[
        int | None, typer.Option("--step", help="Of a run: as of this step.", metavar="N", show_default=False)
    ] = None,
    output: Annotated[
        Path | None, typer.Option("--output", help="Write it there.", metavar="PATH", show_default=False)
    ] = None,
    store: Store = default_store,
    json: Json = False,
) -> None:
    """Draw a run over the graph that it stands in, or a flow."""
    drawing.draw(
        target,
        store,
        form=form.value,
        depth=depth,
        theme=theme.value,
        seq=step,
        output=output,
        json=json,
    )


@app.command(epilog=CODES)
@told
def verify(store: Store = default_store, json: Json = False) -> None:
    """Read every record of a store, check it, and rebuild every run. Exits with 1 if something is damaged."""
    checked = checking.check_path(store)
    if json:
        typer.echo(as_json(checked))
    else:
        kinds = ", ".join(f"{kind} {number:,}" for kind, number in checked.records.items()) or "none"
        typer.echo(f"records read: {sum(checked.records.values()):,} ({kinds}); runs rebuilt: {checked.runs:,}")
        for found in checked.damage:
            complain(f"{found.where}: {found.detail}")
        if not checked.damage:
            typer.echo("no damage")
    if checked.damage:
        raise typer.Exit(Exit.error)


app.add_typer(operating.app)
