"""Listeners: the sources of interrupting edges that a run is in. The signals of those edges interrupt them.

A listener is named by what the signal drops:

* a token, at a node;
* a scope: a sub-flow, or a fan-out with its branches until its join begins;
* a place: the whole graph of the run (`""`) or of a frame. It does not listen while it is at an exempt node of the
  edge, so that a second signal does not interrupt the handling of the first.

A snapshot keeps listeners among its waits, in the order in which they began. A scope begins before what is in it.
"""

from __future__ import annotations

from collections.abc import Mapping

from beluga_graph.kernel.ops import ADD_LISTENER, REMOVE_LISTENER
from beluga_graph.kernel.shape import InterruptShape, NodeShape, Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.structural_names import is_inside
from beluga_graph.kernel.types import Op

__all__ = [
    "arrival_ops",
    "can_interrupt",
    "describe_listener",
    "find_graph_interrupts",
    "find_interrupts",
    "find_node",
    "graph_end_ops",
    "is_listening",
    "list_signals_around",
    "pick_receiver",
    "removal_ops",
]


def pick_receiver(run: Snapshot, signal: str) -> str:
    """Return the token or listener that gets the next signal of a name: the oldest, or the innermost within it."""
    waiting = run.waits[signal]
    found = waiting[0]
    if found in run.tokens:  # nothing is within a token
        return found
    for name in waiting[1:]:
        if _is_within(name, found):
            found = name
            if found in run.tokens:
                break
    return found


def is_listening(run: Snapshot, name: str, signal: str) -> bool:
    """Return whether the run may still have a listener, without a search among those of the signal."""
    return signal in run.waits and (name in run.tokens or name in run.scopes or name in run.places)


def describe_listener(run: Snapshot, name: str) -> tuple[str, str]:
    """Return the node of a listener, and its token or scope; both are `""` for the whole run."""
    token = run.tokens.get(name)
    if token is not None:
        return token.node, name
    scope = name if name in run.scopes else run.places[name].scope
    return ("", "") if scope is None else (run.scopes[scope].node, scope)


def find_interrupts(shape: Shape, run: Snapshot, name: str) -> tuple[str, tuple[InterruptShape, ...]]:
    """Return the place that a listener clears, and its interrupting edges."""
    token, scope = run.tokens.get(name), run.scopes.get(name)
    if token is not None:
        return token.place, shape.nodes[token.node].interrupts
    if scope is not None:
        return scope.place, shape.nodes[scope.node].interrupts
    return name, find_graph_interrupts(shape, run, name)


def find_graph_interrupts(shape: Shape, run: Snapshot, place: str) -> tuple[InterruptShape, ...]:
    """Return the interrupting edges out of the graph that begins at a place: the run's, or that of a frame."""
    known = run.places.get(place)
    if known is None:  # a branch that has not begun
        return ()
    if known.scope is None:
        return shape.interrupts
    scope = run.scopes[known.scope]
    return shape.nodes[scope.node].inner_interrupts if scope.frame else ()


def find_node(run: Snapshot, place: str) -> str | None:
    """Return the node that the control at a place is at; `None` if it has not begun."""
    known = run.places[place]
    if known.token is not None:
        return run.tokens[known.token].node
    return None if known.opened is None else run.scopes[known.opened].node


def can_interrupt(run: Snapshot, place: str, edge: InterruptShape) -> bool:
    """Return whether an edge out of the graph at a place can interrupt it at the node that it is at."""
    node = find_node(run, place)
    return node is not None and node not in edge[2]


def list_signals_around(shape: Shape, run: Snapshot, name: str) -> list[str]:
    """Return the signals that would drop a token or a scope, by the interrupting edges out of it and around it."""
    found: list[str] = []
    while True:
        place, edges = find_interrupts(shape, run, name)
        found += [signal for signal, _, _ in edges]
        found += [edge[0] for edge in find_graph_interrupts(shape, run, place) if can_interrupt(run, place, edge)]
        scope = run.places[place].scope
        if scope is None:
            return found
        name = scope


# As tokens move.


def arrival_ops(
    shape: Shape, run: Snapshot, place: str, node: NodeShape, name: str, opened: Mapping[str, NodeShape]
) -> list[Op]:
    """Return the changes of listeners as the token or scope `name` comes to `node` at a place.

    `opened` are the frames that the patch has opened, by the place inside. `run` is as it was before the patch.
    """
    found: list[Op] = []
    frame = opened.get(place)
    edges = find_graph_interrupts(shape, run, place) if frame is None else frame.inner_interrupts
    for edge in edges:
        was = frame is None and can_interrupt(run, place, edge)
        is_exempt = node.name in edge[2]
        if was and is_exempt:
            found.append((REMOVE_LISTENER, edge[0], place))
        elif not was and not is_exempt:
            found.append((ADD_LISTENER, edge[0], place))
    return found + [(ADD_LISTENER, signal, name) for signal, _, _ in node.interrupts]


def graph_end_ops(run: Snapshot, place: str, edges: tuple[InterruptShape, ...]) -> list[Op]:
    """Return the removal of the listeners at a place whose graph, with these edges, ends."""
    return removal_ops(place, tuple(edge for edge in edges if can_interrupt(run, place, edge)))


def removal_ops(name: str, edges: tuple[InterruptShape, ...]) -> list[Op]:
    """Return the removal of a listener with these edges."""
    return [(REMOVE_LISTENER, signal, name) for signal, _, _ in edges]


def _is_within(name: str, outer: str) -> bool:
    is_place = not outer or outer.endswith("/")
    return name.startswith(outer) if is_place else is_inside(name, outer)
