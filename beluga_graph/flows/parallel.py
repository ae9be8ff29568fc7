"""`ParallelAgent`: all flows at once, each with the same input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

from beluga_graph.events import Failure
from beluga_graph.flows.checks import check_name
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import frames_of
from beluga_graph.plan import Body
from beluga_graph.plan.declared import END, START, Declared, DeclaredNode

__all__ = ["ParallelAgent"]


class ParallelAgent(Flow):
    """Run flows at once on the same input. The output is a dict by name, in the order of declaration.

    One flow may be given several times, to ask it again and vote: the names are then `solver`, `solver-2` and so on.
    `aggregate(results)` or `aggregate(ctx, results)` makes something else of that dict. With `on_error="fail"`
    the first failure ends the others; with `"collect"` a `Failure` stands in the failed one's place.
    `max_concurrency` bounds how many run at a time.
    """

    def __init__(
        self,
        name: str,
        agents: Sequence[Flow],
        *,
        aggregate: Callable[..., Any] | None = None,
        on_error: Literal["fail", "collect"] = "fail",
        max_concurrency: int | None = None,
    ) -> None:
        if on_error not in ("fail", "collect"):
            msg = f"ParallelAgent({name!r}, on_error={on_error!r}): 'fail' or 'collect'"
            raise ValueError(msg)
        if max_concurrency is not None and (type(max_concurrency) is not int or max_concurrency < 1):
            msg = f"ParallelAgent({name!r}, max_concurrency={max_concurrency!r}): a whole number of at least 1"
            raise ValueError(msg)
        check_name(name, name)
        self.name = name
        self.agents = tuple(agents)
        self.aggregate = aggregate
        self.on_error = on_error
        self.max_concurrency = max_concurrency

    def declare(self) -> Declared:
        """Return a fan-out over the flows, closed by a join."""
        split, merge = f"{self.name}.split", f"{self.name}.merge"
        graph = Declared(self.name, types=(Failure,))
        frames = frames_of(self.name, self.agents, own=(split, merge))
        names = tuple(node.name for node in frames)
        graph.nodes[split] = DeclaredNode(
            name=split, kind="fan_out", to=names, join=merge, max_concurrency=self.max_concurrency
        )
        for node in frames:
            graph.nodes[node.name] = node
            graph.edges.append((node.name, merge))
        body = _merged(names, self.aggregate)
        graph.nodes[merge] = DeclaredNode(name=merge, kind="join", body=body, collect=self.on_error == "collect")
        graph.edges += [(START.name, split), (merge, END.name)]
        return graph


def _merged(names: tuple[str, ...], aggregate: Callable[..., Any] | None) -> Callable[..., Any]:
    def by_name(results: list[Any]) -> dict[str, Any]:
        return dict(zip(names, results, strict=True))

    if aggregate is None:

        async def merge(results: list[Any]) -> dict[str, Any]:
            return by_name(results)

        return merge
    return _with_results(aggregate, by_name)


def _with_results(aggregate: Callable[..., Any], by_name: Callable[[list[Any]], dict[str, Any]]) -> Callable[..., Any]:
    """Return a join's function that calls `aggregate` as it wants to be called: with the context or without."""
    takes_context = Body.of(aggregate).takes_context

    def merge(ctx: Any, results: list[Any]) -> Any:
        return aggregate(ctx, by_name(results)) if takes_context else aggregate(by_name(results))

    async def merge_async(ctx: Any, results: list[Any]) -> Any:
        return await merge(ctx, results)

    return merge_async if inspect.iscoroutinefunction(aggregate) else merge
