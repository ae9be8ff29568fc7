"""Compares two runs. It needs no code of the flow.

Visits are matched by structural name, which says where in the graph a visit was and which one of that node it was. The
order in which branches finished, times and the numbers of steps make no difference.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import Any

from beluga_graph.execution.stored_values import StoredValues
from beluga_graph.inspection.comparison import ComparedNode, ComparedRun, ComparedValue, Divergence, RunComparison
from beluga_graph.inspection.differences import are_same
from beluga_graph.inspection.reading import read_snapshot
from beluga_graph.inspection.run_path import RunPath, Segment, find_segments, number_steps, read_path
from beluga_graph.inspection.views import RunSnapshot
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.loading import RunReader
from beluga_graph.storage.records import RunRecord
from stores.base import Store

__all__ = ["compare_runs"]


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
