"""Structural names: what is built is what is split."""

from __future__ import annotations

import pytest

from beluga_graph.kernel.structural_names import (
    RUN_TIMER,
    SCOPE_TIMER,
    TOKEN_TIMER,
    branch_place,
    is_inside,
    scope_timer,
    split_branch_place,
    split_timer,
    token_timer,
)


@pytest.mark.parametrize("scope", ["f#1", "f#1[10]/inside#2", "odd[1]/#name#1"])
def test_a_place_splits_into_its_scope_and_branch(scope: str) -> None:
    assert split_branch_place(branch_place(scope, 12)) == (scope, 12)


def test_a_timer_splits_into_its_kind_and_owner() -> None:
    assert split_timer(token_timer("s:a#1")) == (TOKEN_TIMER, "s:a#1")
    assert split_timer(scope_timer("t:f#1")) == (SCOPE_TIMER, "t:f#1")
    assert split_timer(RUN_TIMER) == (SCOPE_TIMER, "")
    assert scope_timer("") == RUN_TIMER


def test_names_inside_a_scope_do_not_include_those_of_later_visits() -> None:
    assert is_inside("f#1[0]/a#1", "f#1")
    assert is_inside("f#1[0]/", "f#1")
    assert not is_inside("f#1", "f#1")
    assert not is_inside("f#10[0]/a#1", "f#1")
