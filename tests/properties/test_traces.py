"""The trace of a run agrees with its snapshots and its graph, on random graphs, orders and crashes."""

from __future__ import annotations

import asyncio
from collections import Counter

from effort import examples
from graph_specs import Spec, racy_specs, settled_specs
from graphs import build
from hypothesis import given
from hypothesis import strategies as st
from simulation import RUN_ID, Disk, Simulation, Tape, crashes, tapes

from beluga_graph.draw.picture import build_picture
from beluga_graph.kernel.shape import END, FRAME, JOIN, Shape
from beluga_graph.kernel.snapshot import COMPLETED
from beluga_graph.storage.loading import read_steps, rebuild
from beluga_graph.trace.edges import BEGIN
from beluga_graph.trace.trace import Trace
from beluga_graph.trace.visits import RUNNING

Crashes = list[tuple[int, bool]]


def traced(spec: Spec, tape: list[int], schedule: Crashes) -> tuple[Shape, Trace]:
    """Return the trace of a simulated run, checked against the snapshot after each step."""
    disk = Disk(schedule=list(schedule))
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape(tape), None)
    asyncio.run(simulation.whole(7))
    begun = rebuild(disk.store, RUN_ID, 0)
    trace = Trace(simulation.plan.shape, begun)
    light = Trace(simulation.plan.shape, rebuild(disk.store, RUN_ID, 0), keep=False)
    for step in read_steps(disk.store, RUN_ID):
        changed = trace.apply(step)
        assert light.apply(step) == changed
        assert light.edge_counts == trace.edge_counts
        assert all(light.summarize(node) == trace.summarize(node) for node in changed.nodes)
        open_visits = {visit.name for visit in trace.visits.values() if visit.ended_seq is None}
        assert open_visits == trace.run.tokens.keys() | trace.run.scopes.keys()
        assert light.visits.keys() == open_visits
        assert set(changed.visits) <= trace.visits.keys()
    return simulation.plan.shape, trace


@examples(150)
@given(st.one_of(settled_specs(), racy_specs()), tapes(), crashes())
def test_a_trace_counts_only_edges_of_the_graph_and_one_for_each_visit(
    spec: Spec, tape: list[int], schedule: Crashes
) -> None:
    shape, trace = traced(spec, tape, schedule)
    drawn = {line.edge for line in build_picture(shape).lines}
    assert {edge for edge in trace.edge_counts if edge not in drawn and edge[0] != edge[1]} == set()
    came: Counter[str] = Counter()
    for (_, target, _), count in trace.edge_counts.items():
        came[target] += count
    for node in shape.nodes.values():
        visits = trace.summarize(node.name).visits
        if node.kind == JOIN or (node.kind == FRAME and node.retry is not None):
            continue
        assert came[node.name] >= visits if node.kind == FRAME else came[node.name] == visits, node.name
    assert trace.edge_counts[BEGIN, shape.entry, ""] >= 1
    assert came[END] == (trace.run.status == COMPLETED)


@examples(100)
@given(st.one_of(settled_specs(), racy_specs()), tapes(), crashes())
def test_the_running_statistics_equal_those_over_all_visits(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    shape, trace = traced(spec, tape, schedule)
    for node in shape.nodes:
        visits_of_node = [visit for visit in trace.visits.values() if visit.node == node]
        stats = trace.summarize(node)
        assert stats.visits == len(visits_of_node)
        assert stats.attempts == sum(visit.attempts for visit in visits_of_node)
        assert stats.now == sum(visit.ended_seq is None for visit in visits_of_node)
        busy = sum(visit.busy_ms for visit in visits_of_node)
        running = [trace.at_ms - s.since_ms for s in visits_of_node if s.ended_seq is None and s.status == RUNNING]
        assert stats.busy_ms == busy + sum(running)
        if not stats.now and visits_of_node:
            assert stats.status in {visit.status for visit in visits_of_node}
    if trace.run.status == COMPLETED:
        assert all(visit.status in ("done", "failed", "dropped") for visit in trace.visits.values())
