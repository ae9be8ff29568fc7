"""The rules of `advance`, each on a small handwritten shape."""

from __future__ import annotations

from typing import Any

import pytest
from stepping import Walk, fan_out, frame, function, join, once, timer, wait

from beluga_graph.kernel.rules import RETRY_AFTER_MS_MAX, retry_delay_ms
from beluga_graph.kernel.shape import END, WAIT_NODE, NodeShape, RetryShape
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.transition import EMPTY_PATCH, advance
from beluga_graph.kernel.triggers import (
    NodeFinished,
    RunForked,
    RunStarted,
    RunTakenOver,
    SignalReceived,
    TimerFired,
    TrialBegun,
    TrialBrokenOff,
)


def forked(**join_options: object) -> Walk:
    """Return a run whose fan-out `f` has opened three branches at `a`, before the join `j` and the node `z`."""
    walk = Walk(
        fan_out("f", "a", "a", "a", join="j"),
        function("a", "j"),
        join("j", "z", **join_options),
        function("z", END),
        function("mend", END),
    )
    walk.spread("f#1", 0, 1, 2)
    return walk


# Moving on.


def test_a_run_ends_with_the_output_of_its_last_node() -> None:
    walk = Walk(function("a", "b"), function("b", END))
    walk.finish("a#1", b"1")
    assert walk.run.tokens["b#1"].value == b"1"
    walk.finish("b#1", b"2")
    assert (walk.run.status, walk.run.output, walk.run.steps) == ("completed", b"2", 2)
    assert walk.is_bare


def test_a_branch_follows_the_route_that_was_chosen() -> None:
    walk = Walk(function("a", routes=(("left", "b", "conditional"), (1, END, "conditional"))), function("b", END))
    walk.finish("a#1", route="left")
    assert walk.tokens == ["b#1"]


def test_a_route_is_matched_by_its_type_too() -> None:
    walk = Walk(function("a", routes=((1, END, "conditional"),)))
    walk.finish("a#1", route=True)
    assert walk.run.status == "failed"
    assert walk.run.error == (
        "a",
        "UnknownRoute",
        "node 'a' chose the route True, which its branch does not have",
        1,
        b"in",
    )


def test_an_unknown_route_leaves_no_trace_of_the_step() -> None:
    walk = Walk(function("a", routes=(("x", END, "conditional"),)))
    walk.finish("a#1", (b"out", b"new"), route="y", sets=(("field", 1),), appends=(("log", 2),))
    assert walk.run.places[""].fields == {}
    assert walk.run.places[""].lengths == {}
    assert walk.run.steps == 0


def test_visits_name_the_tokens_of_a_loop() -> None:
    walk = Walk(function("a", routes=(("again", "a", "conditional"), ("on", END, "conditional"))))
    walk.finish("a#1", route="again")
    walk.finish("a#2", route="again")
    assert walk.tokens == ["a#3"]


def test_a_finished_attempt_counts_once() -> None:
    walk = Walk(function("a", "b"), function("b", END))
    trigger = NodeFinished("a#1", 1, 5, (b"1",))
    walk.decide(trigger)
    assert walk.decide(trigger) == EMPTY_PATCH


def test_a_late_result_of_an_earlier_attempt_changes_nothing() -> None:
    walk = Walk(function("a", END, retry=once()))
    walk.fail("a#1", retryable=True)
    walk.fire("t:a#1")
    assert walk.decide(NodeFinished("a#1", 1, walk.now, (b"late",))) == EMPTY_PATCH


def test_a_run_begins_once() -> None:
    walk = Walk(function("a", END))
    assert walk.decide(RunStarted(1)) == EMPTY_PATCH
    assert walk.decide(RunForked(1, "other", 3)) == EMPTY_PATCH


# Joins.


def test_a_join_waits_for_every_branch_its_fan_out_opened() -> None:
    walk = forked()
    walk.finish("f#1[2]/a#1", b"c")
    walk.finish("f#1[0]/a#1", b"a")
    assert walk.tokens == ["f#1[1]/a#1"]
    walk.finish("f#1[1]/a#1", b"b")
    assert walk.tokens == ["j#1"]
    assert walk.run.scopes["f#1"].results == {2: b"c", 0: b"a", 1: b"b"}
    walk.finish("j#1", b"abc")
    walk.finish("z#1")
    assert walk.is_bare


