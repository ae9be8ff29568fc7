"""`demo`: a pipeline over a folder's text files, to be killed and started again."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from beluga_graph.cli.options import Store, command, default_store

app = typer.Typer()


class Durability(StrEnum):
    """When a step counts as committed."""

    commit = "commit"
    batch = "batch"
    none = "none"


@command(app)
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
    output: Annotated[Path, typer.Option("--output", help="The report's file.", metavar="PATH")] = Path("report.md"),
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Start a new run. An unfinished earlier run over the folder is cancelled.")
    ] = False,
    slow: Annotated[
        float,
        typer.Option(
            "--slow",
            help="Pause before each document, to leave you time to kill the run. 0 is full speed.",
            metavar="SECONDS",
            min=0.0,
            max=3600.0,
        ),
    ] = 0.1,
    durability: Annotated[
        Durability,
        typer.Option(
            "--durability",
            help="When a step is safe: commit survives a power loss; batch may lose the last 50 ms; none survives a "
            "crash of the process only.",
        ),
    ] = Durability.commit,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            help="Let a model describe each document in a sentence: openai:NAME or anthropic:NAME. The beginning of "
            "each document is sent to that provider. The key and the address come from the environment "
            "(OPENAI_API_KEY, OPENAI_BASE_URL, …).",
            metavar="PROVIDER:NAME",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Read a folder's text files and write a report about them. Kill it at any moment and start it again.

    Each document is parsed, counted, and searched for keywords and links, in parallel branches; then the documents
    are compared, and a loop sums them up. Every finished node is on disk: the same command continues where it was
    killed, and ends in the same report. It needs no key, no network and no server, unless you name a model; even
    then an answer that was received and committed is never requested, or paid for, again.
    """
    from beluga_graph.cli.demo_run import run_demo  # noqa: PLC0415 - no other command needs the pipeline

    run_demo(folder, store=store, output=output, fresh=fresh, pause_s=slow, durability=durability.value, model=model)
