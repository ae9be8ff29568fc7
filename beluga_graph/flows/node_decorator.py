"""The decorator that declares a function as a node of a graph."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, TypeVar, overload

from beluga_graph.execution.context import Context
from beluga_graph.flows.checks import check_approval
from beluga_graph.plan.declared import Approval, DeclaredNode, Node
from beluga_graph.plan.times import Delay, read_time
from beluga_graph.policy import Retry

__all__ = ["NodeDecorator"]

A = TypeVar("A")
B = TypeVar("B")


class NodeDecorator:
    """The decorator that `@g.node(name=…, retry=…, timeout=…)` returns. It declares a function as a node."""

    def __init__(
        self,
        graph: str,
        declare: Callable[[DeclaredNode], None],
        name: str | None,
        retry: Retry | None,
        timeout: Delay | None,
        *,
        requires_approval: Approval = False,
    ) -> None:
        self._graph, self._declare = graph, declare
        self._name, self._retry, self._timeout = name, retry, timeout
        self._requires_approval = requires_approval

    @overload
    def __call__(self, fn: Callable[[Context, A], Awaitable[B]], /) -> Node[A, B]: ...
    @overload
    def __call__(self, fn: Callable[[Context, A], B], /) -> Node[A, B]: ...
    @overload
    def __call__(self, fn: Callable[[A], Awaitable[B]], /) -> Node[A, B]: ...
    @overload
    def __call__(self, fn: Callable[[A], B], /) -> Node[A, B]: ...
    @overload
    def __call__(self, fn: Callable[[], B], /) -> Node[Any, B]: ...

    def __call__(self, fn: Callable[..., Any], /) -> Node[Any, Any]:
        name = self._name if self._name is not None else str(getattr(fn, "__name__", ""))
        check_approval(f"node {name!r}", self._requires_approval)
        node = DeclaredNode(
            name=name, kind="function", body=fn, retry=self._retry, requires_approval=self._requires_approval
        )
        self._declare(node.limited(read_time(f"node {name!r}", "timeout", self._timeout)))
        return Node(self._graph, name, fn)
