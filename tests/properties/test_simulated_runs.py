"""Properties of the simulated kernel: they hold for every graph, every order of completion and every crash.

Each property is tried on random graphs. `settled` graphs have no race, so their outcome must always be the same. In
`racy` graphs timing decides, and its decisions must never change.
"""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from effort import examples
from graph_specs import Spec, racy_specs, settled_specs
from graphs import build
from hypothesis import given
from hypothesis import strategies as st
from simulation import (
    RUN_ID,
    Disk,
    Observation,
    Observer,
    Simulation,
    Tape,
    count_of,
    crashes,
    outcome_of,
    steps_digest,
    tapes,
)

from beluga_graph.codec import seal, unseal
from beluga_graph.kernel.listener_list import list_listeners
from beluga_graph.kernel.ops import SET_CONSUMED
from beluga_graph.kernel.rules import is_answer, signal_of
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.tokens import AT_WAIT, CANCELLED, COMPLETED, FAILED, FAILED_TOKEN, RUN
from beluga_graph.kernel.transition import EMPTY_PATCH, advance
from beluga_graph.kernel.triggers import (
    ArmTimer,
    AwaitInterrupt,
    CancelRequested,
    NodeFailed,
    NodeFinished,
    RunResumed,
    RunStarted,
    SignalReceived,
    TimerFired,
    Trigger,
    Work,
)
from beluga_graph.kernel.work import WorkChange, list_work
from beluga_graph.storage import run_log as history
from beluga_graph.storage.loading import read_steps, rebuild
from beluga_graph.storage.records import decode_record

Crashes = list[tuple[int, bool]]
INPUT = 7


def simulated(
    spec: Spec, tape: list[int], schedule: Crashes | None = None, observer: Observer | None = None
) -> Simulation:
    """Walk a graph to its end, with an observer of each step; return the simulation."""
    disk = Disk(schedule=list(schedule or ()))
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape(tape), observer)
    asyncio.run(simulation.whole(INPUT))
    return simulation


# Promise 3.


@examples(240)
@given(settled_specs(), tapes(), crashes())
def test_the_observable_outcome_of_a_run_depends_on_neither_order_nor_crashes(
    spec: Spec, tape: list[int], schedule: Crashes
) -> None:
    plain = simulated(spec, [])
    troubled = simulated(spec, tape, schedule)
    assert outcome_of(troubled.plan, troubled.disk.store) == outcome_of(plain.plan, plain.disk.store)


