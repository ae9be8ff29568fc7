"""Results: how the end of a run reaches the code that waits for it, as an output, an error or an `Outcome`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from beluga_graph.errors import RunCancelled, RunError, RunFailed
from beluga_graph.inspection.views import Outcome, RunStatus
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, Snapshot
from beluga_graph.kernel.types import Value

__all__ = ["outcome_of", "result_of"]


def result_of(run: Snapshot, decode: Callable[[Value | None], Any], cause: BaseException | None) -> Any:
    """Return the output of a completed run.

    `decode` returns a stored value, `cause` is the exception behind the last failure, if this process knows it.
    Raises `RunFailed` or `RunCancelled` for a run that ended otherwise, `RunError` for one that has not ended.
    """
    if run.status == COMPLETED:
        return decode(run.output)
    if run.status == CANCELLED:
        raise RunCancelled(run.run_id, "it was cancelled")
    if run.status == FAILED:
        failure = decode(run.error)
        raise RunFailed(run.run_id, failure.node, failure.attempts, failure) from cause
    raise RunError(run.run_id, "this engine stopped driving it before its end: resume it to go on")


def outcome_of(run: Snapshot, decode: Callable[[Value], Any]) -> Outcome:
    """Return how a run ended. A failure is a part of the outcome, and not raised."""
    return Outcome(
        status=RunStatus(run.status),
        output=decode(run.output) if run.output is not None else None,
        failure=decode(run.error) if run.error is not None and run.status == FAILED else None,
        usage=dict(run.usage),
        steps=run.steps,
        reason=run.reason or None,
    )
