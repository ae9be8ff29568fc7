"""The triggers that an explanation names would move the run, and no others would: for every graph, order and crash."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from effort import examples
from graph_specs import Spec, racy_specs
from graphs import build
from hypothesis import given
from simulation import Disk, Observation, Simulation, Tape, crashes, tapes

from beluga_graph.inspection.commands import PythonCalls
from beluga_graph.inspection.entered import Entered
from beluga_graph.inspection.explanation import Circumstances, Driving, explain
from beluga_graph.inspection.why import Why
from beluga_graph.kernel.rules import answer_signal
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import FAILED, Snapshot
from beluga_graph.kernel.structural_names import TOKEN_TIMER, split_timer
from beluga_graph.kernel.transition import EMPTY_PATCH, advance
from beluga_graph.kernel.triggers import NodeFailed, RunResumed, SignalReceived, TimerFired, Trigger

INPUT = 7


def why_of(shape: Shape, run: Snapshot, now_ms: int, unread: Mapping[str, int]) -> Why:
    around = Circumstances(
        now_ms=now_ms,
        changed_ms=run.started_ms,
        unread=unread,
        entered={name: Entered(run.started_ms, "") for name in run.tokens},
        driving=Driving(place="here"),
        commands=PythonCalls(),
    )
    return explain(shape, run, around)


def check(shape: Shape, run: Snapshot, now_ms: int, unread: Mapping[str, int]) -> None:
    why = why_of(shape, run, now_ms, unread)
    assert str(why)
    named = {kind: [each for each in why.triggers if each.kind == kind] for kind in ("signal", "answer", "time")}
    signals = {each.signal for each in named["signal"]} | {answer_signal(each.question) for each in named["answer"]}
    times = {each.due_ms for each in named["time"]}
    is_drive_named = any(each.kind == "drive" for each in why.triggers)
    would_drive = False

    def moves(trigger: Trigger) -> bool:
        return advance(shape, run, trigger) != EMPTY_PATCH

    known = {node.signal or "" for node in shape.nodes.values()} | {answer_signal(token) for token in run.tokens}
    for signal in sorted(known | set(run.waits)):
        is_moved = moves(SignalReceived(signal, run.inbox.get(signal, 0), b"", now_ms))
        has_arrived = unread.get(signal, 0)
        would_drive |= is_moved and has_arrived > 0
        assert (signal in signals) == (is_moved and not has_arrived), signal
    for timer, due in run.timers.items():
        is_moved = moves(TimerFired(timer, due, max(due, now_ms)))
        would_drive |= is_moved and due <= now_ms
        is_overdue = due <= now_ms and run.status != FAILED  # a failed run is driven by a resume only
        assert is_moved == (due in times or (is_overdue and is_drive_named)), timer
    assert times <= {due for due in run.timers.values() if due > now_ms}
    for token in run.tokens.values():
        is_moved = moves(NodeFailed(token.name, token.attempt, now_ms, "Broken", "", retryable=False))
        would_drive |= is_moved
        assert is_moved == any(each.kind == "attempt" and each.token == token.name for each in why.reasons)
    if run.status == FAILED:
        would_drive = not fails_again(shape, run, now_ms, unread)
    assert is_drive_named == would_drive
    if not run.ended:
        tokens = [each.token for each in why.reasons if each.token in run.tokens]
        assert sorted(tokens) == sorted(run.tokens)


def fails_again(shape: Shape, run: Snapshot, now_ms: int, unread: Mapping[str, int]) -> bool:
    """Return whether a failed run that is resumed has a deadline that fires, and fails it, before anything else."""
    resumed = Snapshot.from_plain(run.to_plain())
    resumed.apply(advance(shape, run, RunResumed(now_ms)))
    due, timer = min(((due, timer) for timer, due in run.timers.items()), default=(now_ms + 1, ""))
    if due > now_ms or split_timer(timer)[0] == TOKEN_TIMER or any(unread.get(signal, 0) for signal in run.waits):
        return False
    resumed.apply(advance(shape, resumed, TimerFired(timer, due, now_ms)))
    return resumed.status == FAILED


@examples(120)
@given(racy_specs(), tapes(), crashes())
def test_the_named_triggers_move_a_run_and_no_others_do(
    spec: Spec, tape: list[int], schedule: list[tuple[int, bool]]
) -> None:
    def observe(seen: Observation) -> None:
        run, shape = seen.simulation.run, seen.simulation.plan.shape
        accepted = seen.simulation.disk.accepted
        unread = {signal: count - run.inbox.get(signal, 0) for signal, count in accepted.items()}
        next_due = min(run.timers.values(), default=seen.simulation.time)
        for now_ms in (seen.simulation.time, next_due - 1, next_due):
            check(shape, run, now_ms, unread)
            check(shape, run, now_ms, {})
            check(shape, run, now_ms, dict.fromkeys(run.waits, 1))

    disk = Disk(schedule=list(schedule))
    simulation = Simulation(build(spec, disk.probe).plan(), disk, Tape(tape), observe)
    asyncio.run(simulation.whole(INPUT))
