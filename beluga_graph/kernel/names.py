"""Names: of flows, nodes, signals, topics, runs, sessions and subscribers."""

from __future__ import annotations

from unicodedata import category

__all__ = ["NAME_LENGTH_MAX", "is_blank", "is_name"]

NAME_LENGTH_MAX = 200

# Letters and symbols without a visible glyph.
_INVISIBLE = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def is_blank(text: str) -> bool:
    """Return whether a text shows nothing: it has only blanks and characters without a visible glyph."""
    return all(char in _INVISIBLE or category(char)[0] not in "LNPS" for char in text)


def is_name(text: object) -> bool:
    """Return whether an object is a text of 1 to 200 printable characters, at least one of them visible."""
    return isinstance(text, str) and len(text) <= NAME_LENGTH_MAX and text.isprintable() and not is_blank(text)
