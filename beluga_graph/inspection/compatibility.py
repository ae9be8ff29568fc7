"""Compatibility of stored runs with a changed graph: `plan.compatibility` for runs and shapes in a store."""

from __future__ import annotations

from collections.abc import Callable

from beluga_graph.errors import GraphChanged, RunConflict, RunNotFound
from beluga_graph.kernel.shape import Shape
from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, Snapshot
from beluga_graph.kernel.types import Renames
from beluga_graph.plan.compatibility import JudgedChange, assess_changes, suggest_renames
from beluga_graph.plan.declared import is_version_of
from beluga_graph.plan.diff import PlanChange
from beluga_graph.plan.plan import Plan
from beluga_graph.plan.renames import add_question_renames, check_new_names
from beluga_graph.storage.keys import Prefix
from beluga_graph.storage.loading import check_nodes, detect_deletion, rebuild
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.records import RunRecord
from beluga_graph.storage.shapes import read_shape
from stores.base import Store

__all__ = ["assess_run", "assess_runs", "check_changes", "complete_renames", "has_changed", "read_shape_of"]


def has_changed(run: Snapshot, plan: Plan, store: Store, renames: Renames = ()) -> bool:
    """Return whether the graph of a run has changed. Raises `GraphChanged` for an unsafe change, `BadRename`.

    A run that already has this graph has adopted it before, so nothing is left to rename.
    """
    if run.plan == plan.fingerprint:
        check_new_names(plan.shape, renames)
        return False
    check_changes(run, read_shape_of(store, run), plan, renames)
    return True


def check_changes(run: Snapshot, old: Shape, plan: Plan, renames: Renames = ()) -> None:
    """Raise `GraphChanged` if a run cannot go on with a plan in place of its old graph, `BadRename`."""
    unsafe = [found for found in assess_changes(run, old, plan.shape, renames) if not found.safe]
    if unsafe:
        lines = tuple(str(found) for found in unsafe)
        raise GraphChanged(run.run_id, lines, {} if renames else suggest_renames(run, old, plan.shape))


def complete_renames(run: Snapshot, plan: Plan, store: Store, renames: Renames) -> Renames:
    """Return the renames with which a run adopts a plan: those given, and those of the questions about these nodes."""
    return add_question_renames(read_shape_of(store, run), plan.shape, renames) if renames else ()


def assess_run(store: Store, head: RunRecord, plan: Plan, renames: Renames = ()) -> tuple[JudgedChange, ...]:
    """Return the changes from the graph of a run on disk to a plan, each with its consequence for the run.

    Raises `RunConflict` for the plan of another flow, `BadRename`.
    """
    if head.flow != plan.name:
        raise RunConflict(head.run_id, f"it is a run of flow {head.flow!r}, not of {plan.name!r}")
    run = rebuild(store, head.run_id)
    if run.plan == plan.fingerprint:
        check_new_names(plan.shape, renames)
        renames = ()
    return tuple(
        assess_changes(run, read_shape_of(store, run), plan.shape, complete_renames(run, plan, store, renames))
    )


async def assess_runs(
    store: Store, plan: Plan, is_registered: Callable[[str], bool]
) -> dict[str, tuple[JudgedChange, ...]]:
    """Return the unsafe changes for each unfinished run of a flow; an empty tuple if the run can continue.

    That a run has another version of the flow, which is not registered, is such a change.
    """
    unsafe, pace = {}, Pace()
    for key, blob in store.scan(Prefix.RUN):
        head = RunRecord.decode(key, blob)
        if head.flow == plan.name and head.status not in (COMPLETED, CANCELLED):
            try:
                with detect_deletion(store, head.run_id):
                    found = assess_run(store, head, plan)
            except RunNotFound:
                if store.get(key) is not None:
                    raise
            else:
                unsafe[head.run_id] = tuple(change for change in found if not change.safe)
        elif head.status not in (COMPLETED, CANCELLED) and not is_registered(head.flow):
            missing = _find_missing_version(store, head, plan)
            if missing is not None:
                unsafe[head.run_id] = (missing,)
        await pace.turn()
    return unsafe


def _find_missing_version(store: Store, head: RunRecord, plan: Plan) -> JudgedChange | None:
    """Return the change of version for a run of another version of a flow; `None` for a run of another flow."""
    shape = read_shape(store, head.plan) if is_version_of(head.flow, plan.base_name) else None
    if shape is None or shape.base_name != plan.base_name:  # a name may contain @, too
        return None
    change = PlanChange(node="", what="version", before=shape.version, after=plan.shape.version)
    return JudgedChange(change=change, safe=False, why="the run keeps its version, so register that one too")


def read_shape_of(store: Store, run: Snapshot) -> Shape:
    """Return the shape of a run's graph. Raises `RunNotFound`, `DamagedRecord`."""
    shape = read_shape(store, run.plan)
    if shape is None:
        raise RunNotFound(run.run_id, f"the shape {run.plan} of its graph is missing from the store")
    check_nodes(run, shape)
    return shape
