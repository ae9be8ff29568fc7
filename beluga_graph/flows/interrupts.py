"""Interrupting edges as builders declare them: by `Graph.on_signal`, and by `on_signal=` of a step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beluga_graph.errors import AmbiguousExit
from beluga_graph.flows.checks import check_signal
from beluga_graph.plan.declared import WHOLE_GRAPH, Declared, DeclaredNode, Interrupt

__all__ = ["declare_handlers", "declare_interrupt"]


def declare_interrupt(graph: Declared, source: str | None, signal: str, target: str, payload_type: Any) -> None:
    """Declare an interrupting edge out of a node; without a source, out of the graph itself.

    Raises `AmbiguousExit` if the source has one for the signal already, and `BadName` for the signal.
    """
    check_signal(graph.name, f"on_signal({signal!r:.100})", signal)
    name = WHOLE_GRAPH if source is None else source
    if (name, signal) in graph.interrupts:
        what = "the graph" if source is None else f"node {source!r}"
        rule = f"the signal {signal!r} interrupts it already"
        raise AmbiguousExit(graph.name, what, rule, "give one target, and choose the way from there with g.branch")
    graph.interrupts[name, signal] = Interrupt(target, payload_type)


def declare_handlers(graph: Declared, node: DeclaredNode, declare: Callable[[DeclaredNode], None]) -> None:
    """Declare the nodes that handle the signals of a step, with the edges to them."""
    for signal, handler in node.on_signal.items():
        declare(handler)
        declare_interrupt(graph, node.name, signal, handler.name, None)
        declare_handlers(graph, handler, declare)
