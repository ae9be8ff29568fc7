"""Interruptions: which node is to blame when one process after another ends while nodes run.

Any node of any run in a process may have ended it, or none. So a death counts against every node that was running,
but only up to half of the limit. From then on, a node runs on trial: apart from other nodes that are on trial, those
with the fewest interruptions first. The start of a trial is counted, on disk, before the node begins. If the process
ends during the trial, that count is against this node alone. Nodes that merely ran beside a harmful one finish in
their own trials.
"""

from __future__ import annotations

from collections.abc import Iterable

from beluga_graph.kernel.rules import get_limit
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import RUN, Snapshot, Token
from beluga_graph.kernel.triggers import RunNode, Work

__all__ = ["count_interruptions", "find_guilty", "needs_trial", "order_by_interruptions"]


def needs_trial(shape: Shape, run: Snapshot, token: Token) -> bool:
    """Return whether a token's node was interrupted so often that it has to run apart from others like it."""
    return token.interruptions >= _counted_in_company(shape, run)


def find_guilty(shape: Shape, run: Snapshot) -> list[Token]:
    """Return the running tokens that were interrupted more often than is allowed."""
    allowed = get_limit(shape, run, "max_interruptions")
    return [token for token in run.tokens.values() if token.state == RUN and token.interruptions > allowed]


def count_interruptions(shape: Shape, run: Snapshot) -> tuple[tuple[str, int], ...]:
    """Return the interruptions of each running token after the death of the run's owner.

    A token that needs a trial keeps its count: if it was on trial at the death, the start of the trial is counted.
    """
    most = _counted_in_company(shape, run)
    running = [token for token in run.tokens.values() if token.state == RUN]
    return tuple((token.name, token.interruptions + (token.interruptions < most)) for token in running)


def order_by_interruptions(run: Snapshot, items: Iterable[Work]) -> list[Work]:
    """Order work that is about to begin by how often its node was interrupted, so that every trial gets its turn."""

    def interruptions(item: Work) -> int:
        token = run.tokens.get(item.token) if isinstance(item, RunNode) else None
        return 0 if token is None else token.interruptions

    return sorted(items, key=interruptions)


def _counted_in_company(shape: Shape, run: Snapshot) -> int:
    """Return how many deaths count against a node although others ran beside it: at least one."""
    return (get_limit(shape, run, "max_interruptions") + 1) // 2
