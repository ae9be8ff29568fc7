"""The shape of a plan: a compiled graph as plain data, all that the kernel, drawing and comparison ever see.

Node names in a shape are paths: a node `x` of a sub-flow `sub` is `sub/x`. A sub-flow is inlined; the node
that stands for it is of kind `FRAME` and names the entry node inside.
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
    "TIMER",
    "TOOL",
    "WAIT",
    "FieldShape",
    "NodeShape",
    "RetryShape",
    "RouteShape",
    "Shape",
]

END = "$end"  # the target of an edge that leaves its frame; no node can have this name

FUNCTION, AGENT, TOOL, HANDOFF = "function", "agent", "tool", "handoff"
FAN_OUT, JOIN, WAIT, TIMER, FRAME = "fan_out", "join", "wait", "timer", "frame"
CHOICE = "choice"  # a body for a conditional edge whose source has none of its own

RouteShape: TypeAlias = tuple[Route, str, str]  # route, target, edge kind: "conditional" or "handoff"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryShape:
    """When a failed attempt is made again. Times in milliseconds."""

    attempts: int
    initial_ms: int
    factor: float
    maximum_ms: int
    jitter: float


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldShape:
    """One channel of a frame's state."""

    name: str
    reducer: str  # "set" where the field has none
    type: str


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeShape:
    """One node and its out-edges. What does not concern a kind keeps its default."""

    name: str
    local: str  # the last part of the name
    kind: str
    frame: str = ""  # path of the frame that the node stands in; "" is the run itself
    target: str | None = None  # the plain edge
    routes: tuple[RouteShape, ...] = ()  # the branch, instead of the plain edge
    error: str | None = None  # the error edge
    retry: RetryShape | None = None
    timeout_ms: int | None = None  # of one attempt; of a frame: its deadline; of a join: since its scope opened
    join: str | None = None  # fan-out: the join that closes its scope
    branches: tuple[str, ...] = ()  # fan-out: where its branches begin
    agent: str = ""  # whose node this is
    over: bool = False  # fan-out: one branch per item instead of one per target
    max_concurrency: int | None = None
    wait: int | None = None  # join: how many successes it needs; None is all
    collect: bool = False  # join: failures become results
    signal: str | None = None
    default: Value | None = None  # wait: its output after a timeout; None is a failure
    checked: bool = False  # wait: the payload goes through a body that validates it
    asks: str = ""  # wait: a person is asked about the node that follows, a "step" or a "tool"
    delay_ms: int = 0
    entry: str | None = None  # frame: where it begins
    state: tuple[FieldShape, ...] = ()  # frame: its channels
    input_type: str = ""
    output_type: str = ""
    description: str = ""

    def out(self, route: Route | None) -> str | None:
        """Return the target of this node's out-edge for what its branch chose; `None` if there is none."""
        if not self.routes:
            return self.target
        for known, target, _ in self.routes:
            if known == route and type(known) is type(route):
                return target
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """A compiled graph as data. `nodes` is in the order of declaration, frames before what stands in them."""

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

    def to_plain(self) -> dict[str, Any]:
        """Return the shape as scalars, tuples and dicts, without what has its default."""
        plain = {f.name: getattr(self, f.name) for f in fields(self)}
        plain["nodes"] = tuple(_plain(node) for node in self.nodes.values())
        plain["state"] = tuple(_plain(channel) for channel in self.state)
        plain["limits"] = dict(self.limits)
        return plain

    @classmethod
    def from_plain(cls, plain: Mapping[str, Any]) -> Shape:
        """Rebuild a shape from `to_plain`. Raises `KeyError` or `TypeError` if it is not one."""
        nodes = [_node(node) for node in plain["nodes"]]
        rest = {key: value for key, value in plain.items() if key not in ("nodes", "state")}
        state = tuple(FieldShape(**channel) for channel in plain["state"])
        return cls(nodes={node.name: node for node in nodes}, state=state, **rest)


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
    for name in ("routes", "branches"):
        if name in rebuilt:
            rebuilt[name] = tuple(tuple(item) if name == "routes" else item for item in rebuilt[name])
    return NodeShape(**rebuilt)