@examples(120)
@given(racy_specs(), tapes(), crashes())
def test_a_decision_of_timing_is_never_made_again(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    simulation = simulated(spec, tape, schedule)
    steps = list(read_steps(simulation.disk.store, RUN_ID))
    for prefix in simulation.prefixes:
        assert steps[: len(prefix)] == prefix
    replayed = rebuild(simulation.disk.store, RUN_ID, 0)
    for step in steps:
        replayed.apply(step.patch)
    assert replayed.to_plain() == simulation.run.to_plain()


# Promises 1 and 2.


@examples(120)
@given(racy_specs(), tapes(), crashes())
def test_a_committed_node_never_runs_again(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    disk = simulated(spec, tape, schedule).disk
    assert disk.again == []


@examples(120)
@given(racy_specs(), tapes(), crashes())
def test_an_attempt_is_made_again_only_because_of_a_crash(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    disk = simulated(spec, tape, schedule).disk
    assert max(Counter(disk.executions).values(), default=1) == 1, "twice in one life"
    for key, attempt in disk.over:
        assert count_of(disk.executions)[f"{RUN_ID}:{key}", attempt] <= 1 + disk.lives


@examples(80)
@given(racy_specs(), tapes())
def test_without_crashes_every_attempt_is_made_once(spec: Spec, tape: list[int]) -> None:
    disk = simulated(spec, tape).disk
    assert set(count_of(disk.executions).values()) <= {1}


# The index.


@examples(120)
@given(racy_specs(), tapes(), crashes())
def test_the_questions_on_disk_are_the_open_ones(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    def observe(step: Observation) -> None:
        run, store = step.simulation.run, step.simulation.disk.store
        asking = {} if run.ended else {t.name: t for t in run.tokens.values() if is_answer(_waits_for(run, t.name))}
        found = {decode_record(key, blob)[0]: decode_record(key, blob)[1:] for key, blob in store.scan(b"B")}
        assert {name: (node, value) for name, (node, _, value) in found.items()} == {
            name: (token.node, token.value) for name, token in asking.items()
        }

    simulated(spec, tape, schedule, observe)


def _waits_for(run: Snapshot, token: str) -> str | None:
    return next((signal for signal, tokens in run.waits.items() if token in tokens and is_answer(signal)), None)


# The kernel's own laws.


@examples(100)
@given(racy_specs(), tapes(), crashes())
def test_a_stale_trigger_changes_nothing(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    past: list[Trigger] = []

    def check(seen: Observation) -> None:
        if isinstance(seen.trigger, NodeFinished | NodeFailed | TimerFired | SignalReceived | RunStarted):
            past.append(seen.trigger)
        run = seen.simulation.run
        for trigger in past:
            assert advance(seen.simulation.plan.shape, run, trigger) == EMPTY_PATCH

    simulated(spec, tape, schedule, check)


@examples(80)
@given(racy_specs(), tapes(), crashes())
def test_a_snapshot_is_restored_from_its_record(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    def check(seen: Observation) -> None:
        plain = seen.simulation.run.to_plain()
        back = Snapshot.from_plain(unseal(ord("N"), seal(ord("N"), plain)))
        assert back.to_plain() == plain
        assert [type(token) for token in back.tokens.values()] == [
            type(token) for token in seen.simulation.run.tokens.values()
        ]

    simulated(spec, tape, schedule, check)


@pytest.mark.parametrize("snapshot_steps", [1, 5, 64])
def test_the_snapshot_in_memory_equals_the_stored_one_after_every_step_and_never_changes(
    monkeypatch: pytest.MonkeyPatch, snapshot_steps: int
) -> None:
    monkeypatch.setattr(history, "SNAPSHOT_STEPS", snapshot_steps)

    @examples(50)
    @given(racy_specs(), tapes(), crashes())
    def holds(spec: Spec, tape: list[int], schedule: Crashes) -> None:
        known: dict[int, Any] = {}

        def check(seen: Observation) -> None:
            run = seen.simulation.run
            rebuilt = rebuild(seen.simulation.disk.store, RUN_ID)
            known[run.seq] = plain = _copied(run)
            assert _copied(rebuilt) == plain

        simulation = simulated(spec, tape, schedule, check)
        for seq, plain in known.items():
            assert _copied(rebuild(simulation.disk.store, RUN_ID, seq)) == plain

    holds()


def _copied(run: Snapshot) -> str:
    return repr(run.to_plain())  # order of every dict included


@examples(120)
@given(racy_specs(), tapes(), crashes())
def test_work_after_a_patch_is_work_before_less_ended_work_plus_new_work(
    spec: Spec, tape: list[int], schedule: Crashes
) -> None:
    def check(seen: Observation) -> None:
        change = seen.change
        kept = [item for item in seen.before if not change.whole and not _is_over(item, change)]
        now = list_work(seen.simulation.plan.shape, seen.simulation.run)
        assert Counter([*kept, *change.new]) == Counter(now)

    simulated(spec, tape, schedule, check)


@examples(120)
@given(racy_specs(), tapes(), crashes())
def test_everything_in_a_snapshot_is_accounted_for(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    def check(seen: Observation) -> None:
        _account(seen.simulation.plan.shape, seen.simulation.run)

    run = simulated(spec, tape, schedule, check).run
    assert run.status in (COMPLETED, FAILED)
    if run.status == COMPLETED:
        assert (run.tokens, run.scopes, run.timers, run.waits, list(run.places)) == ({}, {}, {}, {}, [""])


def _is_over(item: Work, change: WorkChange) -> bool:
    if isinstance(item, ArmTimer):
        return item.timer in change.timers
    if isinstance(item, AwaitInterrupt):
        return (item.signal, item.listener) in change.listeners
    return item.token in change.tokens


def _account(shape: Shape, run: Snapshot) -> None:
    assert run.active == sum(token.state == RUN for token in run.tokens.values())
    for timer in run.timers:
        owner = timer[2:]
        assert owner in (run.tokens if timer.startswith("t:") else {**run.scopes, "": None})
    waiting = [(signal_of(shape.nodes[t.node], t.name), t.name) for t in run.tokens.values() if t.state == AT_WAIT]
    listening = [] if run.ended else list_listeners(shape, run)
    waits = [(signal, name) for signal, names in run.waits.items() for name in names]
    assert Counter(waits) == Counter([*waiting, *listening])
    assert all(run.waits.values())
    for name, token in run.tokens.items():
        assert run.places[token.place].token == name
    for name, scope in run.scopes.items():
        assert run.places[scope.place].opened == name
        assert not scope.results.keys() & scope.failures.keys()
        assert list(scope.queue) == list(range(scope.width - len(scope.queue), scope.width))
        for branch in scope.queue:
            assert f"{name}[{branch}]/" not in run.places
    for name, place in run.places.items():
        assert place.token is None or place.token in run.tokens
        assert place.opened is None or place.opened in run.scopes
        if place.scope is None:
            assert name == ""
        else:
            assert name == f"{place.scope}[{place.branch}]/"
            assert place.branch < run.scopes[place.scope].width


@examples(160)
@given(racy_specs(), tapes(), crashes())
def test_each_accepted_signal_is_delivered_once_and_in_order(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    simulation = simulated(spec, tape, schedule)
    served: dict[str, list[int]] = {}
    for step in read_steps(simulation.disk.store, RUN_ID):
        for op in step.patch.ops:
            if op[0] == SET_CONSUMED:
                _, signal, count = op
                served.setdefault(signal, []).append(count)
    for signal, counts in served.items():
        assert counts == list(range(1, len(counts) + 1))
        assert len(counts) == simulation.run.inbox[signal] <= simulation.disk.accepted[signal]


@examples(80)
@given(racy_specs(), tapes(), crashes())
def test_a_signal_is_unread_only_if_nothing_listens_to_it(spec: Spec, tape: list[int], schedule: Crashes) -> None:
    simulation = simulated(spec, tape, schedule)
    run, accepted = simulation.run, simulation.disk.accepted
    if run.status != FAILED:
        assert not [signal for signal in run.waits if accepted.get(signal, 0) > run.inbox.get(signal, 0)]


# Endings.


@examples(100)
@given(racy_specs(), tapes(), crashes(), st.integers(0, 30))
def test_a_cancelled_run_stays_cancelled_and_does_nothing_more(
    spec: Spec, tape: list[int], schedule: Crashes, steps: int
) -> None:
    disk = Disk(schedule=list(schedule))
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape(tape))
    simulation.stopped = lambda simulation: simulation.run.seq > steps
    asyncio.run(simulation.whole(INPUT))
    disk.schedule = []
    held = [ended for ended in simulation.todo.values() if ended is not None]
    ended = simulation.run.status == COMPLETED
    assert simulation.decide(CancelRequested(simulation.time)) is not ended
    assert simulation.run.status == (COMPLETED if ended else CANCELLED)
    late = [CancelRequested(5), RunResumed(5), *(one.trigger for one in held)]
    late += [TimerFired(timer, due, due) for timer, due in simulation.run.timers.items()]
    for trigger in late:
        assert simulation.decide(trigger) is False
    assert simulation.rebuild()
    assert simulation.todo == {}
    made = len(disk.executions)
    asyncio.run(simulation.go())
    assert len(disk.executions) == made


@examples(160)
@given(racy_specs(), tapes(), crashes())
def test_a_resume_repeats_only_failed_and_stopped_nodes_under_the_same_key(
    spec: Spec, tape: list[int], schedule: Crashes
) -> None:
    simulation = simulated(spec, tape, schedule)
    disk = simulation.disk
    disk.schedule = []
    for _ in range(300):
        if simulation.run.status != FAILED or _cannot_mend(simulation.run):
            break
        broken = {token.name: token for token in simulation.run.tokens.values() if token.state == FAILED_TOKEN}
        finished = set(disk.finished)
        assert simulation.rebuild()
        simulation.decide(RunResumed(simulation.time))
        for name, token in broken.items():
            armed = simulation.run.tokens.get(name)
            assert armed is None or armed.attempt == token.attempt + 1
        asyncio.run(simulation.go())
        assert disk.again == []
        assert finished <= disk.finished
    assert simulation.run.status == COMPLETED or _cannot_mend(simulation.run)


def _cannot_mend(run: Snapshot) -> bool:
    """Return whether a resume may not help: a join has too few items, or a time runs out again and again."""
    if run.error is not None and run.error[1] in ("Timeout", "SignalTimeout"):
        return True
    return run.error is not None and run.error[1] == "JoinUnreachable" and "it has" in run.error[2]


# Purity.


def test_advance_decides_the_same_in_every_process() -> None:
    digests = Path(__file__).with_name("steps_digest.py")

    @examples(2)
    @given(st.lists(st.tuples(racy_specs(), tapes(), crashes()), min_size=8, max_size=12))
    def holds(cases: list[tuple[Spec, list[int], Crashes]]) -> None:
        here = [steps_digest(*case, build=build) for case in cases]
        for seed in ("1", "2"):
            child = subprocess.run(
                [sys.executable, str(digests)],
                input="\n".join(repr(case) for case in cases),
                env={**os.environ, "PYTHONHASHSEED": seed},
                capture_output=True,
                text=True,
                check=True,
            )
            assert child.stdout.split() == here

    holds()
