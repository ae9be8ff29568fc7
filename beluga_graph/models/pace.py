"""The pace of an answer: how long its pieces may keep the event loop for themselves."""

from __future__ import annotations

import asyncio

__all__ = ["Pace"]

_TURN_S = 0.002


class Pace:
    """Lets the event loop turn while an answer that came in one burst is read.

    Such an answer never waits for the network, so reading it would block the loop until its end.
    """

    __slots__ = ("_loop", "_turned_at")

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._turned_at = self._loop.time()

    @property
    def is_due(self) -> bool:
        """Whether the loop has been kept for 2 ms: then the caller awaits `turn`."""
        return self._loop.time() - self._turned_at >= _TURN_S

    async def turn(self) -> None:
        """Let the loop turn once."""
        await asyncio.sleep(0)
        self._turned_at = self._loop.time()
