"""Node tasks: the asyncio tasks of one engine that make attempts, and the count of those that are in flight."""

from __future__ import annotations

import asyncio

__all__ = ["InFlight", "NodeTask"]


class InFlight:
    """The number of attempts that are under way or about to begin: their steps may still join the next commit."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0


class NodeTask:
    """A task that makes attempts, one after the other: it goes on from a node to the next one.

    Attributes:
        is_queued: Whether it waits for a place among the attempts that the engine makes at a time.
    """

    __slots__ = ("_in_flight", "_is_counted", "is_queued", "is_started", "task")

    task: asyncio.Task[None]

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._is_counted = False
        self.is_started = False
        self.is_queued = False
        self.enter()

    def enter(self) -> None:
        """Count as in flight, until `leave`."""
        self._is_counted = True
        self._in_flight.count += 1

    def leave(self) -> None:
        """Stop counting as in flight. Idempotent."""
        if self._is_counted:
            self._is_counted = False
            self._in_flight.count -= 1

    def stop(self) -> None:
        """Cancel the task. One that has not started never runs its own `leave`, so leave for it."""
        self.task.cancel()
        if not self.is_started:
            self.leave()
