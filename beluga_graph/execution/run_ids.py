"""The rule for the ids of runs."""

from __future__ import annotations

from beluga_graph.errors import BadRunId
from beluga_graph.kernel.names import is_blank, is_name

__all__ = ["check_run_id"]


def check_run_id(run_id: str) -> str:
    """Return a valid run id: 1 to 200 printable characters without path separators. Raises `BadRunId`."""
    if not is_name(run_id) or "/" in run_id or "\\" in run_id or is_blank(run_id.strip(". ")):
        rule = "a run id is 1 to 200 printable characters without / \\, not all of them blank, and not . or .."
        raise BadRunId("", f"{run_id!r:.80} is not a run id: {rule}")
    return run_id
