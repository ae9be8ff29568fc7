"""Drain a bus whose clock a test owns."""

import asyncio

from beluga_graph import EventBus
from beluga_graph.testing import VirtualClock

__all__ = ["drain_as_time_passes"]


async def drain_as_time_passes(bus: EventBus, clock: VirtualClock) -> None:
    """Advance the clock until the bus is drained: a slow store begins the pause between two attempts late."""
    drained = asyncio.ensure_future(bus.drain())
    while not drained.done():
        await clock.advance(0.5)
        await asyncio.sleep(0.001)
    await drained
