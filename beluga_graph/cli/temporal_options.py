"""The options that name a Temporal server, and the engines on it.

What the options leave open comes from the environment and the configuration file of Temporal's own tools:
`TEMPORAL_ADDRESS`, `TEMPORAL_NAMESPACE`, `TEMPORAL_API_KEY`, `TEMPORAL_TLS_…`, `TEMPORAL_PROFILE`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from beluga_graph.cli.exit_codes import CommandError

if TYPE_CHECKING:
    from beluga_graph.temporal import TemporalEngine
    from beluga_graph.temporal.connection.settings import ConnectionSettings

__all__ = ["Claims", "Namespace", "Server", "TaskQueue", "TemporalPlace", "default_task_queue"]

_SERVER = "localhost:7233"
default_task_queue = "beluga-graph"

Server = Annotated[
    str | None,
    typer.Option(
        "--temporal",
        help="Address of the Temporal server; by default that of TEMPORAL_ADDRESS or Temporal's configuration file, or "
        f"{_SERVER}. TLS and the API key come from there, too.",
        metavar="HOST:PORT",
        show_default=False,
    ),
]
Namespace = Annotated[
    str | None,
    typer.Option(
        "--namespace",
        help="Namespace of the runs on the server; by default that of TEMPORAL_NAMESPACE, or 'default'.",
        metavar="NAME",
        show_default=False,
    ),
]
TaskQueue = Annotated[
    str, typer.Option("--task-queue", help="Task queue of the runs, as their engine names it.", metavar="NAME")
]
Claims = Annotated[
    str | None,
    typer.Option(
        "--claims",
        help="Place for large values, the same for all workers and clients: a folder, an LMDB store or s3://bucket/prefix.",
        metavar="PLACE",
        show_default=False,
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class TemporalPlace:
    """The server, the namespace and the task queue of runs, and the claims that have their large values."""

    server: str | None
    namespace: str | None
    claims: str | None
    task_queue: str = default_task_queue

    def __str__(self) -> str:
        settings = self._load_settings()
        return f"task queue {self.task_queue!r} of {settings.address}, namespace {settings.namespace!r}"

    @asynccontextmanager
    async def open(self, **options: Any) -> AsyncIterator[TemporalEngine]:
        """Open an engine, which connects at its first request.

        Raises `CommandError` without the packages that it needs, or for a wrong configuration; `BadParameter`.
        """
        settings = self._load_settings()
        from beluga_graph.temporal import TemporalEngine  # noqa: PLC0415 - of the extra temporal, and slow

        options = {"task_queue": self.task_queue, "claims": self.claims, **options}
        try:
            engine = TemporalEngine(await settings.resolve(), namespace=settings.namespace, **options)
        except ImportError as error:  # of the claims, whose text names the extra
            raise CommandError(str(error)) from None
        except ValueError as error:
            raise typer.BadParameter(str(error), param_hint="--claims") from None
        async with engine:
            yield engine

    def _load_settings(self) -> ConnectionSettings:
        """Return how to connect: the options, then the environment and the configuration file of Temporal."""
        try:
            from beluga_graph.temporal.connection.settings import ConnectionSettings  # noqa: PLC0415 - as above
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != "temporalio":
                raise
            raise CommandError("Temporal needs the package temporalio: pip install 'beluga-graph[temporal]'") from None
        try:
            return ConnectionSettings.load(self.server, self.namespace)
        except ValueError as error:
            raise CommandError(str(error)) from None
