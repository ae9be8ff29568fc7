"""The path of a run from its very start: its steps and, for a fork, the earlier steps of the run that was forked.

The history of a fork begins at the fork. The history before that is its source's, as long as the source is stored.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from beluga_graph.errors import RunNotFound
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel import ops
from beluga_graph.kernel.structural_names import branch_place
from beluga_graph.kernel.types import EventFields, Patch, Value
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.loading import (
    RunReader,
    StoredStep,
    detect_contradictions,
    detect_deletion,
    read_last_seq,
    read_steps,
    rebuild,
    rebuild_first,
)
from beluga_graph.storage.records import RunRecord
from beluga_graph.trace.trace import Trace
from stores.base import Store

__all__ = [
    "BEGINS",
    "PathStep",
    "RunPath",
    "Segment",
    "VisitResult",
    "find_segments",
    "number_steps",
    "read_path",
    "read_results",
]

BEGINS, CHOOSES = "begins", "chooses"
_FORKED = "RunForked"
_NO_STEPS = frozenset(("run_started", "waiting", "retry"))  # events about a visit that do not move the run


class Segment(NamedTuple):
    """Consecutive steps of one run that belong to a path: all, or those up to the step that was forked."""

    run_id: str
    until: int | None


class PathStep(NamedTuple):
    """One thing that a committed step did, without its time."""

    run_id: str
    seq: int
    token: str
    node: str
    event: str
    """`begins`, `chooses` for a route, or the type of a stored event."""
    detail: str


@dataclass(slots=True)
class VisitResult:
    """The result of a visit so far: its output as stored, or its error."""

    value: Value | None = None
    error: str = ""


class RunPath:
    """A fold over the steps of a run, and over those before its fork.

    Attributes:
        trace: The visits and statistics of the run.
        steps: The steps of the path, in order.
        results: The results of visits by structural name, in the order in which the first of each was stored.
        begun_ms: When the first step was decided.
        initial: The tokens and scopes with which a fork began whose source is not stored any more.
    """

    def __init__(self, trace: Trace) -> None:
        self.trace = trace
        self.results: dict[str, VisitResult] = {}
        self.begun_ms: int | None = None
        self.initial = frozenset(trace.visits)
        self.steps = [PathStep(trace.run.run_id, 0, v.name, v.node, BEGINS, "") for v in trace.visits.values()]
        self._begun = set(trace.visits)
        self._gap_ms = 0  # between the forked step of a source and the fork

    @property
    def took_ms(self) -> int:
        """Time from the first step to the last, without the time between a forked step and the fork."""
        return 0 if self.begun_ms is None else self.trace.at_ms - self.begun_ms

    def apply(self, run_id: str, step: StoredStep) -> None:
        """Add the next committed step, as a step of `run_id`."""
        if step.trigger == _FORKED and self.begun_ms is not None:
            self._gap_ms = step.at_ms - self.trace.at_ms
        self.trace.apply(replace(step, seq=self.trace.run.seq + 1, at_ms=step.at_ms - self._gap_ms))
        self.begun_ms = self.trace.at_ms if self.begun_ms is None else self.begun_ms
        if step.trigger == _FORKED:  # it repeats work that the source had under way
            return
        _record_tool_error(self.results, step)
        for event in step.patch.events:
            kind, node, token, more, _ = event
            _record_result(self.results, step.patch, event)
            if kind not in _NO_STEPS:
                self.steps.append(PathStep(run_id, step.seq, token, node, kind, _detail(more)))
        for op in step.patch.ops:
            if op[0] in (ops.PUT_TOKEN, ops.OPEN_SCOPE) and (name := ops.token_name(op)) not in self._begun:
                _, _, node, *_ = op
                self._begun.add(name)
                self.steps.append(PathStep(run_id, step.seq, name, node, BEGINS, ""))
        # Routes come after visits that begin: a visit says more about a difference, but a route may begin none.
        for kind, node, token, more, _ in step.patch.events:
            if kind == "node_finished" and more is not None and "route" in more:
                self.steps.append(PathStep(run_id, step.seq, token, node, CHOOSES, repr(more["route"])))


def _detail(more: dict[str, Any] | None) -> str:
    """Return the field that distinguishes events of one type: the name of a tool or signal, the target of a handoff."""
    return "" if more is None else str(more.get("target") or more.get("name") or more.get("failure") or "")


def _record_result(results: dict[str, VisitResult], patch: Patch, event: EventFields) -> None:
    """Record the result of a visit that an event reports, if any."""
    kind, _, token, more, value = event
    if kind == "error" and more is not None:
        results[token] = VisitResult(error=f"{more['failure']}: {more['message']}")
    elif kind == "retry" and more is not None:
        results[token] = VisitResult(error=str(more["message"]))
    elif kind == "signal" and more is not None and "target" in more:
        return  # it interrupted the visit, which has no result
    elif kind in ("node_finished", "tool_result", "signal", "timer", "done"):
        error = str(more.get("error") or "") if more is not None else ""
        results[token] = VisitResult(value=None if value is None else patch.values[value], error=error)


def _record_tool_error(results: dict[str, VisitResult], step: StoredStep) -> None:
    """Record the error of a tool that failed. No event reports it: the agent gets it as the result of its call."""
    if step.trigger != "NodeFailed":
        return
    for op in step.patch.ops:
        if op[0] == ops.END_BRANCH:
            _, scope, branch, value, succeeded = op
            if not succeeded and step.token.startswith(branch_place(scope, branch)):
                _, kind, message, *_ = step.patch.values[value]
                results[step.token] = VisitResult(error=f"{kind}: {message}")


def find_segments(store: Store, run_id: str) -> tuple[list[Segment], tuple[str, int] | None]:
    """Return the segments of a run's path, oldest first, and the run and step that the oldest was forked from.

    The second part is `None` unless that source is gone. Identify the source by its state at the fork; a later run
    that reuses the id does not match.
    """
    segments = [Segment(run_id, None)]
    while True:
        run_id = segments[0].run_id
        first = next(iter(read_steps(store, run_id, until=1)), None)
        if first is None or first.trigger != _FORKED:
            return segments, None
        source, seq = first.token, first.attempt
        known = any(segment.run_id == source for segment in segments)
        if known or not _is_source(store, source, seq, run_id):
            return segments, (source, seq)
        segments.insert(0, Segment(source, seq))


def _is_source(store: Store, source: str, seq: int, run_id: str) -> bool:
    try:
        if read_last_seq(store, source) < seq:
            return False
        forked = rebuild(store, source, seq)
        begun = rebuild_first(store, run_id)
    except RunNotFound:
        return False
    return (forked.started_ms, forked.input, list(forked.tokens)) == (begun.started_ms, begun.input, list(begun.tokens))


def read_path(store: Store, plan: Plan, segments: list[Segment]) -> RunPath:
    """Return the path along some segments. Raises `RunNotFound`, `DamagedRecord`."""
    with detect_deletion(store, segments[0].run_id):
        begun = rebuild_first(store, segments[0].run_id)
    with detect_contradictions(segments[-1].run_id):
        path = RunPath(Trace(plan.shape, begun))
        for segment in segments:
            with detect_deletion(store, segment.run_id):
                for step in read_steps(store, segment.run_id, until=segment.until):
                    path.apply(segment.run_id, step)
    return path


def read_results(store: Store, head: RunRecord, plan: Plan, names: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Return the decoded output and the error of each visit in `names` that has a result so far."""
    values = StoredValues(plan.codec, RunReader(store, head.run_id), lenient=True)
    results: dict[str, VisitResult] = {}
    for step in read_steps(store, head.run_id):
        if step.token in names:
            _record_tool_error(results, step)
        for event in step.patch.events:
            if event[2] in names:
                _record_result(results, step.patch, event)
    return {name: (values.decode(result.value), result.error) for name, result in results.items()}


def number_steps(path: RunPath) -> Iterator[tuple[PathStep, tuple[str, int]]]:
    """Yield the steps of a path in order, each with its visit and how many steps that visit had before."""
    counts: dict[str, int] = {}
    for step in path.steps:
        number = counts.get(step.token, 0)
        counts[step.token] = number + 1
        yield step, (step.token, number)
