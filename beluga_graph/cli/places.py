"""The place of runs that a command operates: a store of this machine, or a Temporal server."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias, TypeVar

import typer

from beluga_graph.cli.console import with_engine
from beluga_graph.cli.options import Store, default_store
from beluga_graph.cli.temporal_options import Claims, Namespace, TaskQueue, TemporalPlace, default_task_queue

if TYPE_CHECKING:
    import beluga_graph
    from beluga_graph.temporal import TemporalEngine

__all__ = ["AnyEngine", "Place", "at_place"]

AnyEngine: TypeAlias = "beluga_graph.Engine | TemporalEngine"
"""An engine on a store or on a server."""

R = TypeVar("R")
T = TypeVar("T")

_OtherServer = Annotated[
    str | None,
    typer.Option(
        "--temporal",
        help="Address of a Temporal server, for its runs instead of those of the store. TLS and an API key come from "
        "the environment, as for `worker`.",
        metavar="HOST:PORT",
        show_default=False,
    ),
]


class Place(NamedTuple):
    """A store, or a server in its stead."""

    store: Path
    server: TemporalPlace | None

    def __str__(self) -> str:
        return str(self.server or self.store)

    def run(self, call: Callable[[AnyEngine], Awaitable[T]]) -> T:
        """Run an async call with an engine at this place. Raises `CommandError` if there is no store."""
        return with_engine(self.store, call) if self.server is None else asyncio.run(_run_at(self.server, call))


async def _run_at(server: TemporalPlace, call: Callable[[AnyEngine], Awaitable[T]]) -> T:
    async with server.open() as engine:
        return await call(engine)


_OPTIONS: dict[str, tuple[Any, Any]] = {
    "store": (Store, default_store),
    "server": (_OtherServer, None),
    "namespace": (Namespace, None),
    "task_queue": (TaskQueue, default_task_queue),
    "claims": (Claims, None),
}


def at_place(body: Callable[..., R]) -> Callable[..., R]:
    """Give a command the options that name a store or a server, in place of its argument `place`."""

    @functools.wraps(body)
    def call(**given: Any) -> R:
        store, server, *others = [given.pop(name) for name in _OPTIONS]
        namespace, task_queue, claims = others
        there = TemporalPlace(server=server, namespace=namespace, claims=claims, task_queue=task_queue)
        return body(place=Place(store, there if server is not None else None), **given)

    parameters: list[inspect.Parameter] = []
    for parameter in inspect.signature(body, eval_str=True).parameters.values():
        options = _OPTIONS.items() if parameter.name == "place" else ()
        keyword = inspect.Parameter.KEYWORD_ONLY
        parameters += [
            inspect.Parameter(name, keyword, default=default, annotation=kind) for name, (kind, default) in options
        ] or [parameter.replace(kind=keyword)]
    call.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined] # which typer reads
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call
