"""Properties of the real engine, for every order in which bodies end and every power failure."""

from __future__ import annotations

import asyncio

from effort import examples
from graph_specs import Spec, racy_specs, settled_specs
from graphs import build
from hypothesis import given
from hypothesis import strategies as st
from outages import Machine
from simulation import RUN_ID, Disk, Simulation, Tape, crashes, outcome_of, tapes

from beluga_graph import Run
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED
from beluga_graph.storage.loading import read_steps
from stores.base import Durability

Crashes = list[tuple[int, bool]]


def durabilities() -> st.SearchStrategy[Durability]:
    return st.sampled_from(["commit", "commit", "none", "batch"])


@examples(120)
@given(settled_specs(), tapes(), crashes(), durabilities())
def test_the_engine_stores_the_same_as_the_simulation(
    spec: Spec, tape: list[int], schedule: Crashes, durability: Durability
) -> None:
    disk = Disk()
    plan = build(spec, disk.probe).plan()
    asyncio.run(Simulation(plan, disk, Tape()).whole(7))
    machine = Machine(spec, Disk(schedule=list(schedule)), Tape(tape), durability)
    asyncio.run(machine.whole())
    assert outcome_of(plan, machine.disk.store) == outcome_of(plan, disk.store)


@examples(120)
@given(racy_specs(), tapes(), crashes(), durabilities())
def test_the_engine_never_repeats_a_committed_node_or_a_decision(
    spec: Spec, tape: list[int], schedule: Crashes, durability: Durability
) -> None:
    machine = Machine(spec, Disk(schedule=list(schedule)), Tape(tape), durability)
    status = asyncio.run(machine.whole())
    assert status in (COMPLETED, FAILED)
    assert machine.disk.again == []
    steps = list(read_steps(machine.disk.store, RUN_ID))
    for prefix in machine.prefixes:
        assert steps[: len(prefix)] == prefix


@examples(120)
@given(racy_specs(), tapes(), crashes(), durabilities(), st.booleans())
def test_signals_and_cancels_that_arrive_while_nodes_run_leave_no_gap_in_the_steps(
    spec: Spec, tape: list[int], schedule: Crashes, durability: Durability, cancels: bool
) -> None:
    machine = Machine(spec, Disk(schedule=list(schedule)), Tape(tape), durability, early=True)
    asyncio.run(machine.whole(Run.cancel if cancels else None))
    assert machine.disk.again == []
    steps = list(read_steps(machine.disk.store, RUN_ID))
    assert [step.seq for step in steps] == list(range(1, len(steps) + 1))
    for prefix in machine.prefixes:
        assert steps[: len(prefix)] == prefix


@examples(80)
@given(racy_specs(), tapes(), crashes(), durabilities())
def test_a_cancelled_run_stays_cancelled_whatever_happens(
    spec: Spec, tape: list[int], schedule: Crashes, durability: Durability
) -> None:
    machine = Machine(spec, Disk(schedule=list(schedule)), Tape(tape), durability)
    said: list[str] = []

    async def cancel(run: Run) -> None:
        said.append(await run.cancel())
        said.append(await run.cancel())

    status = asyncio.run(machine.whole(cancel))
    if not said:
        return
    made = len(machine.disk.executions)
    again = asyncio.run(machine.whole())
    assert {*said, status, again} in ({CANCELLED}, {COMPLETED})
    assert len(machine.disk.executions) == made


@examples(80)
@given(settled_specs(), tapes(), crashes())
def test_a_failed_run_that_is_started_again_repeats_no_finished_branch(
    spec: Spec, tape: list[int], schedule: Crashes
) -> None:
    machine = Machine(spec, Disk(schedule=list(schedule)), Tape(tape))
    for _ in range(200):
        finished = set(machine.disk.finished)
        status = asyncio.run(machine.whole())
        assert machine.disk.again == []
        assert finished <= machine.disk.finished
        if status == COMPLETED:
            break
    assert status == COMPLETED
