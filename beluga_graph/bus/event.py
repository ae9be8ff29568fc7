"""What goes over a bus, and what a bus tells of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["BusEvent", "DeadLetter", "ObservedEdge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusEvent:
    """One event. To publish it, its topic is enough: the bus fills in what is empty."""

    topic: str
    data: Any = None
    """Decoded afresh for each handler; an instance of a class that the bus does not know is `Unregistered`, which the
    log says once for each topic: make the class known by `EventBus.register`."""
    agent_id: str = ""
    """Who published it."""
    id: str = ""
    """A bus takes an id once: what is published again under it is already there."""
    correlation_id: str = ""
    """What it belongs to: the id of the run, or of the event that began it all."""
    causation_id: str = ""
    """What led to it: the id of an event, or the idempotency key of a node; empty for a beginning."""
    at_ms: int = 0
    position: int | None = None
    """Its place in the bus's order, from 1; none until it is published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that a named subscription's handler refused each time, and that was passed by."""

    subscription: str
    position: int
    event: BusEvent | None
    """None if it cannot be read, or an in-memory bus has forgotten it."""
    error: str
    """Type and message of the last error."""
    tries: int
    at_ms: int


class ObservedEdge(NamedTuple):
    """That somebody was seen to publish to a topic, and to be heard; nobody yet if `subscriber` is empty."""

    publisher: str
    topic: str
    subscriber: str
