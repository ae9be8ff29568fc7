"""Options and arguments that several commands share, and the decorator that declares a command."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import typer

from beluga_graph.cli.exit_codes import report_errors

__all__ = [
    "CODES",
    "BusFolder",
    "FittingFlow",
    "FlowName",
    "FlowNames",
    "FlowOption",
    "Grace",
    "Json",
    "RunId",
    "Store",
    "command",
    "default_bus",
    "default_grace",
    "default_store",
]

P = ParamSpec("P")
R = TypeVar("R")

CODES = (
    "Exit codes: 0 done, 1 error, 2 wrong usage, 3 the run failed, 4 busy (another process has it), 130 Ctrl-C "
    "(serve, worker: 0). A run that waits exits with 0; verify and check exit with 1 if they find a problem."
)
default_store = Path(".beluga/demo.lmdb")
default_grace = 10.0
default_bus: Path | None = None

Store = Annotated[Path, typer.Option("--store", help="Folder of the LMDB store.", metavar="PATH")]
RunId = Annotated[str, typer.Argument(help="The run's id.", metavar="RUN")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
FlowName = Annotated[
    str,
    typer.Argument(help="The flow, such as package.module:name. Its module is imported.", metavar="MODULE:FLOW"),
]
FlowNames = Annotated[
    list[str],
    typer.Argument(help="The flows, such as package.module:name. Their modules are imported.", metavar="MODULE:FLOW…"),
]
FlowOption = Annotated[
    str,
    typer.Option(
        "--flow", help="The run's flow, such as package.module:name. Its module is imported.", metavar="MODULE:FLOW"
    ),
]
FittingFlow = Annotated[
    str | None,
    typer.Option(
        "--flow",
        help="The run's flow: a value of the wrong type is then refused at once. Its module is imported.",
        metavar="MODULE:FLOW",
        show_default=False,
    ),
]
Grace = Annotated[
    float,
    typer.Option("--grace", help="Seconds that running nodes have to finish after a stop.", metavar="S", min=0.0),
]
BusFolder = Annotated[
    Path | None,
    typer.Option(
        "--bus",
        help="Folder of the event bus. It gets the events that runs publish, and an event for each change of a run's "
        "status, which is printed here too.",
        metavar="PATH",
        show_default=False,
    ),
]


def command(app: typer.Typer, name: str | None = None) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Declare a function as a command of an app, with the exit codes in its help and its errors reported.

    The command has the function's name by default.
    """

    def declare(body: Callable[P, R]) -> Callable[P, R]:
        return app.command(name, epilog=CODES)(report_errors(body))

    return declare
