"""Formats text and values from outside: every character prints, and a value in an error message is short."""

import reprlib
from collections.abc import Callable
from typing import Any

__all__ = ["format_value", "qualified_name", "to_printable"]

_LENGTH_MAX = 80


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


def to_printable(text: str, keep: str = "", escape: Callable[[str], str] = _escape) -> str:
    r"""Return text in which every unprintable character is replaced by an escape, such as `\u202e`.

    Those are controls, which act on a terminal; direction marks and other invisible format characters, which
    make text look like another text; and lone surrogates. Characters in `keep` stay unchanged.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else escape(sign) for sign in text)


def format_value(value: Any) -> str:
    """Return the repr of a value in at most 80 printable characters, even if its `__repr__` fails."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything, and an error message must not
        return f"<{type(value).__name__} whose repr fails>"
    text = to_printable(text[:_LENGTH_MAX])
    return text if len(text) <= _LENGTH_MAX else text[: _LENGTH_MAX - 3] + "..."


def qualified_name(cls: type[Any]) -> str:
    """Return a class's name with its module, or only the name of a builtin."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
