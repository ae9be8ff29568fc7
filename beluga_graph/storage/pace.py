"""The pace of a long look at a store: a slice of records at a time, and the event loop turns between two slices."""

from __future__ import annotations

import asyncio
import time

__all__ = ["SLICE_RECORDS", "Pace"]

SLICE_RECORDS = 256
_SLICE_S = 0.005  # records differ in size


class Pace:
    """Lets the loop turn now and then under work on many records, whose end is not in sight.

    What is read in slices is not of one moment: another task may commit between two of them. Use it where each
    record can be judged by itself, or is looked at again before anything is made of it.
    """

    __slots__ = ("_began", "_count")

    def __init__(self) -> None:
        self._count = 0
        self._began = time.perf_counter()

    async def turn(self) -> None:
        """Let the loop turn if the slice is over. Call it after each record that was read, passed by or not."""
        self._count += 1
        if self._count >= SLICE_RECORDS or time.perf_counter() - self._began > _SLICE_S:
            await asyncio.sleep(0)
            self._count, self._began = 0, time.perf_counter()
