"""The difference of two runs: where their paths part, and what came of each. Needs none of the flow's code.

A visit is known by its structural name, which says where in the graph it was and which time: the order in which
branches happened to finish, times and steps' numbers make no difference.
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
from beluga_graph.inspection.reading import snapshot_of
from beluga_graph.inspection.run_path import Walk, each_fact, parts_of, walk_of
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
    "apart",
    "comparison_of",
    "same",
]


class Absent(Enum):
    """What stands for a part that one of two values has not."""

    absent = "absent"


ABSENT = Absent.absent


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRun:
    """One of two runs that are compared, as of its last step. Sums include what lies before a fork, if known."""

    run_id: str
    flow: str
    plan: str
    """The graph's fingerprint."""
    status: RunStatus
    seq: int
    """Its last step."""
    steps: int
    """Finished nodes."""
    took_ms: int
    """From the first step to the last; the time between a source's step and its fork does not count."""
    busy_ms: int
    """In attempts, summed over nodes that may have run at once."""
    attempts: int
    usage: dict[str, int]
    output: Any
    failure: Failure | None
    forked_from: tuple[str, int] | None = None
    """Run and step."""
    lost_before: tuple[str, int] | None = None
    """The run and step before which nothing is known, for that source is not in the store any more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Divergence:
    """The first thing that one run did and the other did not."""

    run_id: str
    """Whose step it is: of a fork it may be its source's."""
    seq: int
    token: str
    node: str
    event: str
    """`begins`, `chooses` for a route, or the type of a stored event."""
    detail: str = ""
    """A tool's or a signal's name, a handoff's target, a route, the type of a failure."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedNode:
    """What a node did in the first run and in the second."""

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
    """A value that is not the same in both runs: the output of a visit, or a field of the state."""

    name: str
    """Structural name of the visit, or name of the field."""
    node: str = ""
    values: tuple[Any, Any]
    errors: tuple[str, str] = ("", "")
    """Of a visit that failed, or whose last attempt did."""
    known: tuple[bool, bool] = (True, True)
    """Which of them has the field."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunComparison:
    """Two runs beside each other."""

    first: ComparedRun
    second: ComparedRun
    shared_steps: int
    """Steps that are the history of both: those before a fork."""
    parts: tuple[Divergence | None, Divergence | None]
    """Where the paths part: `None` for a run that did nothing which the other did not. Values are no matter here."""
    nodes: tuple[ComparedNode, ...]
    """Of all nodes that either came to, in the order of the first run."""
    outputs: tuple[ComparedValue, ...]
    """Of visits that both made and that ended otherwise."""
    state: tuple[ComparedValue, ...]
    input_differs: bool
    output_differs: bool

    @property
    def same_flow(self) -> bool:
        """Whether they are runs of flows of one name."""
        return self.first.flow == self.second.flow

    @property
    def same_plan(self) -> bool:
        """Whether they stand in the same graph."""
        return self.first.plan == self.second.plan

    @property
    def differs(self) -> bool:
        """Whether anything is different but times, ids and the graphs' fingerprints."""
        return (
            self.parts != (None, None)
            or self.first.status != self.second.status
            or bool(self.outputs or self.state or self.input_differs or self.output_differs)
            or any(node.differs for node in self.nodes)
        )


def comparison_of(store: Store, heads: tuple[RunRecord, RunRecord], plans: tuple[Plan, Plan]) -> RunComparison:
    """Compare two runs as of their last steps. Raises `RunNotFound`, `DamagedRecord`."""
    (first, first_lost), (second, second_lost) = (parts_of(store, head.run_id) for head in heads)
    walks = walk_of(store, plans[0], first), walk_of(store, plans[1], second)
    shown = snapshot_of(store, heads[0], plans[0], None), snapshot_of(store, heads[1], plans[1], None)
    shared = 0
    for one, other in zip(first, second, strict=False):
        if one.run_id != other.run_id:
            break
        ends = [part.until for part in (one, other) if part.until is not None]
        shared += min(ends) if ends else shown[0].seq
        if one.until != other.until:
            break
    sources = [parts[-2] if len(parts) > 1 else None for parts in (first, second)]
    return RunComparison(
        first=_run(heads[0], walks[0], shown[0], sources[0] or first_lost, first_lost),
        second=_run(heads[1], walks[1], shown[1], sources[1] or second_lost, second_lost),
        shared_steps=shared,
        parts=(_parting(walks[0], walks[1]), _parting(walks[1], walks[0])),
        nodes=tuple(_nodes(*walks)),
        outputs=tuple(_outputs(store, walks, plans)),
        state=tuple(_fields(shown[0].state, shown[1].state)),
        input_differs=not same(shown[0].input, shown[1].input),
        output_differs=not same(shown[0].output, shown[1].output),
    )


