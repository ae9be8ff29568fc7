"""What a drawing says of a run is what its steps did: the trail, on random graphs, orders and crashes."""

from __future__ import annotations

import asyncio
from collections import Counter

from effort import examples
from graphs import Spec, build, racy_specs, settled_specs
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


def walked(spec: Spec, tape: list[int], schedule: Crashes) -> tuple[Shape, Trace]:
    """Return the trail of a simulated run, checked against the snapshot after each step."""
    disk = Disk(schedule=list(schedule))
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape(tape), None)
    asyncio.run(simulation.whole(7))
    begun = rebuild(disk.store, RUN_ID, 0)
    trail = Trace(simulation.plan.shape, begun)
    light = Trace(simulation.plan.shape, rebuild(disk.store, RUN_ID, 0), keep=False)
    for step in read_steps(disk.store, RUN_ID):
        changed = trail.apply(step)
        assert light.apply(step) == changed
        assert light.edge_counts == trail.edge_counts
        assert all(light.summarize(node) == trail.summarize(node) for node in changed.nodes)
        standing = {span.name for span in trail.visits.values() if span.ended_seq is None}
        assert standing == trail.run.tokens.keys() | trail.run.scopes.keys()
        assert light.visits.keys() == standing
        assert set(changed.visits) <= trail.visits.keys()
    return simulation.plan.shape, trail


@examples(150)
@given(st.one_of(settled_specs(), racy_specs()), tapes(), crashes())
def test_a_trail_takes_only_edges_that_are_drawn_and_each_visit_comes_by_one(
    spec: Spec, tape: list[int], schedule: Crashes
) -> None:
    shape, trail = walked(spec, tape, schedule)
    drawn = {line.edge for line in build_picture(shape).lines}
    assert {edge for edge in trail.edge_counts if edge not in drawn and edge[0] != edge[1]} == set()
    came: Counter[str] = Counter()
    for (_, target, _), count in trail.edge_counts.items():
        came[target] += count
    for node in shape.nodes.values():
        visits = trail.summarize(node.name).visits
        if node.kind == JOIN or (node.kind == FRAME and node.retry is not None):
            continue
        assert came[node.name] >= visits if node.kind == FRAME else came[node.name] == visits, node.name
    assert trail.edge_counts[BEGIN, shape.entry, ""] >= 1
    assert came[END] == (trail.run.status == COMPLETED)


@examples(100)
@given(st.one_of(settled_specs(), racy_specs()), tapes(), crashes())
def test_the_sums_kept_step_by_step_are_those_over_all_visits(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    shape, trail = walked(spec, tape, schedule)
    for node in shape.nodes:
        spans = [span for span in trail.visits.values() if span.node == node]
        mark = trail.summarize(node)
        assert mark.visits == len(spans)
        assert mark.attempts == sum(span.attempts for span in spans)
        assert mark.now == sum(span.ended_seq is None for span in spans)
        busy = sum(span.busy_ms for span in spans)
        running = [trail.at_ms - s.since_ms for s in spans if s.ended_seq is None and s.status == RUNNING]
        assert mark.busy_ms == busy + sum(running)
        if not mark.now and spans:
            assert mark.status in {span.status for span in spans}
    if trail.run.status == COMPLETED:
        assert all(span.status in ("done", "failed", "dropped") for span in trail.visits.values())
