"""How text and values from outside are shown: no character acts unseen, and a value in an error is short."""

import reprlib
from collections.abc import Callable
from typing import Any

__all__ = ["plain", "qualified", "shown"]

_LENGTH_MAX = 80


def _escape(sign: str) -> str:
    return sign.encode("unicode_escape").decode()


def plain(text: str, keep: str = "", escape: Callable[[str], str] = _escape) -> str:
    r"""Return text with every character that does not print written as an escape, such as `\u202e`.

    Those are controls, which act on a terminal; marks of direction and other invisible format characters, which
    make text look like another text; lone surrogates. Characters in `keep` stay as they are.
    """
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() or sign in keep else escape(sign) for sign in text)


def shown(value: Any) -> str:
    """Return at most 80 characters that show a value, whatever its `__repr__` does."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything, and an error message must not
        return f"<{type(value).__name__} whose repr fails>"
    text = plain(text[:_LENGTH_MAX])
    return text if len(text) <= _LENGTH_MAX else text[: _LENGTH_MAX - 3] + "..."


def qualified(cls: type[Any]) -> str:
    """Return a class's name with its module, without it for what is built in."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
