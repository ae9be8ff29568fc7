"""The comparison of two runs: where their paths diverge, and how their results differ. It needs no code of the flow.

Visits are matched by structural name, which says where in the graph a visit was and which one of that node it was. The
order in which branches finished, times and the numbers of steps make no difference.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass
from decimal import Decimal
from enum import Enum
from itertools import islice, zip_longest
from math import isnan
from typing import Any

from beluga_graph.codec.values import Unregistered
from beluga_graph.events import Failure
from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.inspection.reading import read_snapshot
from beluga_graph.inspection.run_path import RunPath, Segment, find_segments, number_steps, read_path
from beluga_graph.inspection.views import RunSnapshot, RunStatus
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.loading import RunReader
from beluga_graph.storage.records import RunRecord
from stores.base import Store

__all__ = [
    "ABSENT",
    "ComparedNode",
    "ComparedRun",
    "ComparedValue",
    "Divergence",
    "RunComparison",
    "are_same",
    "compare_runs",
    "differences",
]


class Absent(Enum):
    """Placeholder for a part that only the other one of two values has."""

    absent = "absent"


ABSENT = Absent.absent


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One of two compared runs, as of its last step.

    Sums include the history before a fork as far as it is stored.

    Attributes:
        run_id: The run's id.
        flow: The name of its flow.
        plan: The fingerprint of its graph.
        status: Its status.
        seq: Its last step.
        steps: How many nodes have finished.
        took_ms: Milliseconds from the first step to the last, without the time between a forked step and the fork.
        busy_ms: Milliseconds in attempts, summed over nodes, some of which may have run at the same time.
        attempts: How many attempts of nodes were made.
        usage: Sums over the run that agents report.
        output: Its output, or `None`.
        failure: Its failure, or `None`.
        forked_from: The run and the step that it was forked from, or `None`.
        lost_before: The run and the step before which nothing is known, because that source is not stored any more.
    """

    run_id: str
    flow: str
    plan: str
    status: RunStatus
    seq: int
    steps: int
    took_ms: int
    busy_ms: int
    attempts: int
    usage: dict[str, int]
    output: Any
    failure: Failure | None
    forked_from: tuple[str, int] | None = None
    lost_before: tuple[str, int] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first thing that one run did and the other did not.

    Attributes:
        run_id: The run that did it; for a fork, this may be its source.
        seq: The step.
        token: The structural name of the visit.
        node: The path of the node.
        event: `begins`, `chooses` for a route, or the type of a stored event.
        detail: The name of a tool or signal, the target of a handoff, a route, or the type of a failure.
    """

    run_id: str
    seq: int
    token: str
    node: str
    event: str
    detail: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedNode:
    """The activity of one node in two runs.

    Attributes:
        node: The path of the node.
        visits: How often the first and the second run visited it.
        attempts: How many attempts each made.
        busy_ms: Milliseconds in its attempts, for each.
        usage: The usage that it reported, for each.
    """

    node: str
    visits: tuple[int, int]
    attempts: tuple[int, int]
    busy_ms: tuple[int, int]
    usage: tuple[dict[str, int], dict[str, int]]

    @property
    def differs(self) -> bool:
        """Whether anything but the time is different."""
        return any(pair[0] != pair[1] for pair in (self.visits, self.attempts, self.usage))


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedValue:
    """A value that differs between two runs: the output of a visit, or a field of the state.

    Attributes:
        name: The structural name of the visit, or the name of the field.
        node: The path of the node; empty for a field.
        values: The value in the first and in the second run.
        errors: The error of the visit in each run if it failed, or if its last attempt did.
        known: Whether the first and the second run have the field.
    """

    name: str
    node: str = ""
    values: tuple[Any, Any]
    errors: tuple[str, str] = ("", "")
    known: tuple[bool, bool] = (True, True)


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two runs side by side, as `Engine.compare` returns them.

    Attributes:
        first: The first run.
        second: The second run.
        shared_steps: How many steps are the history of both: those before a fork.
        divergences: For each run, where its path diverges from the other's; `None` for a run that did nothing which
            the other did not. Values are not considered.
        nodes: All nodes that either run has visited, in the order of the first run.
        outputs: Outputs of visits that both runs made and that differ.
        state: The fields of the state that differ.
        input_differs: Whether the inputs differ.
        output_differs: Whether the outputs of the runs differ.
    """

    first: ComparedRun
    second: ComparedRun
    shared_steps: int
    divergences: tuple[Divergence | None, Divergence | None]
    nodes: tuple[ComparedNode, ...]
    outputs: tuple[ComparedValue, ...]
    state: tuple[ComparedValue, ...]
    input_differs: bool
    output_differs: bool

    @property
    def same_flow(self) -> bool:
        """Whether both runs are of flows with the same name."""
        return self.first.flow == self.second.flow

    @property
    def same_plan(self) -> bool:
        """Whether both runs have the same graph."""
        return self.first.plan == self.second.plan

    @property
    def differs(self) -> bool:
        """Whether anything but times, ids and the fingerprints of the graphs is different."""
        return (
            self.divergences != (None, None)
            or self.first.status != self.second.status
            or bool(self.outputs or self.state or self.input_differs or self.output_differs)
            or any(node.differs for node in self.nodes)
        )