def _run(
    head: RunRecord, walk: Walk, shown: RunSnapshot, source: tuple[str, int | None] | None, lost: tuple[str, int] | None
) -> ComparedRun:
    marks = [walk.trail.summarize(node) for node in _reached(walk)]
    opens = {span.node for span in walk.trail.visits.values() if span.opens}
    busy = [walk.trail.summarize(node).busy_ms for node in _reached(walk) if node not in opens]
    return ComparedRun(
        run_id=head.run_id,
        flow=head.flow,
        plan=shown.plan,
        status=shown.status,
        seq=shown.seq,
        steps=shown.steps,
        took_ms=walk.took_ms,
        busy_ms=sum(busy),
        attempts=sum(mark.attempts for mark in marks),
        usage=dict(walk.trail.run.usage),
        output=shown.output,
        failure=shown.failure,
        forked_from=None if source is None else (source[0], source[1] or 0),
        lost_before=lost,
    )


def _reached(walk: Walk) -> dict[str, None]:
    return dict.fromkeys(span.node for span in walk.trail.visits.values())


def _parting(walk: Walk, other: Walk) -> Divergence | None:
    there = {at: (fact.event, fact.detail) for fact, at in each_fact(other)}
    for fact, at in islice(each_fact(walk), _since(walk, other.standing), None):
        if there.get(at) != (fact.event, fact.detail):
            return Divergence(
                run_id=fact.run_id,
                seq=fact.seq,
                token=fact.token,
                node=fact.node,
                event=fact.event,
                detail=fact.detail,
            )
    return None


def _since(walk: Walk, standing: frozenset[str]) -> int:
    """Return the fact from which on a walk is comparable with one that begins with these tokens and scopes."""
    missing = set(standing)
    for index, fact in enumerate(walk.facts):
        if not missing:
            return index
        missing.discard(fact.token)
    return 0


def _nodes(first: Walk, second: Walk) -> Iterator[ComparedNode]:
    for node in {**_reached(first), **_reached(second)}:
        one, other = first.trail.summarize(node), second.trail.summarize(node)
        yield ComparedNode(
            node=node,
            visits=(one.visits, other.visits),
            attempts=(one.attempts, other.attempts),
            busy_ms=(one.busy_ms, other.busy_ms),
            usage=(one.usage, other.usage),
        )


def _outputs(store: Store, walks: tuple[Walk, Walk], plans: tuple[Plan, Plan]) -> Iterator[ComparedValue]:
    reader = RunReader(store, walks[0].trail.run.run_id)  # reads large values of both: their key is a digest
    decode = [StoredValues(plan.codec, reader, lenient=True).decode for plan in plans]
    for name, told in walks[0].told.items():
        said = walks[1].told.get(name)
        if not name or said is None or (told.value, told.error) == (said.value, said.error):
            continue
        values = decode[0](told.value), decode[1](said.value)
        if told.error != said.error or not same(*values):
            node = walks[0].trail.visits[name].node if name in walks[0].trail.visits else ""
            yield ComparedValue(name=name, node=node, values=values, errors=(told.error, said.error))


def _fields(first: dict[str, Any], second: dict[str, Any]) -> Iterator[ComparedValue]:
    for field in {**first, **second}:
        known = field in first, field in second
        values = first.get(field), second.get(field)
        if known != (True, True) or not same(*values):
            yield ComparedValue(name=field, values=values, known=known)


def same(one: Any, other: Any) -> bool:
    """Tell whether two decoded values are equal, types too: `1`, `1.0` and `True` are three. NaN equals itself."""
    return next(apart(one, other), None) is None


def apart(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two decoded values are apart, as in `.rows[3]["name"]`, and what each has there or `ABSENT`."""
    todo = [(path, one, other)]  # not by recursion: values nest deeper than Python's calls
    while todo:
        path, one, other = todo.pop()
        inside = _inside(path, one, other) if type(one) is type(other) else None
        if inside is not None:
            todo.extend(reversed(inside))
        elif type(one) is not type(other) or _form(one) != _form(other):
            yield path, one, other


def _inside(path: str, one: Any, other: Any) -> list[tuple[str, Any, Any]] | None:
    """Return the parts of two values of one type, side by side; `None` if they have none to compare one by one."""
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
    """Return what two values have in common if they are equal, and only then: types too, and NaN is equal to NaN.

    `==` may raise (a signaling NaN, a user's class), and say that a value is not itself.
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
