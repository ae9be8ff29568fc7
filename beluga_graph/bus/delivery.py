"""Deliveries: the queue of one subscription, and the call of its handler that is under way."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, Protocol, TypeAlias

from beluga_graph.bus.event import BusEvent

__all__ = ["Delivery", "Handler", "HandlerQueue", "Subscriber", "active_delivery", "current_delivery"]

Handler: TypeAlias = Callable[[BusEvent], Any]
"""A function of an event, sync or async."""


class HandlerQueue:
    """The events that this process has published and that one subscription still has to handle.

    The events themselves are in the log; this holds their positions. Its length is bounded, because publishers wait
    while it is full.
    """

    __slots__ = ("_length_max", "_positions", "expected", "is_closed", "waits_for")

    def __init__(self, length_max: int) -> None:
        self.expected = 0  # events that have room here and are just being written to the log
        self.is_closed = False  # the subscription handles nothing more, so no publisher needs to wait
        self.waits_for: list[HandlerQueue] = []  # queues that the handler of this one waits for, to publish
        self._length_max = length_max
        self._positions: deque[int] = deque()

    def __len__(self) -> int:
        return len(self._positions)

    @property
    def has_room(self) -> bool:
        """Whether another event may be published that the subscription has to handle."""
        return self.is_closed or len(self._positions) + self.expected < self._length_max

    @property
    def positions(self) -> set[int]:
        """The positions of the events in this queue."""
        return set(self._positions)

    def add(self, position: int) -> None:
        """Add an event that was published."""
        self._positions.append(position)

    def remove_up_to(self, position: int) -> None:
        """Remove the events up to a position: they are handled."""
        while self._positions and self._positions[0] <= position:
            self._positions.popleft()

    def close(self) -> None:
        """Remove all events and always have room. Idempotent."""
        self.is_closed = True
        self._positions.clear()

    def depends_on(self, other: HandlerQueue) -> bool:
        """Return whether room in this queue depends, directly or indirectly, on the handler of `other`."""
        todo, seen = [self], {id(self)}
        while todo:
            found = todo.pop()
            if found is other:
                return True
            for waited in found.waits_for:
                if id(waited) not in seen:
                    seen.add(id(waited))
                    todo.append(waited)
        return False


class Subscriber(Protocol):
    """The subscription behind a delivery."""

    @property
    def queue(self) -> HandlerQueue:
        """Its queue."""

    @property
    def host(self) -> object:
        """The dispatcher that it belongs to."""

    def cancel(self) -> None:
        """Handle nothing more."""


class Delivery:
    """One call of a handler. Events that are published from within it are caused by its event."""

    __slots__ = ("event", "is_active", "subscriber")

    def __init__(self, subscriber: Subscriber, event: BusEvent) -> None:
        self.subscriber, self.event = subscriber, event
        self.is_active = True  # until the handler returns; tasks that it started keep its context after that


active_delivery: ContextVar[Delivery | None] = ContextVar("beluga_graph_bus_delivery", default=None)
"""The call of a handler that the running code is part of."""


def current_delivery() -> Delivery | None:
    """Return the call of a handler that the caller is part of, if any."""
    return active_delivery.get()
