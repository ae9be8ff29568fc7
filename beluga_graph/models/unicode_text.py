"""Text that UTF-8 can encode: half a surrogate pair becomes U+FFFD, two adjacent halves become a character.

Strings in Python can contain lone surrogates (`json.loads` makes them from hostile escapes). JSON that is sent to a
provider cannot.
"""

from __future__ import annotations

from typing import Any

__all__ = ["Mender", "mend", "mend_all"]


def mend(text: str) -> str:
    """Return the text with surrogate pairs joined and each lone surrogate replaced by U+FFFD."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def mend_all(value: Any) -> Any:
    """Return plain data with every string mended, keys included. A part that needs no change may be the same object."""
    if isinstance(value, str):
        return mend(value)
    if isinstance(value, dict):
        return {mend_all(key): mend_all(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [mend_all(part) for part in value]
    return value


class Mender:
    """Mends text that arrives in pieces: half a pair at the end of a piece waits for the next piece.

    The results of `feed` and, last, of `flush` are the pieces of the mended text.
    """

    __slots__ = ("_held", "_said")

    def __init__(self) -> None:
        self._held = ""
        self._said: list[str] = []

    @property
    def text(self) -> str:
        """The text that was returned so far."""
        return "".join(self._said)

    def feed(self, piece: str) -> str:
        """Return the part of the text that is complete; it may be empty."""
        piece, self._held = self._held + piece, ""
        if piece and "\ud800" <= piece[-1] <= "\udbff":
            piece, self._held = piece[:-1], piece[-1]
        return self._say(mend(piece))

    def flush(self) -> str:
        """Return the rest: U+FFFD, or an empty text."""
        rest, self._held = self._held, ""
        return self._say(mend(rest))

    def _say(self, piece: str) -> str:
        if piece:
            self._said.append(piece)
        return piece