def test_a_join_of_k_fires_at_the_kth_success_and_removes_the_rest() -> None:
    walk = forked(wait=2)
    walk.finish("f#1[1]/a#1")
    walk.finish("f#1[2]/a#1")
    assert walk.tokens == ["j#1"]
    assert list(walk.run.scopes["f#1"].results) == [1, 2]


def test_the_late_result_of_a_removed_branch_changes_nothing() -> None:
    walk = forked(wait=1)
    walk.finish("f#1[1]/a#1")
    assert walk.decide(NodeFinished("f#1[0]/a#1", 1, 9, (b"late",))) == EMPTY_PATCH


def test_a_join_of_k_tolerates_failures_while_k_can_be_reached() -> None:
    walk = forked(wait=2)
    walk.fail("f#1[0]/a#1")
    assert walk.run.status == "running"
    walk.finish("f#1[1]/a#1")
    walk.finish("f#1[2]/a#1")
    assert walk.tokens == ["j#1"]
    assert list(walk.run.scopes["f#1"].failures) == [0]


def test_a_join_that_cannot_reach_k_fails_and_names_the_last_failure() -> None:
    walk = forked(wait=2, error="mend")
    walk.fail("f#1[0]/a#1")
    walk.fail("f#1[2]/a#1")
    assert walk.tokens == ["mend#1"]
    assert walk.run.tokens["mend#1"].value == (
        "j",
        "JoinUnreachable",
        "join 'j' needs 2 successes and 2 of 3 branches failed; the last failure: Boom: it broke",
        1,
        b"out",
    )
    assert not walk.run.scopes


def test_a_fan_out_with_fewer_branches_than_its_join_needs_fails_before_any_of_them_runs() -> None:
    walk = Walk(fan_out("f", "a", join="j", over=True), function("a", "j"), join("j", "z", wait=3), function("z", END))
    walk.finish("f#1", (b"item", b"field"), branches=((0, 0), (0, 0)), sets=(("total", 1),))
    assert walk.run.status == "failed"
    assert walk.run.error is not None
    assert walk.run.error[1:3] == ("JoinUnreachable", "join 'j' needs 3 successes and it has 2 branches")
    # The fan-out did not finish, so what it wrote must not count: it runs again when the run is resumed.
    assert (walk.run.steps, walk.run.places[""].fields) == (0, {})
    walk.resume()
    assert walk.running == ["f#1"]


def test_a_join_that_collects_treats_failures_as_results() -> None:
    walk = forked(collect=True)
    walk.fail("f#1[1]/a#1")
    walk.finish("f#1[0]/a#1")
    walk.finish("f#1[2]/a#1")
    assert walk.tokens == ["j#1"]
    assert walk.run.scopes["f#1"].failures == {1: ("a", "Boom", "it broke", 1, b"out")}


def test_a_failure_that_reaches_the_join_by_an_error_edge_is_a_success() -> None:
    walk = Walk(
        fan_out("f", "a", "a", join="j"),
        function("a", "j", error="j"),
        join("j", "z"),
        function("z", END),
    )
    walk.spread("f#1", 0, 1)
    walk.fail("f#1[0]/a#1")
    walk.finish("f#1[1]/a#1")
    assert list(walk.run.scopes["f#1"].results) == [0, 1]
    assert not walk.run.scopes["f#1"].failures


def test_a_join_that_times_out_fires_with_the_results_so_far() -> None:
    walk = forked(timeout_ms=50)
    assert walk.armed == {"s:f#1": 1050}
    walk.finish("f#1[2]/a#1")
    walk.fire("s:f#1")
    assert walk.tokens == ["j#1"]
    assert list(walk.run.scopes["f#1"].results) == [2]
    assert walk.armed == {}


def test_a_join_that_fired_is_not_fired_again_by_its_timer() -> None:
    walk = forked(timeout_ms=50)
    for branch in range(3):
        walk.finish(f"f#1[{branch}]/a#1")
    assert walk.decide(TimerFired("s:f#1", 1050, 1060)) == EMPTY_PATCH


