"""References: what stands in a record in place of a large encoded value, which is stored once under its digest."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from typing import Any, Final

__all__ = [
    "INLINE_BYTES",
    "REFERENCE",
    "REFERENCE_BYTES",
    "digest_of",
    "find_references",
    "is_reference",
    "to_reference",
]

REFERENCE: Final = b"\xc1"
"""The first byte of a reference; no encoded value begins with it. The SHA-256 of the value follows."""

REFERENCE_BYTES: Final = 1 + 32

INLINE_BYTES: Final = 8 * 1024
"""A longer value is stored once, under its digest."""


def is_reference(value: bytes) -> bool:
    """Return whether the bytes are a reference, and not an encoded value."""
    return value[:1] == REFERENCE


def to_reference(encoded: bytes) -> bytes:
    """Return a reference by digest to a large encoded value, and a smaller value itself."""
    return encoded if len(encoded) <= INLINE_BYTES else REFERENCE + sha256(encoded).digest()


def digest_of(value: bytes) -> bytes:
    """Return the SHA-256 of an encoded value, which may be given as a reference."""
    return value[1:] if is_reference(value) else sha256(value).digest()


def find_references(value: Any) -> Iterator[bytes]:
    """Yield the digests of the large values that plain data refers to."""
    if isinstance(value, bytes):
        if is_reference(value) and len(value) == REFERENCE_BYTES:
            yield value[1:]
    elif isinstance(value, tuple | list):
        for part in value:
            yield from find_references(part)
    elif isinstance(value, dict):
        for part in value.values():
            yield from find_references(part)
