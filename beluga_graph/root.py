"""The root of the error tree, apart from it, so that the lowest floors can raise."""

from __future__ import annotations

__all__ = ["BelugaError"]


class BelugaError(Exception):
    """Root of all that this package raises on purpose, but for the errors of a store."""