@pytest.mark.parametrize("needed", [None, 2])
def test_a_fan_out_without_branches_fires_its_join_at_once(needed: int | None) -> None:
    walk = Walk(
        fan_out("f", "a", join="j", over=True),
        function("a", "j"),
        join("j", END, wait=needed, timeout_ms=9),
    )
    walk.spread("f#1")
    assert walk.tokens == ["j#1"]
    assert walk.run.scopes["f#1"].results == {}
    assert walk.armed == {}
    walk.finish("j#1")
    assert walk.is_bare


def test_a_failed_join_follows_its_own_error_edge_and_closes_the_scope() -> None:
    walk = forked(error="mend")
    for branch in range(3):
        walk.finish(f"f#1[{branch}]/a#1")
    walk.fail("j#1", input=b"[out, out, out]")
    assert walk.tokens == ["mend#1"]
    assert walk.run.tokens["mend#1"].value[4] == b"[out, out, out]"
    assert not walk.run.scopes


def test_the_failure_of_a_join_reports_an_input_only_if_it_is_known() -> None:
    walk = forked()
    for branch in range(3):
        walk.finish(f"f#1[{branch}]/a#1")
    walk.fail("j#1")  # as when too many owners died at it
    assert walk.run.error is not None
    assert walk.run.error[4] is None


# Concurrency.


def test_max_concurrency_begins_a_queued_branch_for_each_that_ends() -> None:
    walk = Walk(
        fan_out("f", "a", join="j", over=True, max_concurrency=2),
        function("a", "j"),
        join("j", END),
    )
    walk.finish("f#1", (b"0", b"1", b"2", b"3"), branches=tuple((0, item) for item in range(4)))
    assert walk.running == ["f#1[0]/a#1", "f#1[1]/a#1"]
    walk.finish("f#1[1]/a#1")
    assert walk.running == ["f#1[0]/a#1", "f#1[2]/a#1"]
    assert walk.run.tokens["f#1[2]/a#1"].value == b"2"
    walk.finish("f#1[2]/a#1")
    walk.finish("f#1[0]/a#1")
    assert walk.running == ["f#1[3]/a#1"]
    walk.finish("f#1[3]/a#1")
    assert walk.running == ["j#1"]


def test_a_tolerated_failure_makes_room_for_a_queued_branch() -> None:
    walk = Walk(
        fan_out("f", "a", join="j", over=True, max_concurrency=1),
        function("a", "j"),
        join("j", END, collect=True),
    )
    walk.spread("f#1", 0, 0)
    walk.fail("f#1[0]/a#1")
    assert walk.running == ["f#1[1]/a#1"]


def test_a_join_that_fires_early_clears_the_queued_branches() -> None:
    walk = Walk(
        fan_out("f", "a", join="j", over=True, max_concurrency=1),
        function("a", "j"),
        join("j", END, wait=1),
    )
    walk.spread("f#1", 0, 0, 0)
    walk.finish("f#1[0]/a#1")
    assert walk.tokens == ["j#1"]
    assert not walk.run.scopes["f#1"].queue


# Failing.


def test_a_retry_waits_for_its_pause_and_counts_attempts() -> None:
    walk = Walk(function("a", END, retry=once(attempts=2, pause_ms=30)))
    walk.fail("a#1", retryable=True)
    assert walk.run.status == "waiting"
    assert walk.armed == {"t:a#1": 1030}
    walk.fire("t:a#1")
    assert walk.run.tokens["a#1"].attempt == 2
    walk.fail("a#1", retryable=True)
    assert walk.run.status == "failed"


def test_a_failure_that_is_not_retryable_fails_at_once() -> None:
    walk = Walk(function("a", END, retry=once()))
    walk.fail("a#1", retryable=False)
    assert walk.run.status == "failed"


def test_the_pause_that_a_provider_asks_for_is_honoured_up_to_a_limit() -> None:
    node = function("a", END, retry=once(pause_ms=10))
    assert retry_delay_ms(node, "a#1", 1, 500) == 500
    assert retry_delay_ms(node, "a#1", 1, 10**9) == RETRY_AFTER_MS_MAX


def test_a_pause_grows_up_to_its_maximum_however_steep() -> None:
    steep = RetryShape(attempts=99, initial_ms=100, factor=1e300, maximum_ms=5000, jitter=0.0)
    node = function("a", END, retry=steep)
    assert [retry_delay_ms(node, "a#1", tried, None) for tried in (1, 2, 90)] == [100, 5000, 5000]


