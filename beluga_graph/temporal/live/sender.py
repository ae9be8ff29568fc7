"""The senders of a worker: one connection to each process that began runs of it, as a side channel of the server.

No node waits for a connection, or fails because of one. A sender connects when the first attempt begins that has
its address, and then sends the pieces that were emitted meanwhile. If the other side is gone, or is too slow, the
pieces are not sent: the whole text of each node comes with its step.
"""

from __future__ import annotations

import asyncio
import contextlib

from beluga_graph.temporal.live.protocol import FRAME_BYTES, ProtocolError, authenticate_as_worker, pack_frame
from beluga_graph.temporal.live.text import LiveText

__all__ = ["LiveSender", "LiveSenders"]

_SENDERS_MAX = 256
_CONNECT_S = 5.0
_RECONNECT_S = 10.0  # after a connection was refused or lost
_ENDED_MAX = 100  # texts of attempts that have ended while the connection was being made
_UNSENT_BYTES_MAX = 1 << 20  # in the buffer of a connection; more pieces are kept back
_CHARS_MAX = FRAME_BYTES // 8  # of the text in a frame: a character has at most four bytes


class LiveSender:
    """One connection, made when it is needed.

    Attributes:
        is_ready: Whether records reach the other side.
    """

    def __init__(self, address: str, secret: bytes) -> None:
        self._host, _, self._port = address.rpartition(":")
        self._secret = secret
        self._sent: dict[LiveText, int] = {}  # by attempt: how many of its pieces were sent
        self._writer: asyncio.StreamWriter | None = None
        self._task: asyncio.Task[None] | None = None
        self._reconnect_at = 0.0
        self.is_ready = False

    @property
    def is_idle(self) -> bool:
        """Whether this sender has nothing to send and no connection."""
        return not self._sent and self._task is None

    def on_changed(self, text: LiveText) -> None:
        """Send the new pieces of an attempt, or keep them until the connection is made."""
        loop = asyncio.get_running_loop()
        if self._task is None and not text.is_over and loop.time() >= self._reconnect_at:
            self._task = loop.create_task(self._connect())
        if self.is_ready:
            self._send(text)
        elif self._task is not None or not text.is_over:
            self._sent.setdefault(text, 0)
        if text.is_over and (self.is_ready or self._task is None or len(self._sent) > _ENDED_MAX):
            self._sent.pop(text, None)

    async def close(self) -> None:
        """Close the connection. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _connect(self) -> None:
        """Connect, and wait for the end of the connection."""
        try:
            async with asyncio.timeout(_CONNECT_S):
                reader, self._writer = await asyncio.open_connection(self._host, int(self._port), limit=FRAME_BYTES)
            await authenticate_as_worker(reader, self._writer, self._secret)
            self.is_ready = True
            for text in list(self._sent):
                self._send(text)
            self._drop_ended()
            await reader.read(1)  # returns at the end of the connection: the other side sends nothing more
        except (ProtocolError, EOFError, OSError, ValueError):
            pass  # heartbeats may carry the text; see `Progress`
        finally:
            self.is_ready = False
            self._reconnect_at = asyncio.get_running_loop().time() + _RECONNECT_S
            self._drop_ended()
            self._sent = dict.fromkeys(self._sent, 0)
            self._task = None
            if self._writer is not None:
                writer, self._writer = self._writer, None
                writer.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()

    def _drop_ended(self) -> None:
        self._sent = {text: count for text, count in self._sent.items() if not text.is_over}

    def _send(self, text: LiveText) -> None:
        """Send the pieces that were not sent yet, unless the other side reads too slowly."""
        writer = self._writer
        assert writer is not None
        if writer.is_closing() or writer.transport.get_write_buffer_size() > _UNSENT_BYTES_MAX:
            return
        chars, first = 0, self._sent.get(text, 0)
        for index, piece in enumerate(text.pieces[first:], first):
            if len(piece) > _CHARS_MAX:
                return  # a follower shows the rest when the node has finished
            if (chars := chars + len(piece)) > _CHARS_MAX:
                writer.write(pack_frame([text.record(first, index)]))
                first, chars = index, len(piece)
        writer.write(pack_frame([text.record(first)]))
        self._sent[text] = len(text.pieces)


class LiveSenders:
    """The senders of one worker, by address."""

    def __init__(self) -> None:
        self._senders: dict[tuple[str, bytes], LiveSender] = {}

    def get(self, address: str, secret: bytes) -> LiveSender:
        """Return the sender to an address."""
        found = self._senders.get((address, secret))
        if found is None:
            if len(self._senders) >= _SENDERS_MAX:
                self._senders = {key: sender for key, sender in self._senders.items() if not sender.is_idle}
            found = self._senders[address, secret] = LiveSender(address, secret)
        return found

    async def close(self) -> None:
        """Close all connections. Idempotent."""
        await asyncio.gather(*(sender.close() for sender in self._senders.values()))
