"""The walk of a run from its very start: its steps, and before a fork those of the run that it was forked from.

A fork's own history begins at the fork. What lies before is its source's, as long as the source is in the store.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from beluga_graph.errors import RunNotFound
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.kernel import ops
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
)
from beluga_graph.storage.records import RunRecord
from beluga_graph.trace.trace import Trace
from stores.base import Store

__all__ = ["BEGINS", "Fact", "Part", "Told", "Walk", "parts_of", "results_of", "walk_of"]

BEGINS, CHOOSES = "begins", "chooses"
_FORKED = "RunForked"
_UNTOLD = frozenset(("run_started", "waiting", "retry"))  # they say how a visit went on, not where it led


class Part(NamedTuple):
    """Steps of one run that belong to a walk: all, or those up to where the next part was forked."""

    run_id: str
    until: int | None


class Fact(NamedTuple):
    """One thing that a step did, told without its time."""

    run_id: str
    seq: int
    token: str
    node: str
    event: str
    """`begins`, `chooses` for a route, or the type of a stored event."""
    detail: str


@dataclass(slots=True)
class Told:
    """What a visit ended in, as far as it went: its output as it is stored, or its error."""

    value: Value | None = None
    error: str = ""


class Walk:
    """What a run did from its start: a fold over its steps, and over those before its fork."""

    def __init__(self, trail: Trace) -> None:
        self.trail = trail
        self.facts: list[Fact] = []
        self.told: dict[str, Told] = {}
        """By structural name of the visit, in the order in which they told something first."""
        self.begun_ms: int | None = None
        self.standing = frozenset(trail.visits)
        """What was under way before: tokens and scopes of a fork whose source is gone."""
        self._begun = set(trail.visits)
        self._gap_ms = 0  # between a source's step and its fork; it is nobody's time
        self.facts += [Fact(trail.run.run_id, 0, visit.name, visit.node, BEGINS, "") for visit in trail.visits.values()]

    @property
    def took_ms(self) -> int:
        """From the first step to the last; of a fork, without the time between its source's step and itself."""
        return 0 if self.begun_ms is None else self.trail.at_ms - self.begun_ms

    def step(self, run_id: str, step: StoredStep) -> None:
        """Take the next step; it is told as that of `run_id`."""
        if step.trigger == _FORKED and self.begun_ms is not None:
            self._gap_ms = step.at_ms - self.trail.at_ms
        self.trail.apply(replace(step, seq=self.trail.run.seq + 1, at_ms=step.at_ms - self._gap_ms))
        self.begun_ms = self.trail.at_ms if self.begun_ms is None else self.begun_ms
        if step.trigger == _FORKED:  # it does again what its source had under way
            return
        tell_failed(self.told, step)
        for event in step.patch.events:
            kind, node, token, more, _ = event
            tell(self.told, step.patch, event)
            if kind not in _UNTOLD:
                self.facts.append(Fact(run_id, step.seq, token, node, kind, _detail(more)))
        for op in step.patch.ops:
            if op[0] in (ops.PUT_TOKEN, ops.OPEN_SCOPE) and (name := ops.token_name(op)) not in self._begun:
                _, _, node, *_ = op
                self._begun.add(name)
                self.facts.append(Fact(run_id, step.seq, name, node, BEGINS, ""))
        # After what begins, which says more where it differs: a way back or out may begin nothing of its own.
        for kind, node, token, more, _ in step.patch.events:
            if kind == "node_finished" and more is not None and "route" in more:
                self.facts.append(Fact(run_id, step.seq, token, node, CHOOSES, repr(more["route"])))


def _detail(more: dict[str, Any] | None) -> str:
    """Return what tells one event from another of its type: a tool's name, a handoff's target, a signal's name."""
    return "" if more is None else str(more.get("target") or more.get("name") or more.get("failure") or "")


def tell(told: dict[str, Told], patch: Patch, event: EventFields) -> None:
    """Note what an event tells of how its visit ended."""
    kind, _, token, more, value = event
    if kind == "error" and more is not None:
        told[token] = Told(error=f"{more['failure']}: {more['message']}")
    elif kind == "retry" and more is not None:
        told[token] = Told(error=str(more["message"]))
    elif kind in ("node_finished", "tool_result", "signal", "timer", "done"):
        error = str(more.get("error") or "") if more is not None else ""
        told[token] = Told(value=None if value is None else patch.values[value], error=error)


def tell_failed(told: dict[str, Told], step: StoredStep) -> None:
    """Note the error of a tool that failed: no event tells it, for it goes to the agent as the call's result."""
    if step.trigger != "NodeFailed":
        return
    for op in step.patch.ops:
        if op[0] == ops.END_BRANCH:
            _, scope, branch, value, succeeded = op
            if not succeeded and step.token.startswith(f"{scope}[{branch}]/"):
                _, kind, message, *_ = step.patch.values[value]
                told[step.token] = Told(error=f"{kind}: {message}")


def parts_of(store: Store, run_id: str) -> tuple[list[Part], tuple[str, int] | None]:
    """Return the parts of a run's walk, the oldest first, and what the oldest was forked from if that is gone.

    A source is told by what it was at the fork: a run of its name that was started later is another.
    """
    parts = [Part(run_id, None)]
    while True:
        run_id = parts[0].run_id
        begins = next(iter(read_steps(store, run_id, until=1)), None)
        if begins is None or begins.trigger != _FORKED:
            return parts, None
        source, seq = begins.token, begins.attempt
        known = any(part.run_id == source for part in parts)
        if known or not _is_source(store, source, seq, run_id):
            return parts, (source, seq)
        parts.insert(0, Part(source, seq))


def _is_source(store: Store, source: str, seq: int, run_id: str) -> bool:
    try:
        if read_last_seq(store, source) < seq:
            return False
        was = rebuild(store, source, seq)
        begun = rebuild(store, run_id, 0)
    except RunNotFound:
        return False
    return (was.started_ms, was.input, list(was.tokens)) == (begun.started_ms, begun.input, list(begun.tokens))


def walk_of(store: Store, plan: Plan, parts: list[Part]) -> Walk:
    """Return the walk over some parts. Raises `RunNotFound`, `DamagedRecord`."""
    with detect_deletion(store, parts[0].run_id):
        begun = rebuild(store, parts[0].run_id, 0)
    with detect_contradictions(parts[-1].run_id):
        walk = Walk(Trace(plan.shape, begun))
        for part in parts:
            with detect_deletion(store, part.run_id):
                for step in read_steps(store, part.run_id, until=part.until):
                    walk.step(part.run_id, step)
    return walk


def results_of(store: Store, head: RunRecord, plan: Plan, names: Collection[str]) -> dict[str, tuple[Any, str]]:
    """Return what visits of a run ended in so far: output, decoded, and error. One that told nothing is missing."""
    values = StoredValues(plan.codec, RunReader(store, head.run_id), lenient=True)
    told: dict[str, Told] = {}
    for step in read_steps(store, head.run_id):
        if step.token in names:
            tell_failed(told, step)
        for event in step.patch.events:
            if event[2] in names:
                tell(told, step.patch, event)
    return {name: (values.decode(said.value), said.error) for name, said in told.items()}


def each_fact(walk: Walk) -> Iterator[tuple[Fact, tuple[str, int]]]:
    """Yield the facts in order, each with the visit that it is of and how many that visit had before."""
    counts: dict[str, int] = {}
    for fact in walk.facts:
        number = counts.get(fact.token, 0)
        counts[fact.token] = number + 1
        yield fact, (fact.token, number)
