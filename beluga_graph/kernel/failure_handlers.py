"""Failure handlers: the edge, scope or frame that handles a failure for good, searched from the node outwards."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from beluga_graph.kernel.join_rule import can_succeed, failure_of
from beluga_graph.kernel.shape import NodeShape, Shape
from beluga_graph.kernel.types import FailureFields

if TYPE_CHECKING:
    from beluga_graph.kernel.snapshot import Snapshot

__all__ = ["FOLLOW_ERROR_EDGE", "RESTART", "TOLERATE", "Handler", "cut_chain", "find_handler"]

FOLLOW_ERROR_EDGE, TOLERATE, RESTART = "edge", "tolerate", "restart"


class Handler(NamedTuple):
    """The handling of a failure: an error edge, a scope that tolerates it, or a frame that begins again."""

    kind: str
    place: str  # error edge: where to enter the target; tolerate: the branch; restart: where the frame is
    target: str
    failure: FailureFields


def find_handler(
    shape: Shape, run: Snapshot, place: str, node: NodeShape, failure: FailureFields, *, own: bool, final: bool
) -> Handler | None:
    """Return the handler of a failure of `node` at `place`; `None` if the run fails.

    Without `own`, the node's own error edge does not count. A `final` failure restarts no frame.
    """
    nodes = shape.nodes
    if own and node.error is not None:
        return Handler(FOLLOW_ERROR_EDGE, place, node.error, failure)
    while True:
        known = run.places[place]
        if known.scope is None:
            return None
        scope, opener = run.scopes[known.scope], nodes[run.scopes[known.scope].node]
        error = opener.error
        if scope.frame:
            if opener.retry is not None and scope.attempt < opener.retry.attempts and not final:
                return Handler(RESTART, scope.place, "", failure)
        else:
            join = nodes[opener.join or ""]
            failed = len(scope.failures) + 1
            if can_succeed(join, scope.width, failed):
                return Handler(TOLERATE, place, "", failure)
            failure = failure_of(join, scope.width, failed, failure)
            error = error or join.error
        if error is not None:
            return Handler(FOLLOW_ERROR_EDGE, scope.place, error, failure)
        place = scope.place


def cut_chain(failure: FailureFields) -> FailureFields:
    """Return a failure whose input, if it is a failure, has none: a loop over error edges would nest for ever."""
    given = failure[4]
    if type(given) is not tuple or given[4] is None:
        return failure
    return (*failure[:4], (*given[:4], None))
