"""The visits of a run as a tree: each under the frame or the branch that it stands in, in the order they began.

What is long is folded: of many visits in a row, and of many branches, the first and the last are shown, and of the
others those that failed or have not ended; the rest is counted.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from beluga_graph.kernel.shape import FRAME
from beluga_graph.kernel.snapshot import FAILED as FAILED_RUN
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.visits import DONE, FAILED, RETRYING, RUNNING, STOPPED, WAITING, Visit

__all__ = ["MOST", "MOST_BRANCHES", "QUEUED", "Branch", "Folded", "Item", "VisitItem", "tree_of", "visits_in"]

MOST = 12  # visits in a row that are shown without `unfolded`
MOST_BRANCHES = 6
QUEUED = "queued"  # a branch that waits for a free place

_LAST = 1  # of the items that are shown when some are folded; half of them are kept for those that are not done
_LASTING = (RUNNING, RETRYING, WAITING)
_OPEN = (FAILED, *_LASTING, STOPPED)  # what a branch is while something in it has not ended


@dataclass(frozen=True, slots=True, kw_only=True)
class Folded:
    """Items that are not shown: how many, and how many of each status."""

    count: int
    statuses: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Branch:
    """One branch of a fan-out, and the visits in it."""

    branch: int
    status: str
    """That of its last visit, as of a span; `queued` if it has not begun."""
    duration_ms: int
    inside: tuple[Item, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class VisitItem:
    """One visit of a node, and what is in the frame or the branches that it opened."""

    name: str
    """Structural name: the same wherever the run goes on."""
    local: str
    """The name within its place, without the number of a first visit."""
    node: str
    status: str
    """As of a span."""
    begun_seq: int
    begun_ms: int
    ended_seq: int | None
    ended_ms: int | None
    duration_ms: int
    """From its begin to its end; of one that goes on, so far."""
    busy_ms: int
    """Of that, in attempts."""
    attempts: int
    usage: dict[str, int] = field(default_factory=dict)
    signal: str = ""
    due_ms: int | None = None
    branches: dict[str, int] | None = None
    """Of a fan-out that has opened: its branches by status."""
    inside: tuple[Item, ...] = ()


Item: TypeAlias = VisitItem | Branch | Folded


def tree_of(
    trail: Trace, *, depth: int | None = None, unfolded: bool = False, at_ms: int | None = None
) -> tuple[Item, ...]:
    """Return the visits of a run as a tree; what is in frames and fan-outs deeper than `depth` is counted only.

    `at_ms` is what counts as now for visits that go on: the last step, by default. Raises `ValueError` for a
    negative depth.
    """
    if depth is not None and depth < 0:
        msg = f"depth {depth}: give 0 for the outermost visits alone, or more"
        raise ValueError(msg)
    return _Tree(trail, at_ms, unfolded=unfolded).inside("", depth)


def visits_in(items: Sequence[Item]) -> Iterator[VisitItem]:
    """Yield all visits of a tree that are not folded."""
    for item in items:
        if isinstance(item, VisitItem):
            yield item
        if not isinstance(item, Folded):
            yield from visits_in(item.inside)


class _Tree:
    """Spans by the place that they stand in, and branches by what opened them."""

    def __init__(self, trail: Trace, at_ms: int | None, *, unfolded: bool) -> None:
        self._trail = trail
        self._unfolded = unfolded
        self._at_ms = max(trail.at_ms, at_ms or 0)
        self._spans: dict[str, list[Visit]] = {}
        self._places: dict[str, dict[int, str]] = {}
        for span in trail.spans.values():
            self._spans.setdefault(span.place, []).append(span)
        for place in self._spans:
            if place:
                cut = place.rindex("[")
                self._places.setdefault(place[:cut], {})[int(place[cut + 1 : -2])] = place
        self._held_up = self._with_failed() if trail.run.status == FAILED_RUN else None

    def _with_failed(self) -> set[str]:
        """Return the frames and fan-outs in which a visit failed the run."""
        found: set[str] = set()
        for span in self._trail.spans.values():
            place = span.place if span.ended_seq is None and span.status == FAILED else ""
            while place and (name := place[: place.rindex("[")]) not in found:
                found.add(name)
                place = self._trail.spans[name].place
        return found

    def _now(self, span: Visit) -> str:
        """Return the status of a visit; of a run that failed no frame and no fan-out runs, though none is closed."""
        if self._held_up is None or span.status != RUNNING:
            return span.status
        return FAILED if span.name in self._held_up else STOPPED

    def inside(self, place: str, depth: int | None) -> tuple[Item, ...]:
        """Return the visits of one place."""
        spans = self._spans.get(place, [])
        return self._some([self._now(span) for span in spans], lambda index: self._visit(spans[index], depth), MOST)

    def _visit(self, span: Visit, depth: int | None) -> VisitItem:
        inside: tuple[Item, ...] = ()
        branches: dict[str, int] | None = None
        if span.name in self._places or span.opens:
            if self._is_frame(span):
                inside = self._frame(f"{span.name}[0]/", depth)
            else:
                branches, inside = self._fan_out(span, depth)
        return VisitItem(
            name=span.name,
            local=span.name[len(span.place) :].removesuffix("#1"),
            node=span.node,
            status=self._now(span),
            begun_seq=span.begun_seq,
            begun_ms=span.begun_ms,
            ended_seq=span.ended_seq,
            ended_ms=span.ended_ms,
            duration_ms=self._until(span) - span.begun_ms,
            busy_ms=span.busy_ms + (self._until(span) - span.since_ms if span.status == RUNNING else 0),
            attempts=span.attempts,
            usage=dict(span.usage),
            signal=span.signal,
            due_ms=span.due_ms,
            branches=branches,
            inside=inside,
        )

    def _is_frame(self, span: Visit) -> bool:
        shape = self._trail.shape.nodes.get(span.node)
        return shape is not None and shape.kind == FRAME

    def _frame(self, place: str, depth: int | None) -> tuple[Item, ...]:
        if depth != 0:
            return self.inside(place, None if depth is None else depth - 1)
        statuses = [self._now(span) for span in self._spans.get(place, ())]
        return (_folded(statuses),) if statuses else ()

    def _fan_out(self, span: Visit, depth: int | None) -> tuple[dict[str, int], tuple[Item, ...]]:
        scope = self._trail.run.scopes.get(span.name)
        places = self._places.get(span.name, {})
        numbers = sorted({*places, *(scope.queue if scope is not None else ())})
        statuses = [self._status(places.get(number)) for number in numbers]
        counts = _folded(statuses)
        if depth == 0:
            return counts.statuses, (counts,) if numbers else ()
        below = None if depth is None else depth - 1
        return counts.statuses, self._some(
            statuses,
            lambda index: self._branch(numbers[index], statuses[index], places.get(numbers[index]), below),
            MOST_BRANCHES,
        )

    def _branch(self, number: int, status: str, place: str | None, depth: int | None) -> Branch:
        spans = self._spans.get(place, []) if place is not None else []
        duration = max(map(self._until, spans)) - spans[0].begun_ms if spans else 0
        inside = self.inside(place, depth) if place is not None else ()
        return Branch(branch=number, status=status, duration_ms=duration, inside=inside)

    def _status(self, place: str | None) -> str:
        if place is None:
            return QUEUED
        spans = self._spans[place]
        lasting = {self._now(span) for span in spans if span.ended_seq is None}
        return next((status for status in _OPEN if status in lasting), spans[-1].status)

    def _until(self, span: Visit) -> int:
        if span.ended_ms is not None:
            return span.ended_ms
        return self._at_ms if self._now(span) in _LASTING else self._trail.at_ms

    def _some(self, statuses: list[str], make: Callable[[int], VisitItem | Branch], most: int) -> tuple[Item, ...]:
        """Return the items in a row, made one by one, and what is folded between them."""
        if self._unfolded or len(statuses) <= most:
            return tuple(map(make, range(len(statuses))))
        shown = _chosen(statuses, most)
        found: list[Item] = []
        after = 0
        for index in (*shown, len(statuses)):
            if index - after == 1:  # to show it takes no more room than to count it
                found.append(make(after))
            elif index > after:
                found.append(_folded(statuses[after:index]))
            if index < len(statuses):
                found.append(make(index))
            after = index + 1
        return tuple(found)


def _chosen(statuses: list[str], most: int) -> list[int]:
    """Return which items are shown: the first, the last, and the first of those that are not done."""
    kept = most // 2
    first = most - _LAST - kept
    last = len(statuses) - _LAST
    notable = [index for index in range(first, last) if statuses[index] not in (DONE, QUEUED)]
    return [*range(first), *notable[:kept], *range(last, len(statuses))]


def _folded(statuses: Sequence[str]) -> Folded:
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    return Folded(count=len(statuses), statuses=counts)
