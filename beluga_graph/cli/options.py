"""What the commands share: their options, and the exit codes that each help tells."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

__all__ = ["CODES", "FlowName", "Json", "RunId", "Store", "default_store"]

CODES = (
    "Exit codes: 0 done, 1 error, 2 wrong usage, 3 the run failed, 4 busy (another process has it), 130 Ctrl-C "
    "(0 for serve). A run that waits is a 0; what verify and check find is a 1."
)
default_store = Path(".beluga/demo.lmdb")

Store = Annotated[Path, typer.Option("--store", help="Folder of the LMDB store.", metavar="PATH")]
RunId = Annotated[str, typer.Argument(help="The run's id, as `runs` lists it.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
FlowName = Annotated[
    str,
    typer.Argument(help="Where the flow is, such as package.module:name; its module is run.", metavar="MODULE:FLOW"),
]