def test_jitter_is_the_same_in_every_process() -> None:
    retry = RetryShape(attempts=9, initial_ms=1000, factor=2.0, maximum_ms=10_000, jitter=0.5)
    node = function("a", END, retry=retry)
    assert [retry_delay_ms(node, "a#1", tried, None) for tried in (1, 2, 3)] == [1004, 1188, 3736]


def test_without_a_handler_the_run_stops_and_keeps_its_tokens() -> None:
    walk = forked()
    walk.finish("f#1[0]/a#1")
    walk.fail("f#1[1]/a#1")
    assert walk.run.status == "failed"
    assert walk.running == []
    assert walk.tokens == ["f#1[1]/a#1", "f#1[2]/a#1"]
    assert walk.decide(NodeFinished("f#1[2]/a#1", 1, 9, (b"late",))) == EMPTY_PATCH


def test_a_resume_arms_the_failed_node_and_the_stopped_siblings() -> None:
    walk = forked()
    walk.finish("f#1[0]/a#1")
    walk.fail("f#1[1]/a#1")
    walk.resume()
    assert walk.running == ["f#1[1]/a#1", "f#1[2]/a#1"]
    assert walk.run.tokens["f#1[1]/a#1"].attempt == 2
    assert walk.run.error is None


def test_a_resume_gives_all_the_attempts_of_the_policy_again() -> None:
    walk = Walk(function("a", END, retry=once(attempts=2)))
    walk.fail("a#1", retryable=True)
    walk.fire("t:a#1")
    walk.fail("a#1", retryable=True)
    walk.resume()
    walk.fail("a#1", retryable=True)
    assert (walk.run.status, walk.run.tokens["a#1"].attempt) == ("waiting", 4)


def test_only_a_failed_run_is_resumed() -> None:
    walk = Walk(function("a", END))
    assert walk.resume() == EMPTY_PATCH


def test_an_error_edge_stays_in_its_branch() -> None:
    walk = Walk(
        fan_out("f", "a", "a", join="j"),
        function("a", "j", error="mend"),
        function("mend", "j"),
        join("j", END),
    )
    walk.spread("f#1", 0, 1)
    walk.fail("f#1[1]/a#1")
    assert walk.running == ["f#1[0]/a#1", "f#1[1]/mend#1"]
    assert walk.run.tokens["f#1[1]/mend#1"].value == ("a", "Boom", "it broke", 1, b"out")


def test_the_error_edge_of_a_fan_out_handles_failures_in_nested_scopes() -> None:
    walk = Walk(
        fan_out("f", "g", "g", join="j", error="mend"),
        fan_out("g", "a", "pause", join="k"),
        function("a", "k"),
        timer("pause", 100, "k"),
        join("k", "j"),
        join("j", END),
        function("mend", END),
    )
    walk.spread("f#1", 0, 1)
    walk.spread("f#1[0]/g#1", 0, 1)
    walk.spread("f#1[1]/g#1", 0, 1)
    walk.fail("f#1[1]/g#1[0]/a#1")
    assert walk.tokens == ["mend#1"]
    assert walk.armed == {}
    walk.finish("mend#1")
    assert walk.is_bare


def test_the_inner_handler_wins() -> None:
    walk = Walk(
        fan_out("f", "g", join="j", error="mend"),
        fan_out("g", "a", join="k"),
        function("a", "k"),
        join("k", "j", collect=True),
        join("j", END),
        function("mend", END),
    )
    walk.spread("f#1", 0)
    walk.spread("f#1[0]/g#1", 0)
    walk.fail("f#1[0]/g#1[0]/a#1")
    assert walk.tokens == ["f#1[0]/k#1"]


def test_a_failure_of_a_failure_keeps_only_one_level() -> None:
    walk = Walk(function("a", END, error="b"), function("b", END, error="a"))
    for token in ("a#1", "b#1", "a#2", "b#2"):
        walk.fail(token)
    assert walk.run.tokens["a#3"].value == (
        "b",
        "Boom",
        "it broke",
        1,
        ("a", "Boom", "it broke", 1, None),
    )


# Frames.


