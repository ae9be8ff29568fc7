"""`ParallelAgent`: flows that run at the same time, each with the same input."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any, Literal

from beluga_graph.events import Failure
from beluga_graph.flows.checks import check_flow_name
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import build_frames
from beluga_graph.plan.declared import END, START, Declared, DeclaredNode
from beluga_graph.plan.plan import Body

__all__ = ["ParallelAgent"]


class ParallelAgent(Flow):
    """A set of flows that run at the same time, on the same input.

    The output is a dict of the flows' outputs by name, in the order in which the flows are given.

    ```python
    votes = ParallelAgent("votes", [solver] * 3, aggregate=lambda results: max(results.values()))
    ```

    Args:
        name: The flow's name. An engine knows one flow by each name and version.
        agents: The flows. A flow may occur several times, for example to vote on its answers; its nodes are then
            called `solver`, `solver-2` and so on.
        aggregate: A function `(results)` or `(ctx, results)`, sync or async, that computes the output from the dict.
        on_error: With `"fail"` the first failure ends the other flows, and the whole. With `"collect"` a `Failure`
            replaces the output of a flow that failed.
        max_concurrency: The largest number of flows that run at a time; `None` for no limit.
        version: The version of the flow, such as `"2"`; `None` for a flow without versions. Runs keep the version that
            they began with.

    Attributes:
        name: The flow's name.
        agents: The flows.
        aggregate: The function that computes the output, if any.
        on_error: `"fail"` or `"collect"`.
        max_concurrency: The largest number of flows that run at a time, if there is a limit.
        version: The flow's version, if it has one.

    Raises:
        BadName: The name or the version is not valid.
        ValueError: `on_error` or `max_concurrency` is out of range.
    """

    def __init__(
        self,
        name: str,
        agents: Sequence[Flow],
        *,
        aggregate: Callable[..., Any] | None = None,
        on_error: Literal["fail", "collect"] = "fail",
        max_concurrency: int | None = None,
        version: str | None = None,
    ) -> None:
        if on_error not in ("fail", "collect"):
            msg = f"ParallelAgent({name!r}, on_error={on_error!r}): 'fail' or 'collect'"
            raise ValueError(msg)
        if max_concurrency is not None and (type(max_concurrency) is not int or max_concurrency < 1):
            msg = f"ParallelAgent({name!r}, max_concurrency={max_concurrency!r}): a whole number of at least 1"
            raise ValueError(msg)
        check_flow_name(name, version)
        self.name = name
        self.version = version
        self.agents = tuple(agents)
        self.aggregate = aggregate
        self.on_error = on_error
        self.max_concurrency = max_concurrency

    def declare(self) -> Declared:
        """Return the flow as a graph: a fan-out over the flows, closed by a join."""
        split, merge = f"{self.name}.split", f"{self.name}.merge"
        graph = Declared(self.name, version=self.version, types=(Failure,))
        frames = build_frames(self.name, self.agents, own=(split, merge))
        names = tuple(node.name for node in frames)
        graph.nodes[split] = DeclaredNode(
            name=split, kind="fan_out", to=names, join=merge, max_concurrency=self.max_concurrency
        )
        for node in frames:
            graph.nodes[node.name] = node
            graph.edges.append((node.name, merge))
        body = _make_merge(names, self.aggregate)
        graph.nodes[merge] = DeclaredNode(name=merge, kind="join", body=body, collect=self.on_error == "collect")
        graph.edges += [(START.name, split), (merge, END.name)]
        return graph


def _make_merge(names: tuple[str, ...], aggregate: Callable[..., Any] | None) -> Callable[..., Any]:
    def name_results(results: list[Any]) -> dict[str, Any]:
        return dict(zip(names, results, strict=True))

    if aggregate is None:

        async def merge(results: list[Any]) -> dict[str, Any]:
            return name_results(results)

        return merge
    return _wrap_aggregate(aggregate, name_results)


def _wrap_aggregate(
    aggregate: Callable[..., Any], name_results: Callable[[list[Any]], dict[str, Any]]
) -> Callable[..., Any]:
    """Return a join's function that calls `aggregate`, with the context if `aggregate` takes one."""
    takes_context = Body.of(aggregate).takes_context

    def merge(ctx: Any, results: list[Any]) -> Any:
        return aggregate(ctx, name_results(results)) if takes_context else aggregate(name_results(results))

    async def merge_async(ctx: Any, results: list[Any]) -> Any:
        return await merge(ctx, results)

    return merge_async if inspect.iscoroutinefunction(aggregate) else merge
