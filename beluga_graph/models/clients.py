"""One client per event loop, because a connection belongs to the loop that opened it. Clients are made in a thread."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncGenerator, Callable
from typing import Generic, Protocol, TypeVar

__all__ = ["LoopClients"]


class _Client(Protocol):
    def is_closed(self) -> bool: ...

    async def close(self) -> None: ...


C = TypeVar("C", bound=_Client)


class LoopClients(Generic[C]):
    """Makes a client at the first use in each event loop and closes it with that loop.

    `make` runs in a thread: it may import an SDK, which takes a second or more, and the loop continues meanwhile.

    `asyncio.run` finishes the async generators that began in its loop. So the client is kept in one, and a program
    without `aclose` leaves no connection open. The clients of a model that is garbage collected are closed soon after.
    """

    def __init__(self, make: Callable[[], C]) -> None:
        self._make = make
        self._kept: dict[asyncio.AbstractEventLoop, tuple[C, AsyncGenerator[C, None]]] = {}
        # Garbage is finalized in any order, for example a socket before its client. Held here, a client is released
        # after the model, and its loop finishes the generator, which closes the client.
        weakref.finalize(self, self._kept.clear).atexit = False
        self._lock = threading.Lock()  # one model may serve engines in several threads
        self._making: dict[asyncio.AbstractEventLoop, asyncio.Lock] = {}

    async def get(self) -> C:
        """Return the running loop's client. Raises what `make` raises."""
        loop = asyncio.get_running_loop()
        client = self._open_client(loop)
        if client is not None:
            return client
        async with self._maker(loop):
            client = self._open_client(loop)  # made for another task, while this one waited
            if client is not None:
                return client
            keeper = _keep(await asyncio.to_thread(self._make))
            client = await anext(keeper)
            with self._lock:
                self._kept[loop] = client, keeper
        return client

    def _open_client(self, loop: asyncio.AbstractEventLoop) -> C | None:
        with self._lock:
            for known in (self._kept, self._making):
                for other in [other for other in known if other.is_closed()]:
                    del known[other]
            kept = self._kept.get(loop)
        return kept[0] if kept is not None and not kept[0].is_closed() else None

    def _maker(self, loop: asyncio.AbstractEventLoop) -> asyncio.Lock:
        with self._lock:
            return self._making.setdefault(loop, asyncio.Lock())

    async def aclose(self) -> None:
        """Close the running loop's client; the next use makes a new one. Other loops close their own clients."""
        with self._lock:
            kept = self._kept.pop(asyncio.get_running_loop(), None)
        if kept is not None:
            await kept[1].aclose()


async def _keep(client: C) -> AsyncGenerator[C, None]:
    try:
        yield client
    finally:
        await client.close()
