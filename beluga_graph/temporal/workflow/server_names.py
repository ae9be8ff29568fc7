"""The names of this package on the server: ids of sessions and outboxes, and the task queue of the bus."""

from __future__ import annotations

from hashlib import sha256

__all__ = ["is_reserved_id", "outbox_workflow_id", "publish_queue", "session_workflow_id"]

_SESSION_ID, _OUTBOX_ID = "session:", "outbox:"  # prefixes of the ids of these workflows


def publish_queue(task_queue: str) -> str:
    """Return the task queue from which workers that have a bus take messages, whatever flows they serve."""
    return f"{task_queue}/bus"


def session_workflow_id(task_queue: str, flow: str, session_id: str) -> str:
    """Return the id of the workflow that keeps a session. The session's name may be of any length.

    The workers of a task queue keep its sessions, so each task queue has sessions of its own.
    """
    named = f"{task_queue}\n{session_id}".encode("utf-8", "surrogatepass")
    return f"{_SESSION_ID}{flow}:{sha256(named).hexdigest()[:32]}"


def outbox_workflow_id(run_id: str, created_ms: int) -> str:
    """Return the id of the workflow that keeps the messages of a run until a bus has them.

    A later run of the same id has an outbox of its own: it has other messages.
    """
    return f"{_OUTBOX_ID}{run_id}:{created_ms}"


def is_reserved_id(run_id: str) -> bool:
    """Return whether a workflow of this id keeps a session or messages, and so cannot be a run."""
    return run_id.startswith((_SESSION_ID, _OUTBOX_ID))
