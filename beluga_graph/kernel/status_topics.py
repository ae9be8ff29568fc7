"""The topics of the messages about a run's status, for engines that have a bus."""

from __future__ import annotations

from beluga_graph.kernel.snapshot import CANCELLED, COMPLETED, FAILED, WAITING, Snapshot
from beluga_graph.kernel.triggers import RunForked, RunStarted, Trigger

__all__ = ["STARTED_TOPIC", "STATUS_TOPICS", "list_status_topics"]

STARTED_TOPIC = "run.started"
_TOPICS = {
    WAITING: "run.waiting",
    COMPLETED: "run.completed",
    FAILED: "run.failed",
    CANCELLED: "run.cancelled",
}
STATUS_TOPICS = frozenset({STARTED_TOPIC, *_TOPICS.values()})


def list_status_topics(run: Snapshot, trigger: Trigger, before: str) -> list[str]:
    """Return the topics of the messages after a step that has just been applied; `before` is the status before it."""
    topics = [STARTED_TOPIC] if isinstance(trigger, RunStarted | RunForked) else []
    # A fork copies its source's status, which was announced only for the source.
    if (run.status != before or isinstance(trigger, RunForked)) and run.status in _TOPICS:
        topics.append(_TOPICS[run.status])
    return topics