def compare_runs(store: Store, heads: tuple[RunRecord, RunRecord], plans: tuple[Plan, Plan]) -> RunComparison:
    """Compare two runs as of their last steps. Raises `RunNotFound`, `DamagedRecord`."""
    (first, first_lost), (second, second_lost) = (find_segments(store, head.run_id) for head in heads)
    paths = read_path(store, plans[0], first), read_path(store, plans[1], second)
    shown = read_snapshot(store, heads[0], plans[0], None), read_snapshot(store, heads[1], plans[1], None)
    sources = [segments[-2] if len(segments) > 1 else None for segments in (first, second)]
    return RunComparison(
        first=_compared_run(heads[0], paths[0], shown[0], sources[0] or first_lost, first_lost),
        second=_compared_run(heads[1], paths[1], shown[1], sources[1] or second_lost, second_lost),
        shared_steps=_count_shared_steps(first, second, shown[0].seq),
        divergences=(_find_divergence(paths[0], paths[1]), _find_divergence(paths[1], paths[0])),
        nodes=tuple(_compare_nodes(*paths)),
        outputs=tuple(_compare_outputs(store, paths, plans)),
        state=tuple(_compare_fields(shown[0].state, shown[1].state)),
        input_differs=not are_same(shown[0].input, shown[1].input),
        output_differs=not are_same(shown[0].output, shown[1].output),
    )


def _count_shared_steps(first: list[Segment], second: list[Segment], last_seq: int) -> int:
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one.run_id != other.run_id:
            break
        ends = [segment.until for segment in (one, other) if segment.until is not None]
        shared += min(ends) if ends else last_seq
        if one.until != other.until:
            break
    return shared


def _compared_run(
    head: RunRecord,
    path: RunPath,
    shown: RunSnapshot,
    source: tuple[str, int | None] | None,
    lost: tuple[str, int] | None,
) -> ComparedRun:
    opens = {visit.node for visit in path.trace.visits.values() if visit.opens}
    stats = {node: path.trace.summarize(node) for node in _visited_nodes(path)}
    return ComparedRun(
        run_id=head.run_id,
        flow=head.flow,
        plan=shown.plan,
        status=shown.status,
        seq=shown.seq,
        steps=shown.steps,
        took_ms=path.took_ms,
        busy_ms=sum(found.busy_ms for node, found in stats.items() if node not in opens),
        attempts=sum(found.attempts for found in stats.values()),
        usage=dict(path.trace.run.usage),
        output=shown.output,
        failure=shown.failure,
        forked_from=None if source is None else (source[0], source[1] or 0),
        lost_before=lost,
    )


def _visited_nodes(path: RunPath) -> dict[str, None]:
    return dict.fromkeys(visit.node for visit in path.trace.visits.values())


def _find_divergence(path: RunPath, other: RunPath) -> Divergence | None:
    """Return the first step of a path that the other path does not have."""
    others = {at: (step.event, step.detail) for step, at in number_steps(other)}
    for step, at in islice(number_steps(path), _find_comparable(path, other.initial), None):
        if others.get(at) != (step.event, step.detail):
            return Divergence(
                run_id=step.run_id,
                seq=step.seq,
                token=step.token,
                node=step.node,
                event=step.event,
                detail=step.detail,
            )
    return None


def _find_comparable(path: RunPath, initial: frozenset[str]) -> int:
    """Return the index of the first step that is comparable with a path that begins with these tokens and scopes."""
    missing = set(initial)
    for index, step in enumerate(path.steps):
        if not missing:
            return index
        missing.discard(step.token)
    return 0


def _compare_nodes(first: RunPath, second: RunPath) -> Iterator[ComparedNode]:
    for node in {**_visited_nodes(first), **_visited_nodes(second)}:
        one, other = first.trace.summarize(node), second.trace.summarize(node)
        yield ComparedNode(
            node=node,
            visits=(one.visits, other.visits),
            attempts=(one.attempts, other.attempts),
            busy_ms=(one.busy_ms, other.busy_ms),
            usage=(one.usage, other.usage),
        )


