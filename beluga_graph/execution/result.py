"""The result of an attempt: the trigger for the run, and the data that is committed with its step."""

from __future__ import annotations

from typing import NamedTuple

from beluga_graph.kernel.triggers import NodeFailed, NodeFinished

__all__ = ["MESSAGES_MAX", "AttemptResult", "NewItems", "PendingMessage"]

MESSAGES_MAX = 10_000  # of one attempt


class NewItems(NamedTuple):
    """New items of one append field."""

    place: str
    field: str
    items: list[bytes]
    """Encoded; a large item is a reference."""


class PendingMessage(NamedTuple):
    """A message that a node publishes, as its attempt collects it."""

    topic: str
    agent_id: str
    value: bytes
    """Encoded; a large value is a reference."""


class AttemptResult(NamedTuple):
    """How an attempt ended: the trigger, and the data that goes to the store beside it."""

    trigger: NodeFinished | NodeFailed
    blobs: tuple[tuple[bytes, bytes], ...] = ()
    """Large values: the reference that the trigger holds in place of each, and its encoded bytes."""
    items: tuple[NewItems, ...] = ()
    error: BaseException | None = None
    """The exception behind a failed attempt."""
    messages: tuple[PendingMessage, ...] = ()
    """Messages to publish once the step is committed."""
