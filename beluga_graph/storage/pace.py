"""The pace of a long read of a store: the event loop turns after each slice of records."""

from __future__ import annotations

import asyncio
import time

__all__ = ["SLICE_RECORDS", "Pace"]

SLICE_RECORDS = 256
_SLICE_S = 0.005  # records differ in size


class Pace:
    """Lets the event loop turn during work on an unbounded number of records.

    Slices are read at different moments: another task may commit between two of them. Use it if each record can be
    judged by itself, or is read again before it is acted on.
    """

    __slots__ = ("_began", "_count")

    def __init__(self) -> None:
        self._count = 0
        self._began = time.perf_counter()

    async def turn(self) -> None:
        """Let the loop turn if the slice is over. Call this after each record that was read, including skipped ones."""
        self._count += 1
        if self._count >= SLICE_RECORDS or time.perf_counter() - self._began > _SLICE_S:
            await asyncio.sleep(0)
            self._count, self._began = 0, time.perf_counter()