def framed(**options: object) -> Walk:
    """Return a run that is inside a frame `s`, whose target is `z`."""
    return Walk(
        frame("s", "s/a", "z", **options),
        function("s/a", "s/b"),
        function("s/b", END),
        function("z", END),
        function("mend", END),
    )


def test_a_frame_opens_and_closes_in_the_patches_of_its_neighbours() -> None:
    walk = framed()
    assert walk.tokens == ["s#1[0]/a#1"]
    walk.finish("s#1[0]/a#1")
    walk.finish("s#1[0]/b#1", b"inner")
    assert walk.tokens == ["z#1"]
    assert walk.run.tokens["z#1"].value == b"inner"
    assert not walk.run.scopes


def test_a_frame_without_a_node_is_skipped() -> None:
    walk = Walk(frame("s", "s/t", "z"), frame("s/t", END, "s/u"), frame("s/u", END, END), function("z", END))
    assert walk.tokens == ["z#1"]
    assert walk.run.tokens["z#1"].value == b"in"


def test_a_failed_frame_begins_again_as_another_visit() -> None:
    walk = framed(retry=once(attempts=2, pause_ms=20), error="mend")
    walk.finish("s#1[0]/a#1")
    walk.fail("s#1[0]/b#1")
    assert walk.tokens == ["s#2"]
    assert walk.armed == {"t:s#2": 1020}
    walk.fire("t:s#2")
    assert walk.tokens == ["s#2[0]/a#1"]
    assert walk.run.tokens["s#2[0]/a#1"].value == b"in"
    walk.fail("s#2[0]/a#1")
    assert walk.tokens == ["mend#1"]
    assert not walk.run.scopes


def test_a_frame_past_its_deadline_fails_as_a_whole() -> None:
    walk = framed(timeout_ms=200, error="mend")
    assert walk.armed == {"s:s#1": 1200}
    walk.fire("s:s#1")
    assert walk.run.tokens["mend#1"].value == ("s", "Timeout", "'s' passed its deadline of 0.2 s", 1, b"in")
    assert walk.armed == {}


def test_a_frame_that_ends_in_time_disarms_its_deadline() -> None:
    walk = framed(timeout_ms=200)
    walk.finish("s#1[0]/a#1")
    walk.finish("s#1[0]/b#1")
    assert walk.armed == {}


def test_a_frame_past_its_deadline_without_a_handler_fails_again_when_resumed() -> None:
    walk = framed(timeout_ms=200)
    walk.fire("s:s#1")
    assert walk.run.status == "failed"
    walk.resume()
    assert walk.armed == {"s:s#1": 1200}  # overdue: it fires before anything runs


# Waits and timers.


def test_signals_go_to_the_oldest_wait() -> None:
    walk = Walk(fan_out("f", "a", "a", join="j"), function("a", "w"), wait("w", "go", "j"), join("j", END))
    walk.spread("f#1", 0, 1)
    walk.finish("f#1[1]/a#1")
    walk.finish("f#1[0]/a#1")
    assert walk.run.status == "waiting"
    walk.signal("go", b"first")
    assert walk.run.scopes["f#1"].results == {1: b"first"}
    walk.signal("go", b"second")
    assert walk.run.scopes["f#1"].results == {1: b"first", 0: b"second"}


def test_a_signal_is_served_once() -> None:
    walk = Walk(wait("w", "go", "v"), wait("v", "go", END))
    walk.signal("go", b"1")
    assert walk.decide(SignalReceived("go", 0, b"1", 9)) == EMPTY_PATCH
    assert walk.tokens == ["v#1"]


def test_a_signal_without_a_wait_stays_in_the_inbox() -> None:
    walk = Walk(function("a", "w"), wait("w", "go", END))
    assert walk.signal("go") == EMPTY_PATCH
    assert walk.run.inbox == {}


def test_a_wait_that_times_out_goes_on_with_its_default() -> None:
    walk = Walk(wait("w", "go", "z", timeout_ms=70, default=b"none came"), function("z", END))
    walk.fire("t:w#1")
    assert walk.run.tokens["z#1"].value == b"none came"
    assert not walk.run.waits


def test_a_wait_that_times_out_without_a_default_fails() -> None:
    walk = Walk(wait("w", "go", END, timeout_ms=70, error="mend"), function("mend", END))
    walk.fire("t:w#1")
    assert walk.run.tokens["mend#1"].value == (
        "w",
        "SignalTimeout",
        "no signal 'go' came within 0.07 s",
        1,
        b"in",
    )
    assert not walk.run.waits


