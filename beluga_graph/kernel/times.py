"""Times of nodes: when the timer of a node is due, and whether a function has yet to decide that.

The time of a node is part of the graph, or a function of the value decides it in an attempt. A decision is a pair of a
kind and milliseconds: `("after", 500)` counts from the moment at which the node begins to wait, `("at", due)` is a
point in time, and `("never", 0)` is no limit.
"""

from __future__ import annotations

from beluga_graph.kernel.shape import CHOICE, FRAME, TIMER_NODE, WAIT_NODE, NodeShape, Shape
from beluga_graph.kernel.tokens import AFTER, NEVER, Token
from beluga_graph.kernel.types import DecidedTime

__all__ = ["describe_deadline", "describe_limit", "find_due", "has_time_limit", "is_undecided"]

_DECIDES_FIRST = frozenset((TIMER_NODE, WAIT_NODE, FRAME))


def is_undecided(node: NodeShape, token: Token) -> bool:
    """Return whether an attempt at this token decides the time of its node, before the node waits or begins."""
    return node.decides_time and node.kind in _DECIDES_FIRST and token.time is None


def has_time_limit(node: NodeShape) -> bool:
    """Return whether the graph has a constant time limit for a node."""
    return node.timeout_ms is not None or node.due_ms is not None


def find_due(node: NodeShape | Shape, at: int, decided: DecidedTime | None = None) -> int | None:
    """Return when the timer of a node, or of the whole run, is due if it begins to count at `at`.

    The earliest of several limits counts. `None` if there is no limit.
    """
    dues = [] if node.due_ms is None else [node.due_ms]
    if decided is not None:
        kind, ms = decided
        if kind != NEVER:
            dues.append(at + ms if kind == AFTER else ms)
    elif isinstance(node, NodeShape) and node.kind == TIMER_NODE and node.due_ms is None:
        dues.append(at + node.delay_ms)
    if node.timeout_ms is not None:
        dues.append(at + node.timeout_ms)
    return min(dues, default=None)


def describe_limit(node: NodeShape, due: int, decided: DecidedTime | None) -> str:
    """Return the limit of a wait that has passed in words: `within 5 s`, or `by` a point in time."""
    if decided is not None:
        kind, ms = decided
        return f"within {ms / 1000:g} s" if kind == AFTER else f"by {_format_due(due)}"
    if node.timeout_ms is not None:
        return f"within {node.timeout_ms / 1000:g} s"
    return f"by {_format_due(due)}"


def describe_deadline(shape: Shape, limited: NodeShape | Shape, due: int) -> str:
    """Return the deadline of a frame, or of the run, that has passed in words.

    A time that a function decided is not shown: it may come from a clock, and a message is equal in equal runs.
    """
    first = shape.nodes.get(limited.entry or "")
    is_decided = isinstance(limited, NodeShape) and limited.decides_time
    if is_decided or (first is not None and first.kind == CHOICE and first.decides_time):
        return "its deadline, which a function decided"
    if limited.due_ms == due:
        return f"its deadline, {_format_due(due)}"
    return f"its deadline of {(limited.timeout_ms or 0) / 1000:g} s"


def _format_due(due: int) -> str:
    """Return a point in time as text, such as `2030-01-31 09:00:00 UTC`.

    The arithmetic is Howard Hinnant's `civil_from_days`: the kernel has no `datetime`, which reads clocks.
    """
    days, ms = divmod(due, 86_400_000)
    era, day_of_era = divmod(days + 719_468, 146_097)
    year_of_era = (day_of_era - day_of_era // 1_460 + day_of_era // 36_524 - day_of_era // 146_096) // 365
    day_of_year = day_of_era - (365 * year_of_era + year_of_era // 4 - year_of_era // 100)
    from_march = (5 * day_of_year + 2) // 153
    day = day_of_year - (153 * from_march + 2) // 5 + 1
    month = from_march + 3 if from_march < 10 else from_march - 9
    year = year_of_era + era * 400 + (month <= 2)
    seconds = ms // 1000
    return f"{year:04}-{month:02}-{day:02} {seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02} UTC"
