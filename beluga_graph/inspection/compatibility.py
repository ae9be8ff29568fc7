"""Compatibility of stored runs with a changed graph: `plan.compatibility` for runs and shapes in a store."""

from __future__ import annotations

from beluga_graph.errors import GraphChanged, RunConflict, RunNotFound
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, Snapshot
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.compatibility import JudgedChange, assess_changes, suggest_renames
from beluga_graph.plan.plan import Plan
from beluga_graph.plan.renames import add_question_renames, check_new_names
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.loading import check_nodes, detect_deletion, rebuild
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.shapes import read_shape
from stores.base import Store

__all__ = ["adopted_renames", "broken_by", "difference_for", "has_changed"]


def has_changed(run: Snapshot, plan: Plan, store: Store, renames: Renames = ()) -> bool:
    """Tell whether a run's graph has changed. Raises `GraphChanged` if it did where the run stands, `BadRename`.

    A run that stands in this very graph has adopted it before, so there is nothing left to rename.
    """
    if run.plan == plan.fingerprint:
        check_new_names(plan.shape, renames)
        return False
    old = _shape_of(store, run)
    unsafe = [found for found in assess_changes(run, old, plan.shape, renames) if not found.safe]
    if unsafe:
        lines = tuple(str(found) for found in unsafe)
        raise GraphChanged(run.run_id, lines, {} if renames else suggest_renames(run, old, plan.shape))
    return True


def adopted_renames(run: Snapshot, plan: Plan, store: Store, renames: Renames) -> Renames:
    """Return the renames with which a run adopts a plan: what asks about a renamed node goes with it."""
    return add_question_renames(_shape_of(store, run), plan.shape, renames) if renames else ()


def difference_for(store: Store, head: RunRecord, plan: Plan, renames: Renames = ()) -> tuple[JudgedChange, ...]:
    """Return what is otherwise in a plan for a run as it is on disk. Raises `RunConflict` for another flow's plan."""
    if head.flow != plan.name:
        raise RunConflict(head.run_id, f"it is a run of flow {head.flow!r}, not of {plan.name!r}")
    run = rebuild(store, head.run_id)
    if run.plan == plan.fingerprint:
        check_new_names(plan.shape, renames)
        renames = ()
    return tuple(assess_changes(run, _shape_of(store, run), plan.shape, adopted_renames(run, plan, store, renames)))


async def broken_by(store: Store, plan: Plan) -> dict[str, tuple[JudgedChange, ...]]:
    """Return for every unfinished run of a flow which changes it could not go on with: none, or some."""
    broken, pace = {}, Pace()
    for key, blob in store.scan(Prefix.RUN):
        head = RunRecord.decode(key, blob)
        if head.flow == plan.name and head.status not in (COMPLETED, CANCELLED):
            try:
                with detect_deletion(store, head.run_id):
                    found = difference_for(store, head, plan)
            except RunNotFound:
                if store.get(key) is not None:
                    raise
            else:
                broken[head.run_id] = tuple(change for change in found if not change.safe)
        await pace.turn()
    return broken


def _shape_of(store: Store, run: Snapshot) -> Shape:
    shape = read_shape(store, run.plan)
    if shape is None:
        raise RunNotFound(run.run_id, f"the shape {run.plan} of its graph is missing from the store")
    check_nodes(run, shape)
    return shape
