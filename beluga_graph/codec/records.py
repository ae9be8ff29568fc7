"""The frame around everything that is stored: format version, kind, checksum, plain data.

    byte 0      format version
    byte 1      kind of record
    bytes 2-5   CRC-32, big-endian, over version, kind, context and content
    bytes 6-    content: msgpack of None, bool, int, float, str, bytes, list or tuple, and dict

The checksum finds accidents (a flipped bit, a record under another key), not forgery: anyone who can write to
the store can compute it.
"""

import struct
import zlib
from collections.abc import Callable
from functools import partial
from typing import Any

import msgpack

from beluga_graph.codec.errors import DamagedRecord, NotData, TooDeep
from beluga_graph.codec.safe_repr import format_value

__all__ = ["seal", "unseal"]

_VERSION = 1
_HEADER = struct.Struct(">BBI")
# The checksum of the first two bytes for each kind; the checksum of a record continues from it.
_CRC_OF_KIND = tuple(zlib.crc32(bytes([_VERSION, kind])) for kind in range(256))
_BIG_INT = 1  # the one extension type: an int beyond 64 bits, two's complement, big-endian
_LEVELS = 1024  # the nesting limit of msgpack's packer and parser


def seal(kind: int, payload: Any, context: bytes = b"") -> bytes:
    """Return the record of a payload. `kind` is 0 to 255.

    `context` is not stored, but checked: pass the record's key, and a record found under another key counts as
    damaged. Tuples are stored like lists. Raises `NotData` and `TooDeep`.
    """
    # A packer is not reentrant, and threads or a finaliser could enter it twice: each call takes its own.
    pack: Callable[[Any], bytes] = _PACKERS.pop() if _PACKERS else _new_packer()
    try:
        content = pack(payload)
    except ValueError as error:
        raise TooDeep(_LEVELS) from error
    if len(content) <= 1 << 20:  # a packer keeps its largest buffer, so one that grew is dropped
        _PACKERS.append(pack)
    checksum = zlib.crc32(content, zlib.crc32(context, _CRC_OF_KIND[kind]))
    return _HEADER.pack(_VERSION, kind, checksum) + content


def unseal(kind: int, blob: bytes, context: bytes = b"") -> Any:
    """Return the payload of a record of this kind, sealed with this context; its lists are tuples.

    Raises `DamagedRecord` if the record is incomplete, of another kind or format, or sealed with another context.
    """
    if len(blob) <= _HEADER.size:
        raise _damage_error(kind, context, f"is only {len(blob)} bytes long: it was cut off")
    version, stored_kind, checksum = _HEADER.unpack_from(blob)
    if version > _VERSION:
        newer = f"was written by a newer release (format {version}, this one reads {_VERSION}): upgrade"
        raise _damage_error(kind, context, newer)
    if version != _VERSION:
        raise _damage_error(kind, context, f"has format {version}, which no release has written")
    if stored_kind != kind:
        raise _damage_error(kind, context, f"is of kind {stored_kind}")
    content = blob[_HEADER.size :]
    if zlib.crc32(content, zlib.crc32(context, _CRC_OF_KIND[kind])) != checksum:
        raise _damage_error(kind, context, "fails its checksum: it was changed, cut off, or sealed for another key")
    try:
        return _unpack(content)
    except Exception as error:  # msgpack raises half a dozen unrelated types
        raise _damage_error(kind, context, f"has a good checksum but no readable content ({error!r})") from error


def _damage_error(kind: int, context: bytes, detail: str) -> DamagedRecord:
    where = f" at key {context!r}" if context else ""
    return DamagedRecord(f"the record of kind {kind}{where}", detail)


def _write_other(value: Any) -> msgpack.ExtType:
    if type(value) is int:  # beyond 64 bits; msgpack writes smaller ones itself
        return msgpack.ExtType(_BIG_INT, value.to_bytes(value.bit_length() // 8 + 1, "big", signed=True))
    raise NotData("", type(value).__name__, format_value(value), "records hold plain data only: encode it first")


def _read_other(code: int, content: bytes) -> int:
    if code != _BIG_INT:
        raise ValueError(f"unknown extension type {code}")
    return int.from_bytes(content, "big", signed=True)


def _new_packer() -> Any:
    return msgpack.Packer(
        default=_write_other,
        autoreset=True,
        unicode_errors="surrogatepass",
        buf_size=4096,  # type: ignore[call-arg]  # the stubs lack it
    ).pack


# Idle packers, as many as ever sealed at the same time. They are reusable buffers and hold no state.
_PACKERS: list[Any] = []
_unpack = partial(
    msgpack.unpackb,
    raw=False,
    strict_map_key=False,
    unicode_errors="surrogatepass",
    use_list=False,
    timestamp=1,
    ext_hook=_read_other,
)
