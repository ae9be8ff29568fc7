"""Reads all that the explanation of a stored run needs."""

from __future__ import annotations

from beluga_graph.inspection.commands import Commands
from beluga_graph.inspection.compatibility import read_shape_of
from beluga_graph.inspection.entered import read_entered
from beluga_graph.inspection.explanation import Circumstances, Driving, explain
from beluga_graph.inspection.unread import count_unread
from beluga_graph.inspection.why import Why
from beluga_graph.storage.loading import detect_contradictions, rebuild
from beluga_graph.storage.records import RunRecord
from stores.base import Store

__all__ = ["explain_run"]


async def explain_run(store: Store, head: RunRecord, driving: Driving, commands: Commands, now_ms: int) -> Why:
    """Return why a run does not go on, as of its last committed step. Raises `RunNotFound`, `DamagedRecord`."""
    run = rebuild(store, head.run_id)
    shape = read_shape_of(store, run)
    around = Circumstances(
        now_ms=now_ms,
        changed_ms=head.updated_ms,
        unread=count_unread(store, run),
        entered=await read_entered(store, run),
        driving=driving,
        commands=commands,
    )
    with detect_contradictions(head.run_id):
        return explain(shape, run, around)
