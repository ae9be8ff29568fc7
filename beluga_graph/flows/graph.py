"""`Graph`: a flow built node by node in code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from beluga_graph.errors import AmbiguousExit, BadName, DelegationCycle, DuplicateNode
from beluga_graph.execution.context import Context
from beluga_graph.flows.checks import check_approval, check_name, check_seconds, check_signal_name, checked_types
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import frame_of
from beluga_graph.flows.steps import Part
from beluga_graph.plan.declared import MISSING, Approval, Branch, Declared, DeclaredNode, Missing, Node, Terminal
from beluga_graph.policy import Limits, Retry

__all__ = ["Graph"]

A = TypeVar("A")
B = TypeVar("B")


class NodeDecorator:
    """What `@g.node(name=…, retry=…, timeout=…)` returns: makes a function a node."""

    def __init__(
        self,
        graph: Graph,
        name: str | None,
        retry: Retry | None,
        timeout: float | None,
        *,
        requires_approval: Approval = False,
    ) -> None:
        self._graph, self._name, self._retry, self._timeout = graph, name, retry, timeout
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
            name=name,
            kind="function",
            body=fn,
            retry=self._retry,
            timeout=self._timeout,
            requires_approval=self._requires_approval,
        )
        self._graph._declare(node)  # noqa: SLF001 - the decorator is a part of the graph's face
        return Node(self._graph.name, name, fn)


class Graph(Flow):
    """A graph in code. Nodes are functions or other flows; edges carry the value from one to the next.

    `state` is a pydantic model class whose fields nodes read as `ctx.state` and write by `ctx.update`.
    `limits` bounds every run of the graph. Building raises `GraphError` as soon as a call is wrong in itself;
    what needs the whole graph is checked by `plan()`, and so by the first run.

    `types` are classes (dataclasses, pydantic models, Enums) of values that no annotation names: of the input, of
    `context=`, of a payload. Only instances of classes that a flow names can be stored, and read in another process.
    """

    def __init__(
        self, name: str, *, state: type[Any] | None = None, limits: Limits | None = None, types: Iterable[Any] = ()
    ) -> None:
        check_name(name, name)
        self.name = name
        named = checked_types(f"graph {name!r}", types)
        self._declared = Declared(name=name, state=state, limits=limits, types=named)

    def declare(self) -> Declared:
        """Return what was declared so far."""
        return self._declared

    # Nodes.

    @overload
    def node(self, fn: Callable[[Context, A], Awaitable[B]], /) -> Node[A, B]: ...
    @overload
    def node(self, fn: Callable[[Context, A], B], /) -> Node[A, B]: ...
    @overload
    def node(self, fn: Callable[[A], Awaitable[B]], /) -> Node[A, B]: ...
    @overload
    def node(self, fn: Callable[[A], B], /) -> Node[A, B]: ...
    @overload
    def node(self, fn: Callable[[], B], /) -> Node[Any, B]: ...
    @overload
    def node(
        self,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        requires_approval: Approval = False,
    ) -> NodeDecorator: ...

    def node(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
        requires_approval: Approval = False,
    ) -> Any:
        """Make a function a node: `f(value)` or `f(ctx, value)`, async (on the loop) or not (in a thread).

        `timeout` bounds one attempt, in seconds; `requires_approval` is as in `step`. Raises `DuplicateNode`,
        `BadName`.
        """
        decorator = NodeDecorator(self, name, retry, timeout, requires_approval=requires_approval)
        return decorator if fn is None else decorator(fn)

    def add(
        self,
        flow: Flow | Part | Callable[..., Any],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: float | None = None,
    ) -> Node[Any, Any]:
        """Make any flow a node: its input is the node's, its output too. A second use demands a `name`.

        A flow becomes a frame: its own visit counters and state, one boundary for errors; `retry` begins the
        whole anew and `timeout` is the deadline of the whole, in seconds. A plain function works as in `node`; a
        part of a workflow (`step`, `wait_signal`, `sleep`) has its own retry and timeout.
        """
        function = None
        if isinstance(flow, Part):
            if retry is not None or timeout is not None:
                msg = f"{flow!r} has its own retry and timeout: give them where the part is made"
                raise TypeError(msg)
            node, function = flow.node(name), flow.__wrapped__
        elif isinstance(flow, Flow):
            node = frame_of(flow, name=name, retry=retry, timeout=timeout)
        else:
            return NodeDecorator(self, name, retry, timeout)(flow)
        if node.flow is not None and _contains(node.flow, self._declared):
            rule = "this graph is a part of it, as a sub-flow or as somebody's child"
            raise DelegationCycle(self.name, f"node {node.name!r}", rule, "add a flow that does not contain it")
        self._declare(node)
        return Node(self.name, node.name, function)

    def fan_out(
        self,
        name: str,
        to: Sequence[Node[A, Any] | str] | Node[A, Any] | str,
        *,
        join: Node[Any, Any] | str,
        over: Callable[..., Iterable[Any]] | None = None,
        max_concurrency: int | None = None,
    ) -> Node[A, Any]:
        """Open one branch per target, each with the same value; or, with `over`, one per item of `over(value)`.

        `over(value)` or `over(ctx, value)` returns the items, in branch order. Every path from the fan-out
        must reach its `join`; where no edge leads to the join, each target leads straight to it.
        `max_concurrency` bounds the branches that run at a time.
        """
        targets = [to] if isinstance(to, Node | str) else list(to)
        if over is not None and len(targets) != 1:
            message = f"{len(targets)} targets with over="
            raise AmbiguousExit(self.name, f"fan-out {name!r}", message, "give one target that takes an item")
        if not targets:
            raise AmbiguousExit(self.name, f"fan-out {name!r}", "it has no target", "give to= at least one node")
        names = tuple(self._end(target) for target in targets)
        self._declare(
            DeclaredNode(
                name=name,
                kind="fan_out",
                to=names,
                over=over,
                join=self._end(join),
                max_concurrency=_at_least_one("max_concurrency", max_concurrency),
            )
        )
        return Node(self.name, name)

    def join(
        self,
        name: str,
        fn: Callable[..., Any] | None = None,
        *,
        wait: int | Literal["all"] = "all",
        timeout: float | None = None,
        on_error: Literal["fail", "collect"] = "fail",
    ) -> Node[Any, Any]:
        """Close a fan-out: `fn(results)` or `fn(ctx, results)` gets the results in branch order; without it
        the list is the output.

        `wait=k` fires at the first k successes and drops the rest; failures are tolerated while k can be
        reached. `timeout` (seconds since the fan-out) fires with what has arrived. `on_error="collect"` puts
        a `Failure` in the place of a failed branch instead of failing; it tells the `branch` and its `item`.
        """
        if on_error not in ("fail", "collect"):
            msg = f"join {name!r}: on_error={on_error!r} is neither 'fail' nor 'collect'"
            raise ValueError(msg)
        needed = None if wait == "all" else _at_least_one("wait", wait)
        self._declare(
            DeclaredNode(name=name, kind="join", body=fn, wait=needed, timeout=timeout, collect=on_error == "collect")
        )
        return Node(self.name, name, fn)

    def wait(
        self,
        name: str,
        signal: str,
        *,
        timeout: float | None = None,
        type: Any = None,  # noqa: A002 - the face's word
        default: Any | Missing = MISSING,
    ) -> Node[Any, Any]:
        """Wait for a signal; its payload is the output, validated against `type` if one is given.

        After `timeout` seconds the output is `default`; without a default the node fails with `SignalTimeout`.
        """
        self._declare(DeclaredNode(name=name, kind="wait", signal=signal, timeout=timeout, type=type, default=default))
        return Node(self.name, name)

    def timer(self, name: str, seconds: float) -> Node[A, A]:
        """Pause for `seconds`, also across restarts; passes its input on."""
        if seconds < 0:
            msg = f"timer {name!r}: {seconds} seconds; a pause is >= 0"
            raise ValueError(msg)
        self._declare(DeclaredNode(name=name, kind="timer", seconds=seconds))
        return Node(self.name, name)

    # Edges.

    @overload
    def edge(self, source: Node[Any, A], target: Node[A, Any]) -> None: ...
    @overload
    def edge(self, source: str | Terminal, target: Node[Any, Any] | str | Terminal) -> None: ...
    @overload
    def edge(self, source: Node[Any, Any] | str | Terminal, target: str | Terminal) -> None: ...

    def edge(self, source: Node[Any, Any] | str | Terminal, target: Node[Any, Any] | str | Terminal) -> None:
        """Lead the output of `source` to `target`: `START`, `END`, a node or its name."""
        self._declared.edges.append((self._end(source), self._end(target)))

    def branch(
        self,
        source: Node[Any, A] | str | Terminal,
        choose: Callable[..., Any],
        routes: Mapping[Any, Node[A, Any] | str | Terminal],
    ) -> None:
        """Lead the output of `source` along the route that `choose(value)` or `choose(ctx, value)` returns.

        What was chosen is on record and never asked again. A route that is not in `routes` fails the node.
        """
        name = self._end(source)
        if name in self._declared.branches:
            raise AmbiguousExit(self.name, f"node {name!r}", "it has a branch already", "give it one branch")
        if not routes:
            raise AmbiguousExit(self.name, f"node {name!r}", "its branch has no route", "give at least one")
        for route in routes:
            if not isinstance(route, str | int):
                rule = f"its branch has the route {route!r:.100}, and a route is a text, a whole number or a bool"
                raise BadName(self.name, f"node {name!r}", rule, "let `choose` return such a one")
        targets = {route: self._end(target) for route, target in routes.items()}
        self._declared.branches[name] = Branch(choose, targets)

    def on_error(self, source: Node[Any, Any] | str, target: Node[Any, Any] | str | Terminal) -> None:
        """Lead a failure of `source`, after its retries, to `target`, which gets a `Failure`.

        A fan-out as the source handles what fails in its scope; a sub-flow, what fails inside it.
        """
        name = self._end(source)
        if name in self._declared.errors:
            raise AmbiguousExit(self.name, f"node {name!r}", "it has an error edge already", "give it one")
        self._declared.errors[name] = self._end(target)

    # What the calls above share.

    def _declare(self, node: DeclaredNode) -> None:
        check_name(self.name, node.name)
        if node.name in self._declared.nodes:
            way_out = "give name= another one" if node.kind in ("function", "frame") else "choose another name"
            raise DuplicateNode(self.name, f"node {node.name!r}", "the name is taken", way_out)
        check_signal_name(self.name, node)
        check_seconds(f"node {node.name!r}", "timeout", node.timeout)
        check_seconds(f"node {node.name!r}", "seconds", node.seconds)
        self._declared.nodes[node.name] = node

    def _end(self, end: Node[Any, Any] | str | Terminal) -> str:
        if isinstance(end, Terminal):
            return end.name
        if isinstance(end, Node):
            if end.graph != self.name:
                rule = f"it belongs to graph {end.graph!r}"
                raise BadName(self.name, f"node {end.name!r}", rule, "add that flow as a node with g.add")
            return end.name
        if isinstance(end, str):
            return end
        name = getattr(end, "__name__", None)
        if name in self._declared.nodes:
            return str(name)
        msg = f"graph {self.name!r}: {end!r} is no end of an edge: give START, END, a node or a node's name"
        raise TypeError(msg)


def _contains(whole: Declared, part: Declared) -> bool:
    return whole is part or any(_contains(n.flow, part) for n in whole.nodes.values() if n.flow is not None)


def _at_least_one(what: str, count: int | None) -> int | None:
    if count is not None and (type(count) is not int or count < 1):
        msg = f"{what}={count!r}: a whole number of at least 1"
        raise ValueError(msg)
    return count
