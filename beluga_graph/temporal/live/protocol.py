"""The protocol of the side channel: a worker sends live records to the process that began the run, over TCP.

Each frame is its length in four bytes, then msgpack. Neither side sends its secret. Both prove that they have it:

| from     | frame                                                             |
|----------|-------------------------------------------------------------------|
| listener | its challenge                                                     |
| worker   | its challenge, and its proof: a digest of secret and challenges   |
| listener | its proof                                                         |
| worker   | lists of live records, until one side closes                      |

The records themselves are not encrypted: between machines, use a network that you trust.
"""

from __future__ import annotations

import asyncio
import hmac
import secrets
from typing import Any

from beluga_graph.temporal.workflow.wire import pack, unpack

__all__ = ["FRAME_BYTES", "ChannelError", "frame_of", "prove_as_listener", "prove_as_worker", "read_frame"]

FRAME_BYTES = 256 * 1024
"""The most bytes of a frame."""

_HEADER_BYTES = 4
_CHALLENGE_BYTES = 16
_PROOF_FRAME_BYTES = 128  # the most until both sides have proved that they have the secret
_PROOF_S = 5.0


class ChannelError(Exception):
    """The other side of a side channel does not follow the protocol, or does not have the secret."""


def frame_of(plain: Any) -> bytes:
    """Return plain data as a frame."""
    data = pack(plain)
    return len(data).to_bytes(_HEADER_BYTES, "big") + data


async def read_frame(reader: asyncio.StreamReader, most: int = FRAME_BYTES) -> Any:
    """Return the plain data of the next frame. Raises `ChannelError`; `EOFError` or `OSError` at the end."""
    size = int.from_bytes(await reader.readexactly(_HEADER_BYTES), "big")
    if size > most:
        msg = f"a frame of {size:,} bytes; {most:,} are allowed"
        raise ChannelError(msg)
    data = await reader.readexactly(size)
    try:
        return unpack(data)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"a frame that is not msgpack: {type(error).__name__}"
        raise ChannelError(msg) from error


async def prove_as_listener(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> None:
    """Exchange proofs with a worker that has connected. Raises as `read_frame` does, and `TimeoutError`."""
    async with asyncio.timeout(_PROOF_S):
        own = secrets.token_bytes(_CHALLENGE_BYTES)
        writer.write(frame_of(own))
        frame = await read_frame(reader, _PROOF_FRAME_BYTES)
        if not isinstance(frame, tuple) or len(frame) != 2:
            msg = "the first frame of a worker is not its challenge and its proof"
            raise ChannelError(msg)
        other, proof = frame
        _check_challenge(other)
        _check_proof(proof, _proof(secret, b"worker", own, other))
        writer.write(frame_of(_proof(secret, b"listener", own, other)))
        await writer.drain()


async def prove_as_worker(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, secret: bytes) -> None:
    """Exchange proofs with a listener. Raises as `prove_as_listener` does."""
    async with asyncio.timeout(_PROOF_S):
        other = await read_frame(reader, _PROOF_FRAME_BYTES)
        _check_challenge(other)
        own = secrets.token_bytes(_CHALLENGE_BYTES)
        writer.write(frame_of((own, _proof(secret, b"worker", other, own))))
        _check_proof(await read_frame(reader, _PROOF_FRAME_BYTES), _proof(secret, b"listener", other, own))


def _proof(secret: bytes, role: bytes, of_listener: bytes, of_worker: bytes) -> bytes:
    return hmac.digest(secret, role + of_listener + of_worker, "sha256")


def _check_challenge(found: Any) -> None:
    if not isinstance(found, bytes) or len(found) != _CHALLENGE_BYTES:
        msg = f"the challenge is not {_CHALLENGE_BYTES} bytes"
        raise ChannelError(msg)


def _check_proof(found: Any, expected: bytes) -> None:
    if not isinstance(found, bytes) or not hmac.compare_digest(found, expected):
        msg = "the proof is wrong: the other side does not have the secret"
        raise ChannelError(msg)
