"""Events of a bus, and the records that a bus keeps about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

__all__ = ["BusEvent", "DeadLetter", "ObservedEdge"]


@dataclass(frozen=True, slots=True, kw_only=True)
class BusEvent:
    """One event. To publish one, a topic is enough: the bus fills in the fields that are empty.

    Attributes:
        topic: The topic that it is published to.
        data: Its value, decoded separately for each handler. An instance of a class that the bus does not know is
            `Unregistered`, and the log reports it once for each topic: make the class known by `EventBus.register`.
        agent_id: The name of its publisher.
        id: Its id. A bus takes each id once; to publish it again returns the first event.
        correlation_id: The id of the run, or of the first event, that this event belongs to.
        causation_id: The id of the event, or the idempotency key of the node, that caused it; empty for a first event.
        at_ms: When it was published, in milliseconds since the epoch.
        position: Its place in the order of the bus, from 1; `None` before it is published.
    """

    topic: str
    data: Any = None
    agent_id: str = ""
    id: str = ""
    correlation_id: str = ""
    causation_id: str = ""
    at_ms: int = 0
    position: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """An event that the handler of a named subscription failed to handle at every try, and that was then skipped.

    Attributes:
        subscription: The name of the subscription.
        position: The position of the event.
        event: The event; `None` if it cannot be read, or an in-memory bus has forgotten it.
        error: The type and message of the last error.
        tries: How often the handler was called with it.
        at_ms: When it was skipped, in milliseconds since the epoch.
    """

    subscription: str
    position: int
    event: BusEvent | None
    error: str
    tries: int
    at_ms: int


class ObservedEdge(NamedTuple):
    """A publisher, a topic that it was seen to publish to, and a subscription that was seen to hear it.

    Attributes:
        publisher: The `agent_id` of the events; empty for events without one.
        topic: The topic.
        subscriber: The label of the subscription; empty if no subscription has heard the topic yet.
    """

    publisher: str
    topic: str
    subscriber: str
