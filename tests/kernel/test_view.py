"""The view of an attempt holds the attempt's part of a run, and nothing else. What attempts read is a property test."""

from __future__ import annotations

import pytest
from stepping import Walk, fan_out, frame, function, join, once, shape, wait

from beluga_graph.kernel.shape import END
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.transition import advance
from beluga_graph.kernel.triggers import RunStarted
from beluga_graph.kernel.view import view_of


def nested() -> Walk:
    """Return a run in a fan-out with a frame in one of its branches."""
    walk = Walk(
        fan_out("f", "a", "b", join="j"),
        function("a", "j"),
        frame("b", "b/inner", "j"),
        function("b/inner", END, retry=once()),
        join("j", END, collect=True),
    )
    walk.spread("f#1", 0, 1)
    return walk


def test_a_view_holds_the_places_and_scopes_around_a_token() -> None:
    walk = nested()
    view = view_of(walk.run, "f#1[1]/b#1[0]/inner#1")
    assert list(view.tokens) == ["f#1[1]/b#1[0]/inner#1"]
    assert sorted(view.places) == ["", "f#1[1]/", "f#1[1]/b#1[0]/"]
    assert sorted(view.scopes) == ["f#1", "f#1[1]/b#1"]
    assert view.layers("f#1[1]/b#1[0]/") == walk.run.layers("f#1[1]/b#1[0]/")
    assert view.layers("f#1[1]/") == walk.run.layers("f#1[1]/")


def test_a_view_of_a_join_holds_its_results_failures_and_branches() -> None:
    walk = nested()
    walk.finish("f#1[0]/a#1", (b"one", b"total"), sets=(("total", 1),))
    walk.fail("f#1[1]/b#1[0]/inner#1")
    view, whole = view_of(walk.run, "j#1"), walk.run.scopes["f#1"]
    scope = view.scopes["f#1"]
    assert (scope.results, scope.failures) == (whole.results, whole.failures) == ({0: b"one"}, whole.failures)
    assert [*whole.failures] == [1]
    assert view.places["f#1[0]/"].fields == {"total": b"total"}
    assert view.places["f#1[1]/"].item == walk.run.places["f#1[1]/"].item == b"out"


def test_a_view_keeps_the_identity_the_input_and_the_limits_of_the_run() -> None:
    run = Snapshot(
        run_id="r",
        plan="f",
        started_ms=5,
        value=b"in",
        context=b"context",
        limits={"max_width": 3},
        session=("flow", "s", 1, 2, 0, "agent", "r"),
        rules=1,
    )
    run.apply(advance(shape(function("a", END)), run, RunStarted(5)))
    view = view_of(run, "a#1")
    kept = ("run_id", "plan", "started_ms", "input", "context", "limits", "session", "rules", "seq", "status", "active")
    for name in kept:
        assert getattr(view, name) == getattr(run, name)
    assert view.limits is not run.limits


def test_a_view_keeps_the_attempt_of_its_token() -> None:
    walk = nested()
    walk.fail("f#1[1]/b#1[0]/inner#1", retryable=True)
    walk.fire("t:f#1[1]/b#1[0]/inner#1")
    token = "f#1[1]/b#1[0]/inner#1"
    assert view_of(walk.run, token).tokens[token] == walk.run.tokens[token]
    assert walk.run.tokens[token].attempt == 2


def test_a_view_changes_with_nothing_that_happens_to_the_run() -> None:
    walk = nested()
    view = view_of(walk.run, "f#1[0]/a#1")
    before = repr(view.to_plain())
    walk.finish("f#1[0]/a#1", (b"one", b"total"), sets=(("total", 1),), appends=(("trail", 2),))
    walk.finish("f#1[1]/b#1[0]/inner#1")
    walk.finish("j#1")
    assert repr(view.to_plain()) == before


def test_a_view_is_as_small_in_a_wide_fan_out_as_in_a_narrow_one() -> None:
    sizes = []
    for width in (2, 40):
        walk = Walk(fan_out("f", "a", join="j"), wait("a", "go", "j"), join("j", END))
        walk.spread("f#1", *[0] * width)
        view = view_of(walk.run, "f#1[1]/a#1")
        sizes.append((len(view.places), len(view.tokens), len(view.waits)))
    assert sizes == [(2, 1, 0)] * 2


def test_a_view_comes_back_from_plain_data() -> None:
    plain = view_of(nested().run, "f#1[1]/b#1[0]/inner#1").to_plain()
    assert Snapshot.from_plain(plain).to_plain() == plain


def test_a_token_that_the_run_does_not_have_has_no_view() -> None:
    with pytest.raises(KeyError):
        view_of(nested().run, "f#1[9]/a#1")
