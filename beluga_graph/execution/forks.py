"""Checks and edits the state that a fork begins with; needs no store."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from beluga_graph.errors import RunConflict, StateError
from beluga_graph.execution.result import NewItems
from beluga_graph.execution.state_view import AttemptState
from beluga_graph.execution.stored_values import StoredValues, ValueSource
from beluga_graph.kernel.ops import APPEND_ITEMS, SET_FIELD
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Op, Patch, Value
from beluga_graph.plan.plan import Plan

__all__ = ["StateEdit", "check_forkable", "edit_state"]


class StateEdit(NamedTuple):
    """Changes of a fork's state: a patch for its snapshot, and the data to store beside it."""

    patch: Patch
    items: tuple[NewItems, ...]
    blobs: tuple[tuple[bytes, bytes], ...]
    """Large values: the reference that the patch or an item holds in place of each, and its encoded bytes."""


def check_forkable(run: Snapshot) -> None:
    """Raise `RunConflict` if a run has not begun, or has ended: a fork of it would have no work."""
    if run.ended:
        raise RunConflict(run.run_id, f"after step {run.seq} it is {run.status}: fork it from an earlier step")
    if not run.tokens:
        message = "before step 1 it has not begun: fork it from a later step, or start a new run"
        raise RunConflict(run.run_id, message)


def edit_state(
    run: Snapshot, plan: Plan, source: ValueSource, *, replace: Mapping[str, Any], update: Mapping[str, Any]
) -> StateEdit:
    """Return the changes that replace fields of the run's own state, and then update fields through their reducers.

    `source` reads the values and items of the run that is forked. Replaced values are dropped from the snapshot at
    once; the patch makes all other changes. Raises `StateError`, `NotData`, `LimitReached`.
    """
    if plan.state is None:
        raise StateError(run.run_id, f"graph {plan.name!r} has no state to update")
    state = AttemptState(plan.state, run, "", _Reader(plan, source), source.known_items)
    state.replace(replace)
    state.update(dict(update))
    blobs: list[tuple[bytes, bytes]] = []

    def store_encoded(encoded: bytes) -> bytes:
        stored = source.to_reference(encoded)
        if stored is not encoded:
            blobs.append((stored, encoded))
        return stored

    changes = state.changes(store_encoded)
    sets: list[Op] = [(SET_FIELD, "", field, number) for field, number in changes.sets]
    appends: list[Op] = [(APPEND_ITEMS, "", field, count) for field, count in changes.appends]
    items = tuple([NewItems("", field, new) for field, new in changes.items])
    return StateEdit(Patch(changes.values, (*sets, *appends), ()), items, tuple(blobs))


class _Reader:
    """Reads the source's values and items, and encodes those of the fork."""

    def __init__(self, plan: Plan, source: ValueSource) -> None:
        self._plan, self._values = plan, StoredValues(plan.codec, source)

    def decode(self, value: Value) -> Any:
        return self._values.decode(value)

    def encode(self, value: Any) -> bytes:
        return self._plan.encode(value)

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        return self._values.source.read_items(place, field, start, stop)
