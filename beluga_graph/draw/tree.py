"""The visits of a run as a tree: what ran in which sub-flow and in which branch, long rows folded to a count."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from beluga_graph.draw.marks import DONE, DROPPED, Span
from beluga_graph.draw.trail import Trail
from beluga_graph.kernel.shape import FRAME

__all__ = ["Folded", "Visit", "tree_of"]

_QUIET = (DONE, DROPPED)  # what is folded first


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Visits that are not shown: how many, by status."""

    counts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Visit:
    """One visit of a node, and what is inside of it, in order; of a fan-out, branch by branch."""

    span: Span
    branch: int | None = None
    """Which branch of the fan-out around it this visit belongs to."""
    inside: tuple[Visit | Folded, ...] = field(default=())


def tree_of(trail: Trail, *, most: int | None = 20, depth: int | None = None) -> tuple[Visit | Folded, ...]:
    """Return a run's visits as a tree, in the order in which they began.

    Of a row longer than `most`, the first ones are kept, and those that failed or still go on; `None` keeps all.
    What is deeper than `depth` is left out.
    """
    rows: dict[str, list[Span]] = {}
    for span in trail.spans.values():
        rows.setdefault(span.place[: span.place.rindex("[")] if span.place else "", []).append(span)

    def row(scope: str, deep: int) -> tuple[Visit | Folded, ...]:
        if depth is not None and deep > depth:
            return ()
        spans = rows.get(scope, [])
        in_branches = scope and not _is_frame(trail, scope)
        if in_branches:
            spans = sorted(spans, key=_branch)  # stable: within a branch in order
        shown = _shown(spans, most)
        found: list[Visit | Folded] = [
            Visit(span=span, branch=_branch(span) if in_branches else None, inside=row(span.name, deep + 1))
            for span in shown
        ]
        if len(shown) < len(spans):
            kept = {span.name for span in shown}
            found.append(Folded(counts=dict(Counter(span.status for span in spans if span.name not in kept))))
        return tuple(found)

    return row("", 0)


def _is_frame(trail: Trail, scope: str) -> bool:
    shape = trail.shape.nodes.get(trail.spans[scope].node)
    return shape is not None and shape.kind == FRAME


def _branch(span: Span) -> int:
    return int(span.place[span.place.rindex("[") + 1 : -2])


def _shown(spans: Sequence[Span], most: int | None) -> Sequence[Span]:
    if most is None or len(spans) <= most:
        return spans
    return list(_chosen(spans, most))


def _chosen(spans: Sequence[Span], most: int) -> Iterator[Span]:
    """Yield the first half of what there is room for, and then what is not simply done, as far as there is room."""
    left = most
    for number, span in enumerate(spans):
        if left and (number < most // 2 or span.status not in _QUIET):
            left -= 1
            yield span
