"""The list of all listeners of a run. It distinguishes them from tokens at waits; see `listeners`."""

from __future__ import annotations

from collections.abc import Iterator

from beluga_graph.kernel.listeners import find_node
from beluga_graph.kernel.renames import rename_path
from beluga_graph.kernel.rules import signal_of
from beluga_graph.kernel.shape import InterruptShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.tokens import AT_WAIT
from beluga_graph.kernel.types import Renames

__all__ = ["is_listener", "list_listeners"]


def is_listener(shape: Shape, run: Snapshot, signal: str, name: str, renames: Renames = ()) -> bool:
    """Return whether the signal would interrupt a receiver; otherwise that is a token at a wait for the signal."""
    token = run.tokens.get(name)
    if token is None or token.state != AT_WAIT:
        return True
    return signal_of(shape.nodes[rename_path(token.node, renames)], name) != signal


def list_listeners(shape: Shape, run: Snapshot, renames: Renames = ()) -> Iterator[tuple[str, str]]:
    """Yield the signal and the name of every listener of a run, outer ones first.

    `renames` are the new names of nodes, if the shape is a changed one that the run is about to adopt.
    """

    def edges_of(node: str) -> tuple[InterruptShape, ...]:
        return shape.nodes[rename_path(node, renames)].interrupts

    for name, place in run.places.items():
        scope = None if place.scope is None else run.scopes[place.scope]
        graph = shape.interrupts if scope is None else ()
        if scope is not None and scope.frame:
            graph = shape.nodes[rename_path(scope.node, renames)].inner_interrupts
        node = find_node(run, name)
        at = None if node is None else rename_path(node, renames)
        yield from ((signal, name) for signal, _, exempt in graph if at is not None and at not in exempt)
        if place.opened is not None and place.token is None:
            yield from ((signal, place.opened) for signal, _, _ in edges_of(run.scopes[place.opened].node))
        if place.token is not None:
            yield from ((signal, place.token) for signal, _, _ in edges_of(run.tokens[place.token].node))
