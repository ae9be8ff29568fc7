"""What the patterns share: flows as the frames of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from beluga_graph.errors import DuplicateNode, Unreachable
from beluga_graph.flows.flow import Flow
from beluga_graph.plan.declared import DeclaredNode
from beluga_graph.policy import Retry

__all__ = ["frame_of", "frames_of"]


def frame_of(
    flow: Flow, *, name: str | None = None, retry: Retry | None = None, timeout: float | None = None
) -> DeclaredNode:
    """Return a flow as a node. Of its own deadline and `timeout` the shorter one counts."""
    inside = flow.declare()
    deadlines = [seconds for seconds in (timeout, inside.timeout) if seconds is not None]
    shorter = min(deadlines) if deadlines else None
    return DeclaredNode(
        name=flow.name if name is None else name, kind="frame", flow=inside, retry=retry, timeout=shorter
    )


def frames_of(name: str, flows: Sequence[Flow], *, own: Sequence[str] = ()) -> list[DeclaredNode]:
    """Return a frame per flow, in order; `own` are the other nodes of the pattern.

    A flow that is given again is numbered, `solver`, `solver-2`, past every name that another flow or node has. Raises
    `DuplicateNode` for two flows of one name, `Unreachable` for no flow.
    """
    if not flows:
        raise Unreachable(name, f"flow {name!r}", "it has no agents", "give it at least one")
    named: dict[str, Flow] = {}
    for flow in flows:
        if not isinstance(flow, Flow):
            msg = f"flow {name!r}: {flow!r} is no flow; wrap a function in a Graph"
            raise TypeError(msg)
        if named.setdefault(flow.name, flow) is not flow:
            rule = f"two of its agents are called {flow.name!r}"
            raise DuplicateNode(name, f"flow {name!r}", rule, "rename one")
        if flow.name in own:
            rule = f"one of its agents is called {flow.name!r}, as a node of its own is"
            raise DuplicateNode(name, f"flow {name!r}", rule, "rename the agent")
    taken = {*own, *named}
    frames: dict[str, DeclaredNode] = {}
    for flow in flows:
        node = flow.name
        if node in frames:
            node = next(other for number in count(2) if (other := f"{flow.name}-{number}") not in taken)
            taken.add(node)
        frames[node] = frame_of(flow, name=node)
    return list(frames.values())
