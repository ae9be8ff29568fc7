"""The rule for the ids of runs on a server, where sessions and outboxes are workflows, too."""

from __future__ import annotations

from beluga_graph.errors import BadRunId
from beluga_graph.execution import run_ids
from beluga_graph.temporal.workflow.server_names import is_reserved_id

__all__ = ["check_run_id"]


def check_run_id(run_id: str) -> str:
    """Return a valid run id. Raises `BadRunId`, also for an id that sessions and outboxes use."""
    run_ids.check_run_id(run_id)
    if is_reserved_id(run_id):
        rule = "on a Temporal server, ids that begin with session: or outbox: are of other workflows"
        raise BadRunId("", f"{run_id!r:.80} is not a run id: {rule}; choose another one")
    return run_id
