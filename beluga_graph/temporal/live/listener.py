"""The listener: receives live records from workers that connect to this process. It closes all other connections."""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable

from beluga_graph.temporal.live.protocol import FRAME_BYTES, ProtocolError, authenticate_as_listener, read_frame
from beluga_graph.temporal.live.record import LiveRecord

__all__ = ["Listener"]

_UNAUTHENTICATED_MAX = 64  # connections at a time
_SECRET_BYTES = 32


class Listener:
    """Listens on one address, from its first use until it is closed.

    Attributes:
        secret: Workers receive it with their work, so that only they can connect.
    """

    def __init__(self, host: str, port: int, on_record: Callable[[LiveRecord], None]) -> None:
        self._host, self._port, self._on_record = host, port, on_record
        self._server: asyncio.Server | None = None
        self._lock = asyncio.Lock()
        self._unauthenticated = 0
        self._connections: set[asyncio.Task[None]] = set()
        self.secret = secrets.token_bytes(_SECRET_BYTES)

    async def open(self) -> str:
        """Listen, unless this listener does already; return the address. Raises `OSError` if that fails."""
        async with self._lock:
            if self._server is None:
                self._server = await asyncio.start_server(self._accept, self._host, self._port, limit=FRAME_BYTES)
                self._port = self._server.sockets[0].getsockname()[1]
        return f"{self._host}:{self._port}"

    async def close(self) -> None:
        """Stop listening and close all connections. Idempotent."""
        if self._server is not None:
            self._server.close()
            self._server = None
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        try:
            await self._serve(reader, writer)
        except (ProtocolError, EOFError, OSError, asyncio.CancelledError):  # and `TimeoutError`, which is an `OSError`
            pass  # the connection is over, and no text is lost: that of a finished node comes with its step
        finally:
            self._connections.discard(task)
            writer.close()
            with contextlib.suppress(OSError, asyncio.CancelledError):
                await writer.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._unauthenticated >= _UNAUTHENTICATED_MAX:
            return
        self._unauthenticated += 1
        try:
            await authenticate_as_listener(reader, writer, self.secret)
        finally:
            self._unauthenticated -= 1
        while True:
            frame = await read_frame(reader)
            if not isinstance(frame, tuple):
                return
            try:
                records = [LiveRecord.from_plain(plain) for plain in frame]
            except ValueError:
                return
            for record in records:
                self._on_record(record)
