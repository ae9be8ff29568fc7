"""The declared graph: nodes and edges as a builder collected them, before any check.

Every flow (a graph in code, an agent, a pattern, a workflow) declares one; `plan.compile_graph` makes a plan of it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, Generic, Self, TypeAlias, TypeVar, final

from beluga_graph.plan.times import DeclaredTime, TimeFunction
from beluga_graph.policy import Limits, Retry

__all__ = [
    "END",
    "MISSING",
    "START",
    "WHOLE_GRAPH",
    "Approval",
    "Branch",
    "Declared",
    "DeclaredNode",
    "Interrupt",
    "Missing",
    "Node",
    "Terminal",
    "is_version_of",
    "make_flow_id",
]

Approval: TypeAlias = bool | Callable[..., Any]
"""Whether to ask a person before a node runs, or a function of the node's input that returns that."""

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


@final
class Terminal:
    """The beginning or the end of a graph: `START` and `END` are the only two."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@final
class Missing:
    """The type of `MISSING`, which marks a default that was not given where `None` is a value."""

    def __repr__(self) -> str:
        return "…"


START: Final = Terminal("START")
END: Final = Terminal("END")
MISSING: Final = Missing()
WHOLE_GRAPH: Final = ""  # as the source of an interrupting edge: the graph itself


class Node(Generic[In, Out]):
    """A node of a graph, with an input of type `In` and an output of type `Out`.

    Builders return it; pass it to `graph.edge` and its like. It is still callable as the function it was made from.

    Attributes:
        graph: The name of the graph.
        name: The name of the node.
    """

    __slots__ = ("__wrapped__", "graph", "name")

    def __init__(self, graph: str, name: str, function: Callable[..., Any] | None = None) -> None:
        self.graph = graph
        self.name = name
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function behind the node, outside of any run. Raises `TypeError` if the node has none."""
        if self.__wrapped__ is None:
            msg = f"node {self.name!r} has no function of its own to call"
            raise TypeError(msg)
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<node {self.name!r} of graph {self.graph!r}>"


@dataclass(frozen=True, slots=True)
class Branch:
    """A conditional edge: a chooser, and the target of each of its routes."""

    choose: Callable[..., Any] | None
    routes: dict[Any, str]
    kinds: dict[Any, str] = field(default_factory=dict)  # by route, if it is not a plain choice: "handoff"


@dataclass(frozen=True, slots=True)
class Interrupt:
    """An interrupting edge out of a source, by a signal."""

    target: str
    type: Any = None  # of the payload; `None`: it is not checked


@dataclass(slots=True, kw_only=True)
class DeclaredNode:
    """One node as declared. Fields that do not apply to its kind keep their defaults."""

    name: str
    kind: str
    body: Callable[..., Any] | None = None
    retry: Retry | None = None
    timeout: float | None = None
    due: datetime | None = None  # a time limit, or the end of a pause, that is a point in time
    decide: TimeFunction | None = None  # decides the time in an attempt
    flow: Declared | None = None  # frame: the flow inside
    to: tuple[str, ...] = ()
    over: Callable[..., Any] | None = None
    routed: bool = False  # fan-out: `over` returns pairs of a target's index and an item
    agent: str = ""  # the agent that the node belongs to
    join: str = ""
    max_concurrency: int | None = None
    wait: int | None = None
    collect: bool = False
    signal: str = ""
    type: Any = None
    default: Any = MISSING
    seconds: float = 0.0
    requires_approval: Approval = False  # whether to ask a person first, or a function that decides it
    asked: str = ""  # for nodes that ask: the node that they ask about
    asks: str = ""  # wait for an approval: the kind of the node in question, "step" or "tool"
    receives_for: str = ""  # wait: the target of the interrupting edges whose payload it checks
    on_signal: dict[str, DeclaredNode] = field(default_factory=dict)  # step: what handles a signal, by signal
    follows: str = ""  # handler: the step whose outgoing edges are also its own
    revise: Callable[[Any, Any], Any] | None = None  # checks the value given instead of the original

    def limited(self, time: DeclaredTime) -> Self:
        """Give the node a time limit, and return it."""
        self.timeout, self.due, self.decide = time.seconds, time.due, time.decide
        return self

    @property
    def description(self) -> str:
        """The first line of the body's docstring; empty without one."""
        return (inspect.getdoc(self.body) or "").partition("\n")[0] if self.body is not None else ""


def make_flow_id(name: str, version: str | None) -> str:
    """Return the id under which runs store their flow: its name, with `@` and its version if it has one."""
    return name if version is None else f"{name}@{version}"


def is_version_of(flow_id: str, name: str) -> bool:
    """Return whether an id is that of a flow of this name: alone, or with a version."""
    return flow_id == name or flow_id.rpartition("@")[0] == name


@dataclass(slots=True)
class Declared:
    """A graph as declared: nodes by name, and edges by the names of their ends."""

    name: str
    version: str | None = None
    state: type[Any] | None = None
    limits: Limits | None = None
    timeout: float | None = None  # the deadline of a run, in seconds
    due: datetime | None = None  # a deadline that is a point in time
    decide: TimeFunction | None = None  # decides the deadline in an attempt
    types: tuple[Any, ...] = ()  # types of values that no annotation names
    nodes: dict[str, DeclaredNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)  # (source, target), "START" and "END" included
    branches: dict[str, Branch] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)
    interrupts: dict[tuple[str, str], Interrupt] = field(default_factory=dict)  # by source and signal

    @property
    def extent(self) -> int:
        """The amount of declarations, with those of sub-flows. It only grows, so equal extents mean equal graphs."""
        own = len(self.nodes) + len(self.edges) + len(self.branches) + len(self.errors) + len(self.interrupts)
        return own + sum(node.flow.extent for node in self.nodes.values() if node.flow is not None)

    def contains(self, part: Declared) -> bool:
        """Return whether this graph is `part`, or has it as a sub-flow at any depth."""
        return self is part or any(node.flow.contains(part) for node in self.nodes.values() if node.flow is not None)
