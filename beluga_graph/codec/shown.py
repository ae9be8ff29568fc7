"""How an error shows a value: short, on one line, and never an error itself."""

import reprlib
from typing import Any

__all__ = ["qualified", "shown"]

_LENGTH_MAX = 80


def shown(value: Any) -> str:
    """Return at most 80 characters that show a value, whatever its `__repr__` does."""
    try:
        text = _SHORT.repr(value)
    except Exception:  # noqa: BLE001 - a user's __repr__ may raise anything, and an error message must not
        return f"<{type(value).__name__} whose repr fails>"
    # Control characters and lone surrogates come from untrusted text and would reach a terminal or a log.
    text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text[:_LENGTH_MAX])
    return text if len(text) <= _LENGTH_MAX else text[: _LENGTH_MAX - 3] + "..."


def qualified(cls: type[Any]) -> str:
    """Return a class's name with its module, without it for what is built in."""
    return cls.__qualname__ if cls.__module__ == "builtins" else f"{cls.__module__}.{cls.__qualname__}"


_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = _SHORT.maxlong = 60
