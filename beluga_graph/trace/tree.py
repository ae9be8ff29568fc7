"""The visits of a run as a tree: each below the frame or the branch that contains it, in the order in which they began.

Long rows are folded: of many visits in a row, and of many branches, the tree shows the first, the last, and some of
those that failed or have not ended. It counts the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from beluga_graph.kernel.snapshot import FAILED as FAILED_RUN
from beluga_graph.kernel.structural_names import branch_place
from beluga_graph.trace.edges import is_frame
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.visit_table import find_opener
from beluga_graph.trace.visits import DONE, FAILED, RETRYING, RUNNING, STOPPED, WAITING, Visit

__all__ = [
    "BRANCHES_MAX",
    "QUEUED",
    "VISITS_MAX",
    "TreeBranch",
    "TreeFold",
    "TreeItem",
    "TreeVisit",
    "build_tree",
    "iter_visits",
]

VISITS_MAX = 12  # visits in a row that are shown without `unfolded`
BRANCHES_MAX = 6  # branches of a fan-out that are shown without `unfolded`
QUEUED = "queued"  # the status of a branch that waits for `max_concurrency`

_LAST = 1  # items shown at the end of a folded row
_LASTING = (RUNNING, RETRYING, WAITING)
_OPEN = (FAILED, *_LASTING, STOPPED)  # precedence of statuses for a branch that has open visits


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeFold:
    """Items of a row that are not shown."""

    count: int
    """Number of items."""
    statuses: dict[str, int]
    """Number of items by status."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeBranch:
    """One branch of a fan-out, with its visits."""

    branch: int
    """Number of the branch, from 0."""
    status: str
    """Status of its last visit, or of an open one; `queued` if the branch has not begun."""
    duration_ms: int
    """Time from the begin of its first visit to the last end."""
    inside: tuple[TreeItem, ...]
    """The visits of the branch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeVisit:
    """One visit of a node, with the visits in the frame or the branches that it opened."""

    name: str
    """Structural name: the same in every process that continues the run."""
    local: str
    """The name within its place, without the number of a first visit."""
    node: str
    """Path of the node."""
    status: str
    """A status of a visit."""
    begun_seq: int
    """Step in which the visit began."""
    begun_ms: int
    """Clock time at which the visit began."""
    ended_seq: int | None
    """Step in which the visit ended."""
    ended_ms: int | None
    """Clock time at which the visit ended."""
    duration_ms: int
    """Time from begin to end, or until now if the visit has not ended."""
    busy_ms: int
    """The part of `duration_ms` that was spent in attempts."""
    attempts: int
    """Attempts made so far."""
    usage: dict[str, int] = field(default_factory=dict)
    """Sums that the node reported, such as model tokens, by name."""
    signal: str = ""
    """Name of the signal that the visit waits for."""
    due_ms: int | None = None
    """Clock time at which the timer that the visit waits for fires."""
    branches: dict[str, int] | None = None
    """Number of branches by status, for a fan-out that has opened."""
    inside: tuple[TreeItem, ...] = ()
    """The visits in a frame, or the branches of a fan-out."""


TreeItem: TypeAlias = TreeVisit | TreeBranch | TreeFold


def build_tree(
    trace: Trace, *, depth: int | None = None, unfolded: bool = False, at_ms: int | None = None
) -> tuple[TreeItem, ...]:
    """Return the visits of a run as a tree.

    Below `depth` levels of frames and fan-outs, visits are counted, not listed. With `unfolded` long rows are listed
    in full. `at_ms` is the current time for visits that have not ended, by default the time of the last step. Raises
    `ValueError` for a negative depth.
    """
    if depth is not None and depth < 0:
        msg = f"depth {depth}: give 0 for the outermost visits alone, or more"
        raise ValueError(msg)
    return _TreeBuilder(trace, at_ms, unfolded=unfolded).build_place("", depth)


def iter_visits(items: Sequence[TreeItem]) -> Iterator[TreeVisit]:
    """Yield all visits of a tree that are not folded."""
    for item in items:
        if isinstance(item, TreeVisit):
            yield item
        if not isinstance(item, TreeFold):
            yield from iter_visits(item.inside)


class _TreeBuilder:
    def __init__(self, trace: Trace, at_ms: int | None, *, unfolded: bool) -> None:
        self._trace = trace
        self._unfolded = unfolded
        self._at_ms = max(trace.at_ms, at_ms or 0)
        self._visits: dict[str, list[Visit]] = {}  # by place
        self._places: dict[str, dict[int, str]] = {}  # by opener and number of the branch
        for visit in trace.visits.values():
            self._visits.setdefault(visit.place, []).append(visit)
        for place in self._visits:
            if place:
                opener = find_opener(place)
                self._places.setdefault(opener, {})[int(place[len(opener) + 1 : -2])] = place
        self._openers_of_failed = self._find_openers_of_failed() if trace.run.status == FAILED_RUN else None

    def _find_openers_of_failed(self) -> set[str]:
        """Return the frames and fan-outs around the visits that failed the run."""
        found: set[str] = set()
        for visit in self._trace.visits.values():
            place = visit.place if visit.ended_seq is None and visit.status == FAILED else ""
            while place and (name := find_opener(place)) not in found:
                found.add(name)
                place = self._trace.visits[name].place
        return found

    def _find_status(self, visit: Visit) -> str:
        """Return the status of a visit. In a failed run, frames and fan-outs are still open, but do not run."""
        if self._openers_of_failed is None or visit.status != RUNNING:
            return visit.status
        return FAILED if visit.name in self._openers_of_failed else STOPPED

    def build_place(self, place: str, depth: int | None) -> tuple[TreeItem, ...]:
        visits = self._visits.get(place, [])
        statuses = [self._find_status(visit) for visit in visits]
        return self._build_row(statuses, lambda index: self._build_visit(visits[index], depth), VISITS_MAX)

    def _build_visit(self, visit: Visit, depth: int | None) -> TreeVisit:
        inside: tuple[TreeItem, ...] = ()
        branches: dict[str, int] | None = None
        if visit.name in self._places or visit.opens:
            if is_frame(self._trace.shape, visit.node):
                inside = self._build_frame(branch_place(visit.name, 0), depth)
            else:
                branches, inside = self._build_fan_out(visit, depth)
        end_ms = self._find_end_ms(visit)
        return TreeVisit(
            name=visit.name,
            local=visit.name[len(visit.place) :].removesuffix("#1"),
            node=visit.node,
            status=self._find_status(visit),
            begun_seq=visit.begun_seq,
            begun_ms=visit.begun_ms,
            ended_seq=visit.ended_seq,
            ended_ms=visit.ended_ms,
            duration_ms=end_ms - visit.begun_ms,
            busy_ms=visit.busy_ms + (end_ms - visit.since_ms if visit.status == RUNNING else 0),
            attempts=visit.attempts,
            usage=dict(visit.usage),
            signal=visit.signal,
            due_ms=visit.due_ms,
            branches=branches,
            inside=inside,
        )

    def _build_frame(self, place: str, depth: int | None) -> tuple[TreeItem, ...]:
        if depth != 0:
            return self.build_place(place, None if depth is None else depth - 1)
        statuses = [self._find_status(visit) for visit in self._visits.get(place, ())]
        return (_fold(statuses),) if statuses else ()

    def _build_fan_out(self, visit: Visit, depth: int | None) -> tuple[dict[str, int], tuple[TreeItem, ...]]:
        scope = self._trace.run.scopes.get(visit.name)
        places = self._places.get(visit.name, {})
        numbers = sorted({*places, *(scope.queue if scope is not None else ())})
        statuses = [self._find_branch_status(places.get(number)) for number in numbers]
        counts = _fold(statuses)
        if depth == 0:
            return counts.statuses, (counts,) if numbers else ()
        below = None if depth is None else depth - 1
        return counts.statuses, self._build_row(
            statuses,
            lambda index: self._build_branch(numbers[index], statuses[index], places.get(numbers[index]), below),
            BRANCHES_MAX,
        )

    def _build_branch(self, number: int, status: str, place: str | None, depth: int | None) -> TreeBranch:
        visits = self._visits.get(place, []) if place is not None else []
        duration = max(map(self._find_end_ms, visits)) - visits[0].begun_ms if visits else 0
        inside = self.build_place(place, depth) if place is not None else ()
        return TreeBranch(branch=number, status=status, duration_ms=duration, inside=inside)

    def _find_branch_status(self, place: str | None) -> str:
        if place is None:
            return QUEUED
        visits = self._visits[place]
        lasting = {self._find_status(visit) for visit in visits if visit.ended_seq is None}
        return next((status for status in _OPEN if status in lasting), visits[-1].status)

    def _find_end_ms(self, visit: Visit) -> int:
        """Return when a visit ended, or the current time if it goes on."""
        if visit.ended_ms is not None:
            return visit.ended_ms
        return self._at_ms if self._find_status(visit) in _LASTING else self._trace.at_ms

    def _build_row(
        self, statuses: list[str], build: Callable[[int], TreeVisit | TreeBranch], most: int
    ) -> tuple[TreeItem, ...]:
        """Return the items of a row, built by index, with a fold in place of each gap."""
        if self._unfolded or len(statuses) <= most:
            return tuple(map(build, range(len(statuses))))
        found: list[TreeItem] = []
        after = 0
        for index in (*_choose_shown(statuses, most), len(statuses)):
            if index - after == 1:  # a single item takes no more room than a fold
                found.append(build(after))
            elif index > after:
                found.append(_fold(statuses[after:index]))
            if index < len(statuses):
                found.append(build(index))
            after = index + 1
        return tuple(found)


def _choose_shown(statuses: list[str], most: int) -> list[int]:
    """Return the indices of the items to show: the first ones, the last, and the first ones that are not done.

    Half of the room is reserved for items that are not done.
    """
    kept = most // 2
    first = most - _LAST - kept
    last = len(statuses) - _LAST
    notable = [index for index in range(first, last) if statuses[index] not in (DONE, QUEUED)]
    return [*range(first), *notable[:kept], *range(last, len(statuses))]


def _fold(statuses: Sequence[str]) -> TreeFold:
    counts: dict[str, int] = {}
    for status in statuses:
        counts[status] = counts.get(status, 0) + 1
    return TreeFold(count=len(statuses), statuses=counts)
