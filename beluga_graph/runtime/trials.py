"""Trials: nodes that may have ended processes run one after the other. `kernel.interruptions` says which ones do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

__all__ = ["Trials"]

# How long one trial keeps the others waiting. Bounded, because a node may wait for another run that is on trial, too.
_APART_S = 10.0


class Trials:
    """The trials of one engine: one at a time."""

    def __init__(self) -> None:
        self._lock = asyncio.Lock()

    @asynccontextmanager
    async def apart(self) -> AsyncIterator[None]:
        """Wait for earlier trials, then keep later ones waiting until this one ends or has taken 10 seconds."""
        await self._lock.acquire()
        released = False

        def release() -> None:
            nonlocal released
            if not released:
                released = True
                self._lock.release()

        takes_long = asyncio.get_running_loop().call_later(_APART_S, release)
        try:
            yield
        finally:
            takes_long.cancel()
            release()
