"""Frames: flows as nodes of another flow's graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from beluga_graph.errors import DuplicateNode, Unreachable
from beluga_graph.flows.flow import Flow
from beluga_graph.plan.declared import DeclaredNode
from beluga_graph.plan.times import NO_TIME, DeclaredTime
from beluga_graph.policy import Retry

__all__ = ["build_frame", "build_frames"]


def build_frame(
    flow: Flow, *, name: str | None = None, retry: Retry | None = None, timeout: DeclaredTime = NO_TIME
) -> DeclaredNode:
    """Return a flow as a node. The earlier one of `timeout` and the flow's own deadline applies."""
    inside = flow.declare()
    return DeclaredNode(
        name=flow.name if name is None else name,
        kind="frame",
        flow=inside,
        retry=retry,
        timeout=min((seconds for seconds in (timeout.seconds, inside.timeout) if seconds is not None), default=None),
        due=min((due for due in (timeout.due, inside.due) if due is not None), default=None),
        decide=timeout.decide,  # the first node of the flow decides its own deadline
    )


def build_frames(name: str, flows: Sequence[Flow], *, own: Sequence[str] = ()) -> list[DeclaredNode]:
    """Return a frame per flow, in order; `own` are the names of the pattern's other nodes.

    A flow that occurs several times is numbered, as in `solver`, `solver-2`; numbers skip names that are taken. Raises
    `DuplicateNode` for two different flows of the same name, and `Unreachable` if there are no flows.
    """
    if not flows:
        raise Unreachable(name, f"flow {name!r}", "it has no agents", "give it at least one")
    named: dict[str, Flow] = {}
    for flow in flows:
        if not isinstance(flow, Flow):
            msg = f"flow {name!r}: {flow!r} is not a flow; wrap a function in a Graph"
            raise TypeError(msg)
        if named.setdefault(flow.name, flow) is not flow:
            rule = f"two of its agents are called {flow.name!r}"
            raise DuplicateNode(name, f"flow {name!r}", rule, "rename one")
        if flow.name in own:
            rule = f"one of its agents is called {flow.name!r}, like one of its own nodes"
            raise DuplicateNode(name, f"flow {name!r}", rule, "rename the agent")
    taken = {*own, *named}
    frames: dict[str, DeclaredNode] = {}
    for flow in flows:
        node = flow.name
        if node in frames:
            node = next(other for number in count(2) if (other := f"{flow.name}-{number}") not in taken)
            taken.add(node)
        frames[node] = build_frame(flow, name=node)
    return list(frames.values())
