"""The pace of an answer: the time that its pieces may block the event loop."""

from __future__ import annotations

import asyncio

__all__ = ["Pace"]

_TURN_S = 0.002


class Pace:
    """Lets the event loop turn while an answer is read that arrived in one burst.

    Reading such an answer never waits for the network, so it would block the loop until its end.
    """

    __slots__ = ("_loop", "_turned_at")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turned_at = self._loop.time()

    @property
    def is_due(self) -> bool:
        """Whether the loop has been blocked for 2 ms, so that the caller should await `turn`."""
        return self._loop.time() - self._turned_at >= _TURN_S

    async def turn(self) -> None:
        """Let the loop turn once."""
        await asyncio.sleep(0)
        self._turned_at = self._loop.time()