def test_a_wait_that_failed_waits_again_after_a_resume() -> None:
    walk = Walk(wait("w", "go", END, timeout_ms=70))
    walk.fire("t:w#1")
    assert (walk.run.status, walk.run.waits) == ("failed", {})
    walk.resume()
    assert walk.armed == {"t:w#1": 1140}
    walk.signal("go", b"at last")
    assert walk.run.output == b"at last"
    assert walk.is_bare


def test_a_served_wait_disarms_its_timeout() -> None:
    walk = Walk(wait("w", "go", "z", timeout_ms=70), function("z", END))
    due = walk.run.timers["t:w#1"]
    walk.signal("go")
    assert walk.armed == {}
    assert walk.decide(TimerFired("t:w#1", due, due)) == EMPTY_PATCH


def test_a_checked_payload_goes_to_a_body_first() -> None:
    walk = Walk(wait("w", "go", END, timeout_ms=70, checked=True))
    walk.signal("go", b"raw")
    assert walk.running == ["w#1"]
    assert walk.armed == {}
    walk.finish("w#1", b"checked")
    assert walk.run.output == b"checked"


# Questions.


def asking(name: str, target: str, **more: Any) -> NodeShape:
    return NodeShape(name=name, local=name, kind=WAIT_NODE, target=target, checked=True, asks="step", **more)


def test_each_question_has_a_signal_of_its_own() -> None:
    walk = Walk(fan_out("f", "q", "q", join="j"), asking("q", "a"), function("a", "j"), join("j", END))
    walk.spread("f#1", 0, 1)
    assert walk.run.waits == {"approval:f#1[0]/q#1": ["f#1[0]/q#1"], "approval:f#1[1]/q#1": ["f#1[1]/q#1"]}
    walk.signal("approval:f#1[1]/q#1", b"yes")
    assert walk.running == ["f#1[1]/q#1"]
    assert (walk.run.tokens["f#1[1]/q#1"].value, walk.run.tokens["f#1[1]/q#1"].answer) == (b"out", b"yes")
    walk.finish("f#1[1]/q#1", b"approved")
    assert walk.run.tokens["f#1[1]/a#1"].value == b"approved"
    assert walk.run.waits == {"approval:f#1[0]/q#1": ["f#1[0]/q#1"]}


@pytest.mark.parametrize("final", [False, True])
def test_a_question_keeps_its_subject_and_is_asked_again_after_an_invalid_answer(final: bool) -> None:
    walk = Walk(asking("q", END))
    walk.signal("approval:q#1", b"no")
    walk.fail("q#1", final=final)
    if final:
        assert walk.run.error == ("q", "Boom", "it broke", 1, b"in")
        walk.resume()
    assert (walk.run.status, walk.run.waits) == ("waiting", {"approval:q#1": ["q#1"]})
    walk.signal("approval:q#1", b"yes")
    assert walk.run.tokens["q#1"].answer == b"yes"
    walk.finish("q#1", b"done")
    assert walk.run.output == b"done"
    assert walk.is_bare


@pytest.mark.parametrize("final", [False, True])
def test_a_final_failure_restarts_no_frame(final: bool) -> None:
    walk = Walk(frame("s", "s/a", END, retry=once(2), error="z"), function("s/a", END), function("z", END))
    walk.fail("s#1[0]/a#1", final=final)
    assert walk.tokens == (["z#1"] if final else ["s#2"])


def test_a_removed_question_does_not_wait_any_more() -> None:
    walk = Walk(fan_out("f", "q", "a", join="j"), asking("q", "j"), function("a", "j"), join("j", END, wait=1))
    walk.spread("f#1", 0, 1)
    walk.finish("f#1[1]/a#1")
    assert walk.run.waits == {}


def test_a_timer_forwards_its_input() -> None:
    walk = Walk(timer("t", 25, END))
    assert (walk.run.status, walk.armed) == ("waiting", {"t:t#1": 1025})
    walk.fire("t:t#1")
    assert walk.run.output == b"in"
    assert walk.is_bare


