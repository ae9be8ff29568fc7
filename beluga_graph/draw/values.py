"""Values as a page shows them: JSON text, cut where it is long, each text once, and all of them bounded."""

from __future__ import annotations

import json
from typing import Any

from beluga_graph.codec.plain import as_data

__all__ = ["ALL_SIGNS", "MOST_SIGNS", "Texts", "cut", "shown_value"]

MOST_SIGNS = 4_000  # of one value
ALL_SIGNS = 6_000_000  # of all values of a run
_ONE_LINE = 72
_FULL = "(left out: this page holds no more)"


class Texts:
    """A table of texts to which others refer by number: what one node gives is what the next one gets.

    A text is cut after `MOST_SIGNS` characters. Once the table holds `ALL_SIGNS`, what is new is left out and said
    to be, so that a page stays of a size that can be opened, whatever the run carried.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._left = ALL_SIGNS
        self._new: list[str] = []

    def value(self, value: Any) -> int:
        """Return the number of a value's JSON text."""
        return self._number(shown_value(value), json.dumps(_FULL))

    def text(self, text: str) -> int:
        """Return the number of a text that is no value: what a node streamed, an error's message."""
        return self._number(cut(text), _FULL)

    def taken(self) -> list[str]:
        """Return the texts that came since this was asked last."""
        found, self._new = self._new, []
        return found

    def _number(self, text: str, instead: str) -> int:
        known = self._numbers.get(text)
        if known is not None:
            return known
        if len(text) > self._left and text != instead:
            return self._number(instead, instead)
        self._left -= len(text)
        self._numbers[text] = number = len(self._numbers)
        self._new.append(text)
        return number


def cut(text: str) -> str:
    """Return text of at most `MOST_SIGNS` characters, and how many there were if it is cut."""
    return text if len(text) <= MOST_SIGNS else f"{text[:MOST_SIGNS]} … (cut: {len(text):,} characters)"


def shown_value(value: Any) -> str:
    """Return a value as JSON text: on one line if it fits there, and cut if it is long; a text within its quotes."""
    if isinstance(value, str):
        return json.dumps(cut(value), ensure_ascii=False)
    try:
        said = as_data(value)
        line = json.dumps(said, ensure_ascii=False)
        return line if len(line) <= _ONE_LINE else cut(json.dumps(said, ensure_ascii=False, indent=2))
    except ValueError:  # Python writes no number of more than some thousand digits
        return json.dumps(f"({type(value).__name__}: too large to be shown)")
