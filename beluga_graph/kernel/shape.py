"""The shape of a plan: a compiled graph as plain data. The kernel, drawings and comparisons use nothing else.

Node names in a shape are paths: a node `x` of a sub-flow `sub` is `sub/x`. A sub-flow is inlined; a node of kind
`FRAME` represents it and names the entry node inside.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, TypeAlias

from beluga_graph.kernel.types import Route, Value

__all__ = [
    "AGENT",
    "CHOICE",
    "END",
    "FAN_OUT",
    "FRAME",
    "FUNCTION",
    "HANDOFF",
    "JOIN",
    "TIMER_NODE",
    "TOOL",
    "WAIT_NODE",
    "FieldShape",
    "InterruptShape",
    "NodeShape",
    "RetryShape",
    "RouteShape",
    "Shape",
]

END = "$end"  # the target of an edge that leaves its frame; no node can have this name

FUNCTION, AGENT, TOOL, HANDOFF = "function", "agent", "tool", "handoff"
FAN_OUT, JOIN, WAIT_NODE, TIMER_NODE, FRAME = "fan_out", "join", "wait", "timer", "frame"
CHOICE = "choice"  # a body for a conditional edge whose source has none of its own

RouteShape: TypeAlias = tuple[Route, str, str]  # route, target, edge kind: "conditional" or "handoff"


InterruptShape: TypeAlias = tuple[str, str, tuple[str, ...]]
"""An interrupting edge: signal, target, and the exempt nodes, which are in its source and are not interrupted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryShape:
    """A retry policy as data. Times are in milliseconds."""

    attempts: int
    initial_ms: int
    factor: float
    maximum_ms: int
    jitter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """One field of a frame's state."""

    name: str
    reducer: str  # "set" if the field has none
    type: str
    required: bool = False  # the field has no default


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """One node and its out-edges. Fields that do not apply to its kind keep their defaults."""

    name: str
    local: str  # the last part of the name
    kind: str
    frame: str = ""  # path of the frame around the node; "" is the run itself
    target: str | None = None  # the plain edge
    routes: tuple[RouteShape, ...] = ()  # the conditional edges, in place of the plain edge
    error: str | None = None  # the error edge
    interrupts: tuple[InterruptShape, ...] = ()  # the interrupting edges
    inner_interrupts: tuple[InterruptShape, ...] = ()  # frame: those out of the graph inside, to nodes inside
    retry: RetryShape | None = None
    timeout_ms: int | None = None  # of one attempt; frame: its deadline; join: counted from the opening of its scope
    join: str | None = None  # fan-out: the join that closes its scope
    branches: tuple[str, ...] = ()  # fan-out: the first node of each branch
    agent: str = ""  # the agent that the node belongs to
    over: bool = False  # fan-out: one branch per item instead of one per target
    max_concurrency: int | None = None
    wait: int | None = None  # join: the number of successes it needs; None is all
    collect: bool = False  # join: failures become results
    signal: str | None = None
    default: Value | None = None  # wait: its output after a timeout; None: it fails
    checked: bool = False  # wait: a body validates the payload
    received: bool = False  # wait: a token comes with the payload already, by an interrupting edge
    asks: str = ""  # wait for an approval: the kind of the next node, "step" or "tool"
    delay_ms: int = 0
    due_ms: int | None = None  # the point in time until which a timer waits, or that is a time limit
    decides_time: bool = False  # an attempt decides its time; fan-out: that of its join; choice: the flow's deadline
    entry: str | None = None  # frame: its first node
    state: tuple[FieldShape, ...] = ()  # frame: its state fields
    input_type: str = ""
    output_type: str = ""
    description: str = ""

    def out(self, route: Route | None) -> str | None:
        """Return the target of the node's out-edge for a route; `None` if there is none."""
        if not self.routes:
            return self.target
        for known, target, _ in self.routes:
            if known == route and type(known) is type(route):
                return target
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A compiled graph as data. `nodes` is in the order of declaration, each frame before the nodes inside it."""

    name: str
    fingerprint: str
    entry: str
    nodes: Mapping[str, NodeShape]
    limits: Mapping[str, int]
    state: tuple[FieldShape, ...] = ()
    types: tuple[str, ...] = ()
    timeout_ms: int | None = None  # the deadline of the whole run
    input_type: str = ""
    output_type: str = ""
    due_ms: int | None = None  # a deadline of the whole run that is a point in time
    interrupts: tuple[InterruptShape, ...] = ()  # the interrupting edges out of the graph itself
    version: str | None = None  # of the flow; `name` ends with it

    @property
    def base_name(self) -> str:
        """The name of the flow without its version."""
        return self.name if self.version is None else self.name.removesuffix(f"@{self.version}")

    def is_empty(self, frame: NodeShape) -> bool:
        """Return whether a frame has no node inside, except for frames like it. A token skips such a frame."""
        target = frame.entry
        while target is not None and target != END:
            node = self.nodes[target]
            if node.kind != FRAME or not self.is_empty(node):
                return False
            target = node.target
        return True

    def to_plain(self) -> dict[str, Any]:
        """Return the shape as scalars, tuples and dicts; fields of nodes that have their defaults are left out."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        if not self.interrupts:  # graphs without any keep the fingerprint that they have always had
            del plain["interrupts"]
        plain["nodes"] = tuple(_plain(node) for node in self.nodes.values())
        plain["state"] = tuple(_plain(channel) for channel in self.state)
        plain["limits"] = dict(self.limits)
        for name in ("due_ms", "version"):
            if plain[name] is None:  # as earlier releases stored it
                del plain[name]
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Shape:
        """Rebuild a shape from the result of `to_plain`. Raises `KeyError` or `TypeError` if `plain` is not a shape."""
        nodes = [_node(node) for node in plain["nodes"]]
        rest = {key: value for key, value in plain.items() if key not in ("nodes", "state", "interrupts")}
        state = tuple(FieldShape(**channel) for channel in plain["state"])
        interrupts = _interrupts(plain.get("interrupts", ()))
        return cls(nodes={node.name: node for node in nodes}, state=state, interrupts=interrupts, **rest)


def _plain(shape: NodeShape | FieldShape | RetryShape) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for f in fields(shape):
        value = getattr(shape, f.name)
        if value == f.default:
            continue
        if isinstance(value, RetryShape):
            value = _plain(value)
        elif f.name == "state":
            value = tuple(_plain(channel) for channel in value)
        plain[f.name] = value
    return plain


def _node(plain: Mapping[str, Any]) -> NodeShape:
    rebuilt = dict(plain)
    if "retry" in rebuilt:
        rebuilt["retry"] = RetryShape(**rebuilt["retry"])
    if "state" in rebuilt:
        rebuilt["state"] = tuple(FieldShape(**channel) for channel in rebuilt["state"])
    for name in ("interrupts", "inner_interrupts"):
        if name in rebuilt:
            rebuilt[name] = _interrupts(rebuilt[name])
    for name in ("routes", "branches"):
        if name in rebuilt:
            rebuilt[name] = tuple(tuple(item) if name == "routes" else item for item in rebuilt[name])
    return NodeShape(**rebuilt)


def _interrupts(plain: Any) -> tuple[InterruptShape, ...]:
    return tuple((signal, target, tuple(exempt)) for signal, target, exempt in plain)