def test_a_timer_of_an_earlier_arming_changes_nothing() -> None:
    walk = Walk(function("a", END, retry=once()))
    walk.fail("a#1", retryable=True)
    old = walk.run.timers["t:a#1"]
    walk.fire("t:a#1")
    walk.now += 5
    walk.fail("a#1", retryable=True)
    assert walk.decide(TimerFired("t:a#1", old, walk.now)) == EMPTY_PATCH


def test_a_node_may_be_named_like_a_timer() -> None:
    walk = Walk(
        fan_out("f", "t:p", "p", join="j", error="mend"),
        function("t:p", "j"),
        timer("p", 50, "j"),
        join("j", END),
        function("mend", END),
    )
    walk.spread("f#1", 0, 1)
    walk.fail("f#1[0]/t:p#1")
    assert walk.tokens == ["mend#1"]
    assert walk.armed == {}


# Limits.


def test_max_visits_bounds_a_loop() -> None:
    walk = Walk(
        function("a", routes=(("again", "a", "conditional"), ("on", END, "conditional"))),
        limits={"max_visits": 2},
    )
    walk.finish("a#1", route="again")
    walk.finish("a#2", b"last", route="again")
    assert walk.run.status == "failed"
    assert walk.run.error == (
        "a",
        "LimitReached",
        "node 'a' was visited 2 times in one scope: raise max_visits or mend the loop",
        0,
        b"last",
    )
    assert walk.tokens == ["a#3"]
    walk.resume()
    assert walk.running == ["a#3"]


def test_max_visits_in_a_frame_goes_to_the_frames_error_edge() -> None:
    walk = Walk(
        frame("s", "s/a", END, error="mend"),
        function("s/a", routes=(("again", "s/a", "conditional"), ("on", END, "conditional")), error="s/a"),
        function("mend", END),
        limits={"max_visits": 1},
    )
    walk.finish("s#1[0]/a#1", route="again")
    assert walk.tokens == ["mend#1"]
    assert not walk.run.scopes


def test_max_steps_stops_the_run_and_keeps_the_step() -> None:
    walk = Walk(function("a", "b"), function("b", END), limits={"max_steps": 1})
    walk.finish("a#1")
    assert (walk.run.status, walk.run.steps, walk.tokens) == ("failed", 1, ["b#1"])
    walk.resume()
    assert walk.running == ["b#1"]


def test_max_width_bounds_a_fan_out() -> None:
    walk = Walk(fan_out("f", "a", join="j", over=True), function("a", "j"), join("j", END), limits={"max_width": 2})
    walk.spread("f#1", 0, 0, 0)
    assert walk.run.error is not None
    assert walk.run.error[1:3] == ("LimitReached", "fan-out 'f' has 3 branches, more than max_width 2")
    assert walk.run.steps == 0


def test_the_limits_of_a_run_override_those_of_its_graph() -> None:
    walk = Walk(function("a", "b"), function("b", END), limits={"max_steps": 1})
    walk.run.limits = {"max_steps": 5}
    walk.finish("a#1")
    assert walk.run.status == "running"


# Endings.


def test_a_run_past_its_deadline_fails_and_cannot_be_resumed_past_it() -> None:
    walk = Walk(function("a", END), timeout_ms=500)
    assert walk.armed == {"s:": 1500}
    walk.fire("s:")
    assert walk.run.error == ("", "Timeout", "the run passed its deadline of 0.5 s", 1, b"in")
    walk.resume()
    assert walk.armed == {"s:": 1500}


def test_a_run_that_ends_in_time_disarms_its_deadline() -> None:
    walk = Walk(function("a", END), timeout_ms=500)
    walk.finish("a#1")
    assert walk.is_bare


def test_cancelling_is_final_and_idempotent() -> None:
    walk = forked()
    walk.cancel()
    assert (walk.run.status, walk.running) == ("cancelled", [])
    assert walk.cancel() == EMPTY_PATCH
    assert walk.resume() == EMPTY_PATCH
    assert walk.decide(NodeFinished("f#1[2]/a#1", 1, 9, (b"late",))) == EMPTY_PATCH


def test_a_completed_run_cannot_be_cancelled() -> None:
    walk = Walk(function("a", END))
    walk.finish("a#1")
    assert walk.cancel() == EMPTY_PATCH
    assert walk.run.status == "completed"


