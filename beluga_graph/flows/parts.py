"""What the patterns share: flows as the frames of a graph."""

from __future__ import annotations

from collections.abc import Sequence

from beluga_graph.errors import DuplicateNode, Unreachable
from beluga_graph.flows.flow import Flow
from beluga_graph.graph import DeclaredNode

__all__ = ["frames_of"]


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
        inside = flow.declare()
        found[flow.name] = DeclaredNode(name=flow.name, kind="frame", flow=inside, timeout=inside.timeout)
    return list(found.values())
