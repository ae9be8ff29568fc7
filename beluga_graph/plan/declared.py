"""The declared graph: what a builder collected, before any check. Plain nouns, no rules.

Every flow (a graph in code, an agent, a pattern, a workflow) declares one of these; `plan.compile_graph` turns
it into a plan.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, Generic, TypeAlias, TypeVar, final

from beluga_graph.policy import Limits, Retry

__all__ = ["END", "MISSING", "START", "Approval", "Branch", "Declared", "DeclaredNode", "Missing", "Node", "Terminal"]

Approval: TypeAlias = bool | Callable[..., Any]
"""Whether a person is asked before a node runs; or a function of what it would be given that returns that."""

In = TypeVar("In", contravariant=True)
Out = TypeVar("Out", covariant=True)


@final
class Terminal:
    """Where a graph begins or ends; `START` and `END` are the two."""

    __slots__ = ("name",)

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


@final
class Missing:
    """The type of `MISSING`: a default that was not given, where `None` is a value."""

    def __repr__(self) -> str:
        return "…"


START: Final = Terminal("START")
END: Final = Terminal("END")
MISSING: Final = Missing()


class Node(Generic[In, Out]):
    """A node of a graph: takes an `In`, gives an `Out`. Still callable as the function it was made from."""

    __slots__ = ("__wrapped__", "graph", "name")

    def __init__(self, graph: str, name: str, function: Callable[..., Any] | None = None) -> None:
        self.graph = graph
        self.name = name
        self.__wrapped__ = function

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function behind the node, outside of any run."""
        if self.__wrapped__ is None:
            msg = f"node {self.name!r} has no function of its own to call"
            raise TypeError(msg)
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<node {self.name!r} of graph {self.graph!r}>"


@dataclass(frozen=True, slots=True)
class Branch:
    """A conditional edge: a chooser and where each of its routes leads."""

    choose: Callable[..., Any] | None
    routes: dict[Any, str]
    kinds: dict[Any, str] = field(default_factory=dict)  # of routes that are no plain choice: "handoff"


@dataclass(slots=True, kw_only=True)
class DeclaredNode:
    """One node as declared. What does not concern its kind keeps its default."""

    name: str
    kind: str
    body: Callable[..., Any] | None = None
    retry: Retry | None = None
    timeout: float | None = None
    flow: Declared | None = None  # a frame's inside
    to: tuple[str, ...] = ()
    over: Callable[..., Any] | None = None
    routed: bool = False  # fan-out: `over` returns pairs, the index of a target and an item
    agent: str = ""  # whose node this is
    join: str = ""
    max_concurrency: int | None = None
    wait: int | None = None
    collect: bool = False
    signal: str = ""
    type: Any = None
    default: Any = MISSING
    seconds: float = 0.0
    requires_approval: Approval = False  # whether a person is asked first, or what decides that
    asked: str = ""  # the node that this one belongs to the question about
    asks: str = ""  # wait: for a person's answer, about a "step" or a "tool"
    revise: Callable[[Any, Any], Any] | None = None  # takes what was asked about and the other value to go on with

    @property
    def description(self) -> str:
        """The first line of the body's docstring."""
        return (inspect.getdoc(self.body) or "").partition("\n")[0] if self.body is not None else ""


@dataclass(slots=True)
class Declared:
    """A graph as declared: nodes by name, and edges by the names of their ends."""

    name: str
    state: type[Any] | None = None
    limits: Limits | None = None
    timeout: float | None = None  # the deadline of the whole
    types: tuple[Any, ...] = ()  # of values that no annotation names
    nodes: dict[str, DeclaredNode] = field(default_factory=dict)
    edges: list[tuple[str, str]] = field(default_factory=list)  # "START" and "END" at the rims
    branches: dict[str, Branch] = field(default_factory=dict)
    errors: dict[str, str] = field(default_factory=dict)

    @property
    def extent(self) -> int:
        """How much was declared, sub-flows included. Declaring only ever adds, so equal extents are equal graphs."""
        own = len(self.nodes) + len(self.edges) + len(self.branches) + len(self.errors)
        return own + sum(node.flow.extent for node in self.nodes.values() if node.flow is not None)
