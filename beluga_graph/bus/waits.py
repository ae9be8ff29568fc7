"""What waits at a bus: publishers for room in a queue, and drains for everything to be handled."""

from __future__ import annotations

import asyncio

from beluga_graph.bus.subscription import Delivery, Subscription

__all__ = ["Drain", "room"]


async def room(target: Subscription, place: asyncio.Future[None], here: Delivery | None) -> None:
    """Wait for room in a queue, unless room depends on the handler that publishes."""
    if here is None or not here.active:
        await place
        return
    publisher = here.subscription
    if target.depends_on(publisher):
        if not place.done():
            target.waive(place)
        return
    publisher.waits_for.append(target)
    try:
        await place
    finally:
        publisher.waits_for.remove(target)


class Drain:
    """Somebody who waits until everything up to a position is handled."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def done(self) -> None:
        """Everything is."""
        if not self.over.done():
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        """It never will be."""
        if not self.over.done():
            self.over.set_exception(error)
