"""What can be a name: of a flow, a node, a signal, a topic, a run, a session, a subscriber."""

from __future__ import annotations

from unicodedata import category

__all__ = ["NAME_LENGTH_MAX", "is_blank", "is_name"]

NAME_LENGTH_MAX = 200

# Letters and symbols that are drawn as nothing.
_UNSEEN = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def is_blank(text: str) -> bool:
    """Tell whether nothing of a text is seen: blanks of every kind, and signs without a shape of their own."""
    return all(char in _UNSEEN or category(char)[0] not in "LNPS" for char in text)


def is_name(text: object) -> bool:
    """Tell whether this is a text of 1 to 200 printable characters of which something is seen."""
    return isinstance(text, str) and len(text) <= NAME_LENGTH_MAX and text.isprintable() and not is_blank(text)