def test_a_failed_run_can_be_cancelled() -> None:
    walk = Walk(function("a", END))
    walk.fail("a#1")
    walk.cancel()
    assert walk.run.status == "cancelled"


# Owners.


def test_a_take_over_counts_an_interruption_for_each_running_token() -> None:
    walk = forked()
    walk.finish("f#1[0]/a#1")
    walk.take_over()
    walk.take_over()
    counted = {name: token.interruptions for name, token in walk.run.tokens.items()}
    assert counted == {"f#1[1]/a#1": 2, "f#1[2]/a#1": 2}
    assert walk.running == ["f#1[1]/a#1", "f#1[2]/a#1"]


def test_a_take_over_may_carry_the_interruptions_of_each_token() -> None:
    walk = forked()
    walk.decide(RunTakenOver(walk.now, (("f#1[0]/a#1", 3), ("f#1[2]/a#1", 1))))
    counted = [token.interruptions for token in walk.run.tokens.values()]
    assert counted == [3, 0, 1]


def test_a_trial_counts_from_its_beginning_unless_it_is_broken_off() -> None:
    walk = forked()
    walk.decide(TrialBegun("f#1[0]/a#1", 1, walk.now))
    walk.decide(TrialBegun("f#1[0]/a#1", 1, walk.now))
    walk.decide(TrialBrokenOff("f#1[0]/a#1", 1, walk.now))
    assert [token.interruptions for token in walk.run.tokens.values()] == [1, 0, 0]
    assert walk.decide(TrialBegun("f#1[0]/a#1", 2, walk.now)) == EMPTY_PATCH
    walk.finish("f#1[0]/a#1")
    assert walk.decide(TrialBrokenOff("f#1[0]/a#1", 1, walk.now)) == EMPTY_PATCH


def test_a_new_attempt_has_not_been_interrupted_yet() -> None:
    walk = Walk(function("a", END))
    walk.take_over()
    walk.fail("a#1")
    walk.resume()
    assert walk.run.tokens["a#1"].interruptions == 0


def test_a_take_over_of_a_waiting_run_changes_nothing() -> None:
    walk = Walk(wait("w", "go", END))
    assert walk.take_over() == EMPTY_PATCH


# State.


def test_a_branch_has_a_layer_of_its_own_until_its_join_has_ended() -> None:
    walk = forked()
    walk.finish("f#1[0]/a#1", (b"out", b"5"), sets=(("total", 1),), appends=(("log", 2),))
    assert walk.run.places[""].fields == {}
    assert walk.run.places["f#1[0]/"].fields == {"total": b"5"}
    assert walk.run.places["f#1[0]/"].lengths == {"log": 2}
    walk.finish("f#1[1]/a#1")
    walk.finish("f#1[2]/a#1")
    walk.finish("j#1", (b"out", b"6"), sets=(("total", 1),), appends=(("log", 3),))
    assert walk.run.places[""].fields == {"total": b"6"}
    assert walk.run.places[""].lengths == {"log": 3}
    assert list(walk.run.places) == [""]


def test_layers_are_ordered_from_the_owner_of_the_state_inward() -> None:
    walk = Walk(
        fan_out("f", "s", join="j"),
        frame("s", "s/g", "j"),
        fan_out("s/g", "s/a", join="s/k"),
        function("s/a", "s/k"),
        join("s/k", END),
        join("j", END),
    )
    walk.spread("f#1", 0)
    walk.spread("f#1[0]/s#1[0]/g#1", 0)
    assert walk.run.layers("f#1[0]/s#1[0]/g#1[0]/") == ["f#1[0]/s#1[0]/", "f#1[0]/s#1[0]/g#1[0]/"]


# Purity.


def test_advance_does_not_change_the_run() -> None:
    walk = forked()
    before = repr(walk.run.to_plain())
    advance(walk.shape, walk.run, NodeFinished("f#1[0]/a#1", 1, 9, (b"x",)))
    assert repr(walk.run.to_plain()) == before


def test_a_snapshot_comes_back_from_its_plain_form() -> None:
    walk = forked(timeout_ms=5)
    walk.fail("f#1[1]/a#1")
    plain = walk.run.to_plain()
    assert Snapshot.from_plain(plain).to_plain() == plain
