"""Values as a page shows them: JSON text, cut where it is long, each text once, and all of them bounded."""

from __future__ import annotations

import json
from typing import Any

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.codec.to_json import to_json

__all__ = ["ALL_SIGNS", "MOST_SIGNS", "Texts", "cut", "shown_value"]

MOST_SIGNS = 4_000  # of one value
ALL_SIGNS = 6_000_000  # of all values of a run
_ONE_LINE = 72
_WORD = 16
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
    """Return at most `MOST_SIGNS` characters of a text, and how many there were if it is cut.

    What does not print is written out, so that no character hides, or turns what is beside it around.
    """
    return _marked(to_printable(text[:MOST_SIGNS], keep="\n\t"), len(text))


def _cut_json(text: str) -> str:
    """Return JSON text cut as `cut` does; its escapes are those of JSON."""
    return _marked(to_printable(text[:MOST_SIGNS], keep="\n", escape=lambda sign: json.dumps(sign)[1:-1]), len(text))


def _marked(shown: str, length: int) -> str:
    return shown if length <= MOST_SIGNS else f"{shown} … (cut: {length:,} characters)"


def _laid_out(said: Any, indent: str, before: int) -> str:
    """Return JSON of which each part stands on one line if it fits there; `before` is what stands left of it."""
    line = json.dumps(said, ensure_ascii=False)
    if not isinstance(said, dict | list) or len(indent) + before + len(line) <= _ONE_LINE:
        return line
    inner = f"{indent}  "
    if isinstance(said, list):
        if not any(isinstance(part, dict | list) or (isinstance(part, str) and len(part) > _WORD) for part in said):
            return f"[\n{inner}" + f",\n{inner}".join(_filled(said, len(inner))) + f"\n{indent}]"
        parts = [_laid_out(part, inner, 0) for part in said]
    else:
        keys = [f"{json.dumps(key, ensure_ascii=False)}: " for key in said]
        parts = [key + _laid_out(part, inner, len(key)) for key, part in zip(keys, said.values(), strict=True)]
    opened, closed = "[]" if isinstance(said, list) else "{}"
    return f"{opened}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closed}"


def _filled(said: list[Any], indent: int) -> list[str]:
    """Return lines that hold as many of some small values as fit: of numbers there are often many."""
    lines: list[str] = []
    for part in said:
        text = json.dumps(part, ensure_ascii=False)
        if lines and indent + len(lines[-1]) + len(text) + 2 <= _ONE_LINE:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
    return lines


def shown_value(value: Any) -> str:
    """Return a value as JSON text: on one line if it fits there, and cut if it is long; a text within its quotes."""
    if isinstance(value, str):
        return json.dumps(cut(value), ensure_ascii=False)
    said = to_json(value)
    line = json.dumps(said, ensure_ascii=False)
    # What is far too long is cut before anybody sees how it would have been laid out.
    return _cut_json(line if len(line) > 16 * MOST_SIGNS else _laid_out(said, "", 0))
