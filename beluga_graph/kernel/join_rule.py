"""The rule of a join: when it runs, which failures of its branches it tolerates, and which results it gets.

Every decision about `wait` and `collect` is here. To add another kind of `wait`, change this module, the declaration
of a join, the stored form of a shape and the drawing of a join.
"""

from __future__ import annotations

from beluga_graph.kernel.shape import NodeShape
from beluga_graph.kernel.tokens import Scope
from beluga_graph.kernel.types import FailureFields, Value

__all__ = ["can_succeed", "failure_of", "joined_results", "runs_now", "successes_needed"]


def successes_needed(wait: int | None, width: int) -> int:
    """Return the number of successes that a join with this `wait` needs of `width` branches."""
    return width if wait is None else wait


def runs_now(join: NodeShape, width: int, succeeded: int, failed: int) -> bool:
    """Return whether a join runs: it has its successes, or all branches have ended."""
    return succeeded >= successes_needed(join.wait, width) or succeeded + failed == width


def can_succeed(join: NodeShape, width: int, failed: int) -> bool:
    """Return whether a join can still get its successes after `failed` of its branches failed.

    A join that collects failures needs no success. Neither does the join of a fan-out without branches.
    """
    return join.collect or not width or width - failed >= successes_needed(join.wait, width)


def failure_of(join: NodeShape, width: int, failed: int, cause: FailureFields | None) -> FailureFields:
    """Return the failure of a join that cannot succeed, after `cause`, the failure of its last branch, if any.

    A join that needs all its branches fails as the branch did.
    """
    if join.wait is None and cause is not None:
        return cause
    why = f"{failed} of {width} branches failed" if failed else f"it has {width} branches"
    because = f"; the last failure: {cause[1]}: {cause[2]}" if cause else ""
    message = f"join {join.name!r} needs {successes_needed(join.wait, width)} successes and {why}{because}"
    return (join.name, "JoinUnreachable", message, 1, cause[4] if cause else None)


def joined_results(join: NodeShape, scope: Scope) -> dict[int, Value]:
    """Return the results that a join gets, by branch: the successes and, if it collects them, the failures."""
    return {**scope.failures, **scope.results} if join.collect else scope.results
