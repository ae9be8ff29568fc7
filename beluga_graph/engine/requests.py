"""Requests: the arguments that start a run, checked and encoded when they enter the engine."""

from __future__ import annotations

from typing import Any, NamedTuple

from beluga_graph.codec.references import digest_of
from beluga_graph.execution.same_run import check_same_flow, check_same_input
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.plan.plan import Plan
from beluga_graph.policy import Limits
from beluga_graph.storage.loading import RunReader
from beluga_graph.storage.records import RunRecord

__all__ = ["EncodedValue", "StartRequest", "check_same", "encode_values"]


class EncodedValue(NamedTuple):
    """A value that was encoded before, when it was given to a schedule."""

    encoded: bytes


class StartRequest(NamedTuple):
    """The arguments of a call that starts a run."""

    plan: Plan
    value: Any
    context: Any
    limits: Limits | None
    session: str | None = None


def encode_values(
    plan: Plan, reader: RunReader, *values: Any, limit: int | None = None
) -> tuple[list[bytes], list[tuple[bytes, bytes]]]:
    """Encode values from outside. Return each value or the reference to it, and the references with large values.

    `limit` is the run's own bound in bytes, if it is lower than its graph's. Raises `NotData`, `LimitReached`.
    """
    references, blobs = [], []
    for value in values:
        encoded = value.encoded if type(value) is EncodedValue else plan.encode(value, limit)
        references.append(reader.to_reference(encoded))
        if references[-1] is not encoded:
            blobs.append((references[-1], encoded))
    return references, blobs


def check_same(head: RunRecord, snapshot: Snapshot, request: StartRequest | None) -> None:
    """Raise `RunConflict` if a run belongs to another flow or has another input than a request to start it."""
    if request is None:
        return
    check_same_flow(head.run_id, head.flow, request.plan.name)
    assert isinstance(snapshot.input, bytes)
    check_same_input(head.run_id, digest_of(snapshot.input), digest_of(request.plan.encode(request.value)))
