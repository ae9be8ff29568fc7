"""The protocol of the side channel: a worker sends live records to the process that began the run, over TCP.

Each frame is its length in four bytes, then msgpack. Both sides authenticate by challenge and response, so that neither
sends the secret that they share:

| from     | frame                                                             |
|----------|-------------------------------------------------------------------|
| listener | its challenge                                                     |
| worker   | its challenge, and its response: an HMAC of role and challenges   |
| listener | its response                                                      |
| worker   | lists of live records, until one side closes                      |

The records themselves are not encrypted: between machines, use a network that you trust.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Any

from beluga_graph.temporal.workflow.wire import pack, unpack

__all__ = [
    "FRAME_BYTES",
    "ProtocolError",
    "authenticate_as_listener",
    "authenticate_as_worker",
    "pack_frame",
    "read_frame",
]

FRAME_BYTES = 256 * 1024
"""The most bytes of a frame."""

_HEADER_BYTES = 4
_CHALLENGE_BYTES = 16
_HANDSHAKE_FRAME_BYTES = 128  # the most before both sides are authenticated
_AUTHENTICATION_S = 5.0


class ProtocolError(Exception):
    """The other side of a side channel does not follow the protocol, or does not have the secret."""


def pack_frame(plain: Any) -> bytes:
    """Return plain data as a frame."""
    data = pack(plain)
    return len(data).to_bytes(_HEADER_BYTES, "big") + data


async def read_frame(reader: asyncio.StreamReader, most: int = FRAME_BYTES) -> Any:
    """Return the plain data of the next frame. Raises `ProtocolError`; `EOFError` or `OSError` at the end."""
    size = int.from_bytes(await reader.readexactly(_HEADER_BYTES), "big")
    if size > most:
        msg = f"a frame of {size:,} bytes; {most:,} are allowed"
        raise ProtocolError(msg)
    data = await reader.readexactly(size)
    try:
        return unpack(data)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"a frame that is not msgpack: {type(error).__name__}"
        raise ProtocolError(msg) from error


async def authenticate_as_listener(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> None:
    """Authenticate a worker that has connected, and this side to it. Raises as `read_frame`, and `TimeoutError`."""
    async with asyncio.timeout(_AUTHENTICATION_S):
        own = secrets.token_bytes(_CHALLENGE_BYTES)
        writer.write(pack_frame(own))
        frame = await read_frame(reader, _HANDSHAKE_FRAME_BYTES)
        if not isinstance(frame, tuple) or len(frame) != 2:
            msg = "the first frame of a worker is not its challenge and its response"
            raise ProtocolError(msg)
        other, response = frame
        _check_challenge(other)
        _check_response(response, _compute_response(secret, b"worker", own, other))
        writer.write(pack_frame(_compute_response(secret, b"listener", own, other)))
        await writer.drain()


async def authenticate_as_worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> None:
    """Authenticate this side to a listener, and the listener. Raises as `authenticate_as_listener` does."""
    async with asyncio.timeout(_AUTHENTICATION_S):
        other = await read_frame(reader, _HANDSHAKE_FRAME_BYTES)
        _check_challenge(other)
        own = secrets.token_bytes(_CHALLENGE_BYTES)
        writer.write(pack_frame((own, _compute_response(secret, b"worker", other, own))))
        _check_response(
            await read_frame(reader, _HANDSHAKE_FRAME_BYTES), _compute_response(secret, b"listener", other, own)
        )


def _compute_response(secret: bytes, role: bytes, of_listener: bytes, of_worker: bytes) -> bytes:
    return hmac.digest(secret, role + of_listener + of_worker, "sha256")


def _check_challenge(found: Any) -> None:
    if not isinstance(found, bytes) or len(found) != _CHALLENGE_BYTES:
        msg = f"the challenge is not {_CHALLENGE_BYTES} bytes"
        raise ProtocolError(msg)


def _check_response(found: Any, expected: bytes) -> None:
    if not isinstance(found, bytes) or not hmac.compare_digest(found, expected):
        msg = "the response is wrong: the other side does not have the secret"
        raise ProtocolError(msg)