def _compare_outputs(store: Store, paths: tuple[RunPath, RunPath], plans: tuple[Plan, Plan]) -> Iterator[ComparedValue]:
    first, second = paths
    reader = RunReader(store, first.trace.run.run_id)  # reads large values of both: their key is a digest
    decode = [StoredValues(plan.codec, reader, lenient=True).decode for plan in plans]
    for name, mine in first.results.items():
        other = second.results.get(name)
        if not name or other is None or (mine.value, mine.error) == (other.value, other.error):
            continue
        values = decode[0](mine.value), decode[1](other.value)
        if mine.error != other.error or not are_same(*values):
            node = first.trace.visits[name].node if name in first.trace.visits else ""
            yield ComparedValue(name=name, node=node, values=values, errors=(mine.error, other.error))


def _compare_fields(first: dict[str, Any], second: dict[str, Any]) -> Iterator[ComparedValue]:
    for field in {**first, **second}:
        known = field in first, field in second
        values = first.get(field), second.get(field)
        if known != (True, True) or not are_same(*values):
            yield ComparedValue(name=field, values=values, known=known)


def are_same(one: Any, other: Any) -> bool:
    """Return whether two decoded values are equal, types too: `1`, `1.0` and `True` differ. NaN equals itself."""
    return next(differences(one, other), None) is None


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two decoded values differ, as in `.rows[3]["name"]`, and the part of each there, or `ABSENT`."""
    todo = [(path, one, other)]  # not by recursion: values may nest deeper than Python's calls can
    while todo:
        path, one, other = todo.pop()
        children = _children(path, one, other) if type(one) is type(other) else None
        if children is not None:
            todo.extend(reversed(children))
        elif type(one) is not type(other) or _form(one) != _form(other):
            yield path, one, other


def _children(path: str, one: Any, other: Any) -> list[tuple[str, Any, Any]] | None:
    """Return the parts of two values of one type, side by side; `None` if they have no parts to compare."""
    if isinstance(one, dict):
        pairs = {_form(key): (key, value) for key, value in one.items()}
        others = {_form(key): (key, value) for key, value in other.items()}
        both = [(pairs.get(form), others.get(form)) for form in {**pairs, **others}]
        return [
            (
                f"{path}[{_key((mine or theirs or (None,))[0])}]",
                mine[1] if mine else ABSENT,
                theirs[1] if theirs else ABSENT,
            )
            for mine, theirs in both
        ]
    if isinstance(one, list | tuple):
        found = enumerate(zip_longest(one, other, fillvalue=ABSENT))
        return [(f"{path}[{index}]", mine, theirs) for index, (mine, theirs) in found]
    if isinstance(one, Unregistered):
        if one.name != other.name:
            return None
        names = [*{**one.fields, **other.fields}]
        return [(f"{path}.{name}", one.fields.get(name, ABSENT), other.fields.get(name, ABSENT)) for name in names]
    if names := _fields_of(one):
        return [(f"{path}.{name}", getattr(one, name, ABSENT), getattr(other, name, ABSENT)) for name in names]
    return None


def _form(value: Any) -> Any:
    """Return a key that two values share if and only if they are equal, types too; NaN equals itself.

    `==` will not do: it may raise (a signaling NaN, a user's class), and it denies that NaN equals itself.
    """
    cls = type(value)
    if isinstance(value, Decimal):
        return cls, str(value) if value.is_nan() else value
    if isinstance(value, float):
        return cls, "nan" if isnan(value) else value
    if isinstance(value, dict):
        return cls, frozenset((_form(key), _form(part)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return cls, tuple(_form(part) for part in value)
    if isinstance(value, set | frozenset):
        return cls, frozenset(_form(part) for part in value)
    if isinstance(value, Enum):
        return cls, value.name, _form(value.value)
    if isinstance(value, Unregistered):
        return cls, value.name, _form(value.fields)
    if names := _fields_of(value):
        return cls, tuple(_form(getattr(value, name, ABSENT)) for name in names)
    return cls, value


def _key(key: Any) -> str:
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else f"{key!r:.80}"


def _fields_of(value: Any) -> list[str]:
    if (names := getattr(type(value), "__pydantic_fields__", None)) is not None:
        return list(names)
    return [field.name for field in fields(value)] if is_dataclass(value) and not isinstance(value, type) else []
