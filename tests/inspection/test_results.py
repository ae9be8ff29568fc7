"""The end of a run becomes an output, an error or an `Outcome`."""

from __future__ import annotations

from typing import Any

import pytest

from beluga_graph import Failure, Outcome, RunCancelled, RunError, RunFailed, RunStatus
from beluga_graph.inspection.results import outcome_of, result_of
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, RUNNING, WAITING, Snapshot

FAILURE = Failure("pay", "ValueError", "too much", 3)
VALUES = {b"out": 42, b"failure": FAILURE}


def ended(status: str, **fields: Any) -> Snapshot:
    run = Snapshot(run_id="r", plan="p", started_ms=0, value=b"in")
    run.status = status
    for name, value in fields.items():
        setattr(run, name, value)
    return run


def decode(value: Any) -> Any:
    return VALUES[value]


def test_the_result_of_a_completed_run_is_its_output() -> None:
    assert result_of(ended(COMPLETED, output=b"out"), decode, ValueError("an attempt before")) == 42


def test_the_result_of_a_failed_run_is_raised_with_its_cause() -> None:
    cause = ValueError("too much")
    with pytest.raises(RunFailed) as caught:
        result_of(ended(FAILED, error=b"failure"), decode, cause)
    error = caught.value
    assert (error.run_id, error.node, error.attempt, error.cause) == ("r", "pay", 3, FAILURE)
    assert error.__cause__ is cause


def test_the_cause_of_a_failure_is_empty_in_another_process() -> None:
    with pytest.raises(RunFailed) as caught:
        result_of(ended(FAILED, error=b"failure"), decode, None)
    assert caught.value.__cause__ is None


def test_a_cancelled_run_raises_even_if_it_had_failed_before() -> None:
    with pytest.raises(RunCancelled, match="it was cancelled"):
        result_of(ended(CANCELLED, error=b"failure"), decode, None)


@pytest.mark.parametrize("status", [RUNNING, WAITING])
def test_a_run_that_has_not_ended_has_no_result(status: str) -> None:
    with pytest.raises(RunError, match="before its end: resume it"):
        result_of(ended(status), decode, None)


def test_the_outcome_of_a_completed_run_has_its_output_and_sums() -> None:
    run = ended(COMPLETED, output=b"out", usage={"model_calls": 2}, steps=4, reason="limit")
    outcome = outcome_of(run, decode)
    assert outcome == Outcome(status=RunStatus.completed, output=42, usage={"model_calls": 2}, steps=4, reason="limit")
    run.usage["model_calls"] += 1
    assert outcome.usage == {"model_calls": 2}, "it is a copy"


def test_the_outcome_of_a_failed_run_contains_the_failure() -> None:
    assert outcome_of(ended(FAILED, error=b"failure", steps=1), decode) == Outcome(
        status=RunStatus.failed, failure=FAILURE, steps=1
    )


def test_the_outcome_of_a_run_that_was_cancelled_after_a_failure_has_none() -> None:
    assert outcome_of(ended(CANCELLED, error=b"failure"), decode) == Outcome(status=RunStatus.cancelled)
