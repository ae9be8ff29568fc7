"""A large value and its digest."""

from __future__ import annotations

from hashlib import sha256

__all__ = ["DATA", "DIGEST"]

DATA = b"a large value" * 1_000
DIGEST = sha256(DATA).digest()
