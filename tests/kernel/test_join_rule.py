"""The rule of a join, apart from the runs that it decides."""

from __future__ import annotations

from typing import Any

import pytest

from beluga_graph.kernel.join_rule import can_succeed, failure_of, joined_results, runs_now, successes_needed
from beluga_graph.kernel.shape import JOIN, NodeShape
from beluga_graph.kernel.tokens import Scope
from beluga_graph.kernel.types import FailureFields

CAUSE: FailureFields = ("a", "ValueError", "no", 2, b"input")


def join(**more: Any) -> NodeShape:
    return NodeShape(name="j", local="j", kind=JOIN, **more)


def test_a_join_needs_the_successes_it_waits_for_or_all() -> None:
    assert successes_needed(None, 3) == 3
    assert successes_needed(2, 3) == 2


@pytest.mark.parametrize(
    ("more", "succeeded", "failed", "runs"),
    [
        ({}, 2, 0, False),
        ({}, 3, 0, True),
        ({"wait": 2}, 1, 1, False),
        ({"wait": 2}, 2, 0, True),
        ({"collect": True}, 2, 0, False),
        ({"collect": True}, 1, 2, True),
        ({"wait": 2, "collect": True}, 0, 3, True),
    ],
)
def test_a_join_runs_when_it_has_its_successes_or_all_branches_ended(
    more: dict[str, Any], succeeded: int, failed: int, runs: bool
) -> None:
    assert runs_now(join(**more), 3, succeeded, failed) is runs


@pytest.mark.parametrize(
    ("more", "width", "failed", "can"),
    [
        ({}, 3, 0, True),
        ({}, 3, 1, False),
        ({"wait": 2}, 3, 1, True),
        ({"wait": 2}, 3, 2, False),
        ({"wait": 2}, 1, 0, False),
        ({"wait": 2}, 0, 0, True),
        ({"wait": 2, "collect": True}, 1, 1, True),
        ({"collect": True}, 3, 3, True),
    ],
)
def test_a_join_can_succeed_while_enough_branches_have_not_failed(
    more: dict[str, Any], width: int, failed: int, can: bool
) -> None:
    assert can_succeed(join(**more), width, failed) is can


def test_a_join_that_needs_all_branches_fails_as_the_branch_did() -> None:
    assert failure_of(join(), 3, 1, CAUSE) == CAUSE


def test_a_join_out_of_reach_says_how_many_branches_failed_and_why() -> None:
    message = "join 'j' needs 2 successes and 2 of 3 branches failed; the last failure: ValueError: no"
    assert failure_of(join(wait=2), 3, 2, CAUSE) == ("j", "JoinUnreachable", message, 1, b"input")


def test_a_join_of_too_few_branches_says_how_many_there_are() -> None:
    message = "join 'j' needs 2 successes and it has 1 branches"
    assert failure_of(join(wait=2), 1, 0, None) == ("j", "JoinUnreachable", message, 1, None)


def test_only_a_join_that_collects_failures_gets_them() -> None:
    scope = Scope("f", "", False, 2, b"", 1)
    scope.results, scope.failures = {1: b"out"}, {0: CAUSE}
    assert joined_results(join(wait=1), scope) == {1: b"out"}
    assert joined_results(join(collect=True), scope) == {0: CAUSE, 1: b"out"}
