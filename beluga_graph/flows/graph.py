"""`Graph`: a flow built node by node in code."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar, overload

from beluga_graph.errors import AmbiguousExit, DelegationCycle
from beluga_graph.execution.context import Context
from beluga_graph.flows.checks import check_count, check_flow_name, check_types
from beluga_graph.flows.declaration import declare_node
from beluga_graph.flows.ends import name_end, name_routes, name_targets
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import build_frame
from beluga_graph.flows.interrupts import declare_handlers, declare_interrupt
from beluga_graph.flows.node_decorator import NodeDecorator
from beluga_graph.flows.steps import Part
from beluga_graph.plan.declared import MISSING, Approval, Branch, Declared, DeclaredNode, Missing, Node, Terminal
from beluga_graph.plan.times import Delay, Moment, read_pause, read_time
from beluga_graph.policy import Limits, Retry

__all__ = ["Graph"]

A = TypeVar("A")
B = TypeVar("B")


class Graph(Flow):
    """A graph built in code. Nodes are functions or other flows; edges pass the output of a node on to the next.

    Each call raises a `GraphError` at once if it is wrong by itself. `plan()`, and so the first run, checks the whole
    graph.

    ```python
    g = Graph("greeting")

    @g.node
    async def greet(name: str) -> str:
        return f"Hello, {name}!"

    g.edge(START, greet)
    g.edge(greet, END)
    assert run_sync(g, "Ada") == "Hello, Ada!"
    ```

    Args:
        name: The graph's name: 1 to 200 characters without `/ # [ ] $` and control characters. An engine knows one flow
            by each name and version.
        state: A pydantic model class whose fields nodes read as `ctx.state` and write by `ctx.update`.
        limits: Bounds of every run of the graph.
        types: Classes (dataclasses, pydantic models, Enums) of values that no annotation names, such as the input, the
            `context=` of a run, or the payload of a signal. Only instances of classes that a flow names can be stored,
            and read in another process.
        version: The version of the graph, such as `"2"`; `None` for one without versions. Runs keep the version that
            they began with.

    Attributes:
        name: The graph's name.
        version: The graph's version, if it has one.

    Raises:
        BadName: The name or the version is not valid.
        TypeError: A type in `types` contains no class whose instances can be stored.
    """

    def __init__(
        self,
        name: str,
        *,
        state: type[Any] | None = None,
        limits: Limits | None = None,
        types: Iterable[Any] = (),
        version: str | None = None,
    ) -> None:
        check_flow_name(name, version)
        self.name = name
        self.version = version
        checked = check_types(f"graph {name!r}", types)
        self._declared = Declared(name=name, version=version, state=state, limits=limits, types=checked)

    def declare(self) -> Declared:
        """Return the graph as declared so far."""
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
        timeout: Delay | None = None,
        requires_approval: Approval = False,
    ) -> NodeDecorator: ...

    def node(
        self,
        fn: Callable[..., Any] | None = None,
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Delay | None = None,
        requires_approval: Approval = False,
    ) -> Any:
        """Declare a function as a node. Works as a decorator, with or without arguments.

        Args:
            fn: A function `()`, `(value)` or `(ctx, value)`, async (runs on the event loop) or sync (runs in a
                thread).
            name: The node's name; by default that of the function.
            retry: The policy for failed attempts; by default the first failure is final.
            timeout: The longest time of one attempt: seconds, a `timedelta`, a `datetime` with a zone, or a function of
                the node's input that returns one of these, or `None` for no limit.
            requires_approval: Whether a person is asked before the node runs, as in `step`.

        Returns the node, to name it in edges. Raises `BadName` or `DuplicateNode` for its name; `TypeError` or
        `ValueError` for another parameter.
        """
        decorator = NodeDecorator(self.name, self._declare, name, retry, timeout, requires_approval=requires_approval)
        return decorator if fn is None else decorator(fn)

    def add(
        self,
        flow: Flow | Part | Callable[..., Any],
        *,
        name: str | None = None,
        retry: Retry | None = None,
        timeout: Delay | None = None,
    ) -> Node[Any, Any]:
        """Add a flow, a part of a workflow, or a function as a node.

        A flow becomes a frame, with its own state and visit counters; an error in it is an error of the frame.

        Args:
            flow: A flow; a part (`step`, `wait_signal`, `sleep`); or a function, as in `node`.
            name: The node's name; by default that of the flow. A flow that is added twice needs another name.
            retry: The policy for failures. A retry restarts the whole flow.
            timeout: The deadline of the whole flow, in the same forms as that of a node. A function decides it before
                the flow begins, and again before each retry.

        Returns the node, to name it in edges. Raises `BadName` or `DuplicateNode` for its name; `DelegationCycle` if
        the flow contains this graph; `TypeError` if `retry` or `timeout` is given for a part, which has its own.
        """
        function = None
        if isinstance(flow, Part):
            if retry is not None or timeout is not None:
                msg = f"{flow!r} has its own retry and timeout: give them where the part is made"
                raise TypeError(msg)
            node, function = flow.node(name), flow.__wrapped__
        elif isinstance(flow, Flow):
            limit = read_time(f"node {(name or flow.name)!r}", "timeout", timeout)
            node = build_frame(flow, name=name, retry=retry, timeout=limit)
        else:
            return NodeDecorator(self.name, self._declare, name, retry, timeout)(flow)
        if node.flow is not None and node.flow.contains(self._declared):
            rule = "this graph is a part of it, as a sub-flow or as an agent's child"
            raise DelegationCycle(self.name, f"node {node.name!r}", rule, "add a flow that does not contain it")
        self._declare(node)
        declare_handlers(self._declared, node, self._declare)
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
        """Declare a fan-out: one branch per target with the same value or, with `over`, one branch per item.

        Every path from the fan-out must reach its join. If no edge goes to the join, each target gets one.

        ```python
        g.fan_out("each", to=summarize, over=lambda folder: sorted(folder.files), join="merge", max_concurrency=8)
        g.join("merge", lambda summaries: "\\n".join(summaries))
        ```

        Args:
            name: The node's name.
            to: The nodes in which the branches begin. With `over`, exactly one.
            join: The join that closes the fan-out; it may be declared later, by name.
            over: A function `(value)` or `(ctx, value)` that returns the items, in branch order.
            max_concurrency: The largest number of branches that run at a time; `None` for no limit.

        Returns the node, to name it in edges. Raises `BadName` or `DuplicateNode` for its name; `AmbiguousExit` if
        there is no target, or more than one with `over`; `ValueError` for `max_concurrency`.
        """
        targets = [to] if isinstance(to, Node | str) else list(to)
        names = name_targets(self._declared, name, targets, over=over is not None)
        self._declare(
            DeclaredNode(
                name=name,
                kind="fan_out",
                to=names,
                over=over,
                join=self._name_end(join),
                max_concurrency=check_count("max_concurrency", max_concurrency),
            )
        )
        return Node(self.name, name)

    def join(
        self,
        name: str,
        fn: Callable[..., Any] | None = None,
        *,
        wait: int | Literal["all"] = "all",
        timeout: Delay | None = None,
        on_error: Literal["fail", "collect"] = "fail",
    ) -> Node[Any, Any]:
        """Declare the join that closes a fan-out.

        Args:
            name: The node's name.
            fn: A function `(results)` or `(ctx, results)`, with the results in branch order. Without it the list of
                results is the output.
            wait: `"all"`, or a number k: the join fires at the first k successes and drops the other branches.
                Failures are tolerated while k successes are still possible.
            timeout: The time since the fan-out after which the join fires with the results that have arrived: seconds,
                a `timedelta`, a `datetime` with a zone, or a function of the fan-out's input that returns one of these.
            on_error: With `"fail"` a failed branch fails the fan-out. With `"collect"` a `Failure`, with the `branch`
                and its `item`, replaces the result of a failed branch.

        Returns the node, to name it in edges. Raises `BadName` or `DuplicateNode` for its name; `ValueError` for
        another parameter.
        """
        if on_error not in ("fail", "collect"):
            msg = f"join {name!r}: on_error={on_error!r} is neither 'fail' nor 'collect'"
            raise ValueError(msg)
        needed = None if wait == "all" else check_count("wait", wait)
        node = DeclaredNode(name=name, kind="join", body=fn, wait=needed, collect=on_error == "collect")
        self._declare(node.limited(read_time(f"join {name!r}", "timeout", timeout)))
        return Node(self.name, name, fn)

    def wait(
        self,
        name: str,
        signal: str,
        *,
        timeout: Delay | None = None,
        type: Any = None,  # noqa: A002 - a public name
        default: Any | Missing = MISSING,
    ) -> Node[Any, Any]:
        """Declare a node that waits for a signal, across restarts if need be. The payload is its output.

        Args:
            name: The node's name.
            signal: The signal's name, as given to `Engine.signal`.
            timeout: The longest time to wait; `None` for no limit. Seconds, a `timedelta`, a `datetime` with a zone, or
                a function `(value)` or `(ctx, value)`, sync or async, that returns one of these, or `None`. What it
                returns is stored, and not asked again.
            type: The type of the payload. `Engine.signal` refuses a payload that does not match, with `BadSignal`, if
                the engine knows the flow. Sent by another engine, such a payload fails the node.
            default: The output after `timeout`. Without a default the node fails with `SignalTimeout`.

        Returns the node, to name it in edges. Raises `BadName` for its name or that of the signal, `DuplicateNode`
        if its name is taken; `TypeError` or `ValueError` for `timeout`.
        """
        node = DeclaredNode(name=name, kind="wait", signal=signal, type=type, default=default)
        self._declare(node.limited(read_time(f"node {name!r}", "timeout", timeout)))
        return Node(self.name, name)

    def timer(self, name: str, seconds: Delay | None = None, *, until: Moment | None = None) -> Node[A, A]:
        """Declare a node that pauses, and returns its input. The time passes even if no engine runs.

        ```python
        g.timer("grace", timedelta(days=3))
        g.timer("until the visit", until=lambda visit: visit.begins_at)
        ```

        Args:
            name: The node's name.
            seconds: The length of the pause, from 0 to a hundred years: seconds or a `timedelta`. Also a `datetime`
                with a zone; or a function `(value)` or `(ctx, value)`, sync or async, that returns one of these. What
                it returns is stored, and not asked again.
            until: The end of the pause, in place of `seconds`: a `datetime` with a zone, or a function that returns
                one. If it has passed, the pause ends at once.

        Returns the node, to name it in edges. Raises `BadName` or `DuplicateNode` for its name; `TypeError` or
        `ValueError` for a time that is not valid.
        """
        pause = read_pause(f"timer {name!r:.100}", seconds, until)
        self._declare(
            DeclaredNode(name=name, kind="timer", seconds=pause.seconds or 0.0, due=pause.due, decide=pause.decide)
        )
        return Node(self.name, name)

    # Edges.

    @overload
    def edge(self, source: Node[Any, A], target: Node[A, Any]) -> None: ...
    @overload
    def edge(self, source: str | Terminal, target: Node[Any, Any] | str | Terminal) -> None: ...
    @overload
    def edge(self, source: Node[Any, Any] | str | Terminal, target: str | Terminal) -> None: ...

    def edge(self, source: Node[Any, Any] | str | Terminal, target: Node[Any, Any] | str | Terminal) -> None:
        """Pass the output of a node on to another node.

        Args:
            source: `START`, a node, or a node's name.
            target: `END`, a node, or a node's name. The node may be declared later, by name.

        Raises `BadName` for a node of another graph, and `TypeError` for any other object.
        """
        self._declared.edges.append((self._name_end(source), self._name_end(target)))

    def branch(
        self,
        source: Node[Any, A] | str | Terminal,
        choose: Callable[..., Any],
        routes: Mapping[Any, Node[A, Any] | str | Terminal],
    ) -> None:
        """Pass the output of a node on along a route that a function chooses.

        The chosen route is stored: after a crash it is not chosen again.

        ```python
        g.branch(review, lambda text: len(text) < 400, {True: publish, False: shorten})
        ```

        Args:
            source: `START`, a node, or a node's name.
            choose: A function `(value)` or `(ctx, value)` that returns the route for the output of `source`. The node
                fails if it returns a route that is not in `routes`.
            routes: Targets by route: a text, a whole number or a bool.

        Raises `AmbiguousExit` if `source` has a branch already or there is no route; `BadName` for a route of another
        type or a node of another graph; `TypeError` for an end that is not one of those above.
        """
        name = self._name_end(source)
        if name in self._declared.branches:
            raise AmbiguousExit(self.name, f"node {name!r}", "it has a branch already", "give it one branch")
        targets = name_routes(self._declared, name, routes)
        self._declared.branches[name] = Branch(choose, targets)

    def on_error(self, source: Node[Any, Any] | str, target: Node[Any, Any] | str | Terminal) -> None:
        """Pass a failure of a node, after its last attempt, on to another node, which gets a `Failure`.

        Args:
            source: A node or a node's name. The error edge of a fan-out handles failures in its branches, that of a
                sub-flow handles failures in the sub-flow.
            target: `END`, a node, or a node's name.

        Raises `AmbiguousExit` if `source` has an error edge already, `BadName` for a node of another graph, and
        `TypeError` for an end that is not one of those above.
        """
        name = self._name_end(source)
        if name in self._declared.errors:
            raise AmbiguousExit(self.name, f"node {name!r}", "it has an error edge already", "give it one")
        self._declared.errors[name] = self._name_end(target)

    def on_signal(
        self,
        source: Node[Any, Any] | str | Graph,
        signal: str,
        target: Node[Any, Any] | str | Terminal,
        *,
        type: Any = None,  # noqa: A002 - a public name
    ) -> None:
        """Let a signal interrupt a node that is under way or waits: control moves to another node with the payload.

        One step drops all that was under way. A signal that comes before the node begins, or after it has finished, is
        kept until an edge or a wait for it. An edge of an inner node wins over that of a sub-flow or fan-out around it.

        ```python
        g.on_signal(g, "change", plan)  # whatever the graph is doing, but for `plan` itself
        ```

        Args:
            source: A node or a node's name: a sub-flow with all in it, a fan-out with its branches until its join
                begins. Or this graph itself, at any node other than `target`.
            signal: The signal's name, as given to `Engine.signal`. No wait in the source may have it.
            target: `END`, a node, or a node's name. For the graph itself, a node outside of its fan-outs.
            type: The type of the payload, as in `wait`. A payload that does not match is a failure before `target`.

        Raises `AmbiguousExit` if this signal interrupts `source` already, `BadName` for the signal's name or a node of
        another graph, and `TypeError` for an end that is not one of those above.
        """
        name = None if source is self else self._name_end(source)
        declare_interrupt(self._declared, name, signal, self._name_end(target), type)

    def _declare(self, node: DeclaredNode) -> None:
        declare_node(self._declared, node)

    def _name_end(self, end: Node[Any, Any] | str | Terminal | Graph) -> str:
        return name_end(self._declared, end)
