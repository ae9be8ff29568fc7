"""What the patterns share: flows as the frames of a graph."""

from __future__ import annotations

from collections.abc import Sequence

from beluga_graph.errors import DuplicateNode, Unreachable
from beluga_graph.flows.flow import Flow
from beluga_graph.graph import DeclaredNode
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


def frames_of(name: str, flows: Sequence[Flow]) -> list[DeclaredNode]:
    """Return a frame per flow, in order. Raises `DuplicateNode` for equal names, `Unreachable` for no flow."""
    if not flows:
        raise Unreachable(name, f"flow {name!r}", "it has no agents", "give it at least one")
    found: dict[str, DeclaredNode] = {}
    for flow in flows:
        if not isinstance(flow, Flow):
            msg = f"flow {name!r}: {flow!r} is no flow; wrap a function in a Graph"
            raise TypeError(msg)
        if flow.name in found:
            rule = f"two of its agents are called {flow.name!r}"
            raise DuplicateNode(name, f"flow {name!r}", rule, "rename one")
        found[flow.name] = frame_of(flow)
    return list(found.values())
