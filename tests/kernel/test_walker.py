"""The rules of the walker, each shown with a driver that only writes down what it is asked for."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from stepping import fan_out, frame, function, join, once, shape, timer, wait

from beluga_graph.kernel.shape import END, NodeShape
from beluga_graph.kernel.snapshot import FAILED, Snapshot, Token
from beluga_graph.kernel.triggers import (
    CancelRequested,
    NodeFailed,
    NodeFinished,
    RunResumed,
    RunStarted,
    RunTakenOver,
    Trigger,
)
from beluga_graph.kernel.types import Patch
from beluga_graph.kernel.walker import Walker
from beluga_graph.kernel.work import WorkChange


@dataclass
class Written:
    """A step of the driver below."""

    seq: int
    trigger: Trigger
    origin: str | None
    change: WorkChange | None = None


@dataclass
class Notebook:
    """A driver that commits when it is told to, or at once where it `goes_ahead`."""

    run: Snapshot
    goes_ahead: bool = True
    is_halted: bool = False
    time: int = 1000
    signals: dict[str, list[bytes]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    steps: list[Written] = field(default_factory=list)
    walker: Walker[str, Written] = field(init=False)

    def now(self) -> int:
        return self.time

    def write(self, trigger: Trigger, patch: Patch, origin: str | None) -> Written:
        assert patch.ops
        step = Written(self.run.seq, trigger, origin)
        self.said.append(f"write {type(trigger).__name__}")
        return step

    def commit(self, step: Written, change: WorkChange) -> None:
        assert self.run.seq == step.seq + 1, "the patch is applied between write and commit"
        step.change = change
        self.steps.append(step)
        if self.goes_ahead:
            self.release(step)

    def release(self, step: Written) -> None:
        assert step.change is not None
        self.walker.release(step, step.change)

    def run_node(self, token: Token, step: Written | None) -> None:
        self.said.append(f"run {token.name}@{token.attempt}" + ("" if step is None else f" by {step.seq + 1}"))

    def stop_node(self, token: str, step: Written) -> None:
        self.said.append(f"stop {token}")

    def arm(self, timer: str, due: int) -> None:
        self.said.append(f"arm {timer} {due}")

    def disarm(self, timer: str) -> None:
        self.said.append(f"disarm {timer}")

    def await_signal(self, token: str, signal: str) -> None:
        self.said.append(f"await {signal}")
        self.walker.serve(signal)

    def stop_all(self) -> None:
        self.said.append("stop all")

    def read_signal(self, signal: str, position: int) -> bytes | None:
        accepted = self.signals.get(signal, [])
        return accepted[position] if position < len(accepted) else None


def walked(*nodes: NodeShape, run: Snapshot | None = None, **more: Any) -> Notebook:
    """Return a driver of a run of these nodes: a new one that is started, or one that was loaded."""
    drawn = shape(*nodes, timeout_ms=more.pop("timeout_ms", None), interrupts=more.pop("interrupts", ()))
    driver = Notebook(run or Snapshot(run_id="r", plan="f", started_ms=1000, value=b"in"), **more)
    driver.walker = Walker(drawn, driver.run, driver)
    if run is None:
        driver.walker.decide(RunStarted(driver.time))
    return driver


def loaded(driver: Notebook, *nodes: NodeShape, **more: Any) -> Notebook:
    """Return another driver of the same run, as after a crash."""
    return walked(*nodes, run=Snapshot.from_plain(driver.run.to_plain()), **more)


def finish(driver: Notebook, token: str, **more: Any) -> Written | None:
    attempt = driver.run.tokens[token].attempt
    return driver.walker.decide(NodeFinished(token, attempt, driver.time, (b"out",), **more), "its attempt")


CHAIN = (function("a", "b"), function("b", END))
WAITING = (wait("w", "s", "z", timeout_ms=50), function("z", END))


# Deciding and releasing.


def test_a_step_is_written_before_its_work_begins_and_knows_how_it_came_about() -> None:
    driver = walked(*CHAIN)
    step = finish(driver, "a#1")
    assert step is driver.steps[-1]
    assert step is not None
    assert step.origin == "its attempt"
    assert driver.said == ["write RunStarted", "run a#1@1 by 1", "write NodeFinished", "stop a#1", "run b#1@1 by 2"]


def test_a_stale_trigger_writes_nothing() -> None:
    driver = walked(*CHAIN)
    said = list(driver.said)
    assert driver.walker.decide(NodeFinished("a#1", 9, 0, (b"",))) is None
    assert driver.walker.decide(RunStarted(0)) is None
    assert (driver.said, driver.run.seq) == (said, 1)


def test_work_begins_when_its_step_is_released() -> None:
    driver = walked(*CHAIN, goes_ahead=False)
    assert driver.said == ["write RunStarted"]
    driver.release(driver.steps[0])
    assert driver.said[1:] == ["run a#1@1 by 1"]


def test_a_node_that_a_later_step_has_dropped_is_not_begun() -> None:
    driver = walked(fan_out("f", "a", "a", join="j"), function("a", "j"), join("j", END, wait=1), goes_ahead=False)
    driver.walker.decide(NodeFinished("f#1", 1, 1000, (b"1",), branches=((0, 0), (0, 0))))
    finish(driver, "f#1[0]/a#1")
    driver.said.clear()
    for step in driver.steps:
        driver.release(step)
    assert [said for said in driver.said if said.startswith("run")] == ["run j#1@1 by 3"]


def test_an_attempt_that_a_later_one_replaces_is_not_begun() -> None:
    driver = walked(function("a", END, retry=once()), goes_ahead=False)
    driver.walker.decide(NodeFailed("a#1", 1, 1000, "Boom", "", retryable=True))
    driver.walker.fire_timer("t:a#1", 1010)
    driver.said.clear()
    for step in driver.steps:
        driver.release(step)
    assert driver.said == ["stop a#1", "stop a#1", "disarm t:a#1", "run a#1@2 by 3"]


def test_a_failed_run_begins_none_of_the_work_that_was_due() -> None:
    driver = walked(
        fan_out("f", "a", "b", join="j"), function("a", "j"), function("b", "j"), join("j", END), goes_ahead=False
    )
    driver.release(driver.steps[0])
    driver.walker.decide(NodeFinished("f#1", 1, 1000, (b"1",), branches=((0, 0), (1, 0))))
    driver.walker.decide(NodeFailed("f#1[0]/a#1", 1, 1000, "Boom", "", retryable=False))
    assert driver.run.status == FAILED
    driver.said.clear()
    for step in driver.steps[1:]:
        driver.release(step)
    assert driver.said == ["stop f#1", "stop all"]


def test_a_resumed_run_begins_all_its_work_in_place_of_the_earlier_work() -> None:
    driver = walked(*CHAIN)
    driver.walker.decide(NodeFailed("a#1", 1, 1000, "Boom", "", retryable=False))
    driver.said.clear()
    driver.walker.decide(RunResumed(1000))
    assert driver.said == ["write RunResumed", "stop all", "run a#1@2 by 3"]


def test_a_run_that_ends_stops_all_its_work() -> None:
    driver = walked(*CHAIN)
    driver.said.clear()
    driver.walker.decide(CancelRequested(1000))
    assert driver.said == ["write CancelRequested", "stop all"]


def test_a_halted_run_writes_steps_and_ends_work_but_begins_none() -> None:
    driver = walked(*CHAIN)
    driver.said.clear()
    driver.is_halted = True
    finish(driver, "a#1")
    driver.walker.begin(driver.walker.fire_overdue())
    assert driver.said == ["write NodeFinished", "stop a#1"]


# After a load.


def test_a_loaded_run_begins_all_its_work() -> None:
    nodes = (frame("p", "p/a", END, timeout_ms=70), function("p/a", END))
    driver = loaded(walked(*nodes), *nodes)
    driver.walker.begin(driver.walker.fire_overdue())
    assert driver.said == ["arm s:p#1 1070", "run p#1[0]/a#1@1"]


def test_a_deadline_that_has_passed_fires_before_a_node_of_a_loaded_run_begins() -> None:
    driver = loaded(walked(*CHAIN, timeout_ms=50), *CHAIN, timeout_ms=50, time=1050)
    driver.walker.begin(driver.walker.fire_overdue())
    assert driver.said == ["write TimerFired", "stop all"]


def test_overdue_timers_fire_in_the_order_of_their_times() -> None:
    nodes = (
        fan_out("f", "late", "early", join="j"),
        timer("late", 60, "j"),
        timer("early", 40, "j"),
        join("j", END),
    )
    first = walked(*nodes)
    first.walker.decide(NodeFinished("f#1", 1, 1000, (b"1",), branches=((0, 0), (1, 0))))
    driver = loaded(first, *nodes, time=5000)
    driver.walker.begin(driver.walker.fire_overdue())
    fired = [step.trigger for step in driver.steps]
    assert [trigger[0] for trigger in fired] == ["t:f#1[1]/early#1", "t:f#1[0]/late#1"]
    assert driver.said[-1].startswith("run j#1@1")
    assert [said for said in driver.said if said.startswith("arm")] == []


def test_the_work_of_overdue_timers_waits_for_their_commits() -> None:
    nodes = (timer("t", 40, "a"), function("a", END))
    driver = loaded(walked(*nodes), *nodes, time=5000, goes_ahead=False)
    driver.walker.begin(driver.walker.fire_overdue())
    assert driver.said == ["write TimerFired"]
    driver.release(driver.steps[0])
    assert driver.said == ["write TimerFired", "stop t#1", "disarm t:t#1", "run a#1@1 by 2"]


def test_nodes_with_the_fewest_interruptions_begin_first() -> None:
    nodes = (fan_out("f", "a", "b", join="j"), function("a", "j"), function("b", "j"), join("j", END))
    first = walked(*nodes)
    first.walker.decide(NodeFinished("f#1", 1, 1000, (b"1",), branches=((0, 0), (1, 0))))
    first.walker.decide(RunTakenOver(1000, (("f#1[0]/a#1", 2), ("f#1[1]/b#1", 1))))
    driver = loaded(first, *nodes)
    driver.walker.begin(driver.walker.fire_overdue())
    assert driver.said == ["run f#1[1]/b#1@1", "run f#1[0]/a#1@1"]


# Timers and signals.


def test_an_accepted_signal_beats_a_timeout_that_is_not_committed() -> None:
    driver = walked(*WAITING)
    driver.signals["s"] = [b"payload"]
    driver.time = 1050
    driver.said.clear()
    driver.walker.fire_timer("t:w#1", 1050)
    assert [type(step.trigger).__name__ for step in driver.steps] == ["RunStarted", "SignalReceived"]
    assert driver.run.tokens["z#1"].value == b"payload"


def test_a_halted_run_leaves_the_timeout_of_a_wait_to_the_next_driver() -> None:
    driver = walked(*WAITING)
    driver.is_halted = True
    driver.walker.fire_timer("t:w#1", 1050)
    assert (driver.run.seq, driver.run.timers) == (1, {"t:w#1": 1050})
    with_signal = loaded(driver, *WAITING, time=1050, signals={"s": [b"payload"]})
    with_signal.walker.begin(with_signal.walker.fire_overdue())
    assert with_signal.run.tokens["z#1"].value == b"payload"
    without = loaded(driver, *WAITING, time=1050)
    without.walker.fire_overdue()
    assert without.run.status == FAILED


def test_a_halted_run_still_meets_its_own_deadline_and_those_of_sleeps() -> None:
    driver = walked(
        fan_out("f", "t", "a", join="j"), timer("t", 50, "j"), function("a", "j"), join("j", END), timeout_ms=90
    )
    driver.walker.decide(NodeFinished("f#1", 1, 1000, (b"1",), branches=((0, 0), (1, 0))))
    driver.is_halted = True
    [(slept, due), (deadline, end)] = sorted(driver.run.timers.items(), key=lambda armed: armed[1])
    driver.walker.fire_timer(slept, due)
    assert slept not in driver.run.timers
    driver.walker.fire_timer(deadline, end)
    assert driver.run.status == FAILED


def test_without_a_signal_the_timeout_fires() -> None:
    driver = walked(*WAITING)
    driver.walker.fire_timer("t:w#1", 1050)
    assert driver.run.status == FAILED


def test_a_timer_never_fires_before_its_time_on_record() -> None:
    driver = walked(*WAITING)
    driver.time = 900  # the clock was set back
    driver.walker.fire_timer("t:w#1", 1050)
    assert driver.steps[-1].trigger.at == 1050


def test_a_timer_that_was_taken_back_changes_nothing() -> None:
    driver = walked(*WAITING)
    driver.signals["s"] = [b"payload"]
    driver.walker.serve("s")
    seq = driver.run.seq
    driver.walker.fire_timer("t:w#1", 1050)
    assert driver.run.seq == seq


@pytest.mark.parametrize("goes_ahead", [True, False])
def test_signals_are_delivered_in_order_and_each_once(goes_ahead: bool) -> None:
    nodes = (wait("w", "s", "w"),)
    driver = walked(*nodes, goes_ahead=goes_ahead)
    driver.signals["s"] = [b"1", b"2", b"3"]
    driver.walker.serve("s")
    driver.walker.serve("s")
    received = [step.trigger for step in driver.steps[1:]]
    assert [(trigger.position, trigger.value) for trigger in received] == [(0, b"1"), (1, b"2"), (2, b"3")]


def test_a_signal_that_no_node_waits_for_stays_in_the_inbox() -> None:
    driver = walked(*CHAIN)
    driver.signals["s"] = [b"payload"]
    driver.walker.serve("s")
    assert (driver.run.seq, driver.run.inbox) == (1, {})


# Interruptions.


def test_a_node_at_which_too_many_owners_died_fails() -> None:
    driver = walked(*CHAIN)
    for _ in range(5):
        driver.walker.decide(RunTakenOver(1000))
    driver.walker.fail_interrupted()
    assert driver.run.status == "running"
    driver.walker.decide(RunTakenOver(1000))
    driver.walker.fail_interrupted()
    assert driver.run.error[1:3] == (
        "Interrupted",
        "6 processes ended while the node ran; max_interruptions is 5",
    )


# Interrupting signals.

STOPPABLE = (function("a", "z", interrupts=(("stop", "b", ()),)), function("b", "z"), function("z", END))


def test_an_interrupting_signal_that_came_early_interrupts_its_source_before_it_begins() -> None:
    driver = walked(*STOPPABLE, signals={"stop": [b"1", b"2"]})
    assert driver.said == [
        "write RunStarted",
        "await stop",
        "write SignalReceived",
        "stop a#1",
        "run b#1@1 by 2",
    ]
    assert driver.run.inbox == {"stop": 1}, "the second one is kept: nothing listens to it any more"


def test_after_a_load_a_kept_signal_interrupts_before_the_node_runs_again() -> None:
    driver = loaded(walked(*STOPPABLE), *STOPPABLE, signals={"stop": [b"1"]})
    driver.walker.begin(driver.walker.fire_overdue())
    assert [said for said in driver.said if said.startswith("run")] == ["run b#1@1 by 2"]


@pytest.mark.parametrize(
    "nodes",
    [
        (timer("t", 50, "z", interrupts=(("stop", "b", ()),)), *STOPPABLE[1:]),
        (wait("t", "go", "z", timeout_ms=50, interrupts=(("stop", "b", ()),)), *STOPPABLE[1:]),
        (frame("t", "t/x", "z", timeout_ms=50, interrupts=(("stop", "b", ()),)), function("t/x", END), *STOPPABLE[1:]),
        (frame("t", "t/x", "z", interrupts=(("stop", "b", ()),)), timer("t/x", 50, END), *STOPPABLE[1:]),
    ],
    ids=["sleep", "wait", "deadline", "sleep in a sub-flow"],
)
def test_an_accepted_signal_beats_a_timer_of_what_it_interrupts(nodes: tuple[NodeShape, ...]) -> None:
    driver = loaded(walked(*nodes), *nodes, signals={"stop": [b"1"]}, time=2000)
    driver.walker.begin(driver.walker.fire_overdue())
    assert list(driver.run.tokens) == ["b#1"]
    assert not driver.run.timers


def test_an_accepted_signal_beats_a_timer_anywhere_in_the_graph_that_it_interrupts() -> None:
    nodes = (timer("t", 50, "z"), *STOPPABLE[1:])
    edges = (("stop", "b", ("b",)),)
    driver = loaded(walked(*nodes, interrupts=edges), *nodes, interrupts=edges, signals={"stop": [b"1"]}, time=2000)
    driver.walker.begin(driver.walker.fire_overdue())
    assert list(driver.run.tokens) == ["b#1"]


def test_a_halted_run_leaves_a_timer_that_a_signal_may_forestall_to_the_next_driver() -> None:
    driver = walked(timer("t", 50, "z", interrupts=(("stop", "b", ()),)), *STOPPABLE[1:])
    driver.is_halted = True
    driver.walker.fire_timer("t:t#1", 1050)
    assert driver.run.timers == {"t:t#1": 1050}


def test_a_timer_fires_if_no_signal_was_accepted() -> None:
    driver = walked(timer("t", 50, "z", interrupts=(("stop", "b", ()),)), *STOPPABLE[1:])
    driver.walker.fire_timer("t:t#1", 1050)
    assert list(driver.run.tokens) == ["z#1"]
