"""Values as a page shows them: JSON text, cut if it is long, with each text stored once and the total bounded."""

from __future__ import annotations

import json
from typing import Any

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.codec.to_json import to_json

__all__ = ["TABLE_LENGTH_MAX", "TEXT_LENGTH_MAX", "Texts", "cut_text", "format_value"]

TEXT_LENGTH_MAX = 4_000  # characters of one value
TABLE_LENGTH_MAX = 6_000_000  # characters of all values of a run
_LINE_LENGTH_MAX = 72
_WORD_LENGTH_MAX = 16
_FULL = "(left out: this page holds no more)"


class Texts:
    """A table of texts, referred to by number: the output of one node is usually the input of the next.

    A text is cut after `TEXT_LENGTH_MAX` characters. Once the table holds `TABLE_LENGTH_MAX` characters, a note
    replaces every new text, so that the page stays small enough to open, whatever the size of the run.
    """

    def __init__(self) -> None:
        self._numbers: dict[str, int] = {}
        self._left = TABLE_LENGTH_MAX
        self._new: list[str] = []

    def add_value(self, value: Any) -> int:
        """Add a value as JSON text; return its number."""
        return self._add(format_value(value), json.dumps(_FULL))

    def add_text(self, text: str) -> int:
        """Add a text that is not a value, such as a node's streamed text or an error's message; return its number."""
        return self._add(cut_text(text), _FULL)

    def take_new(self) -> list[str]:
        """Return the texts added since the last call."""
        found, self._new = self._new, []
        return found

    def _add(self, text: str, instead: str) -> int:
        known = self._numbers.get(text)
        if known is not None:
            return known
        if len(text) > self._left and text != instead:
            return self._add(instead, instead)
        self._left -= len(text)
        self._numbers[text] = number = len(self._numbers)
        self._new.append(text)
        return number


def cut_text(text: str) -> str:
    """Return at most `TEXT_LENGTH_MAX` characters of a text; a note with the full length follows if it is cut.

    Unprintable characters become escapes, so that none is hidden or changes the direction of the text around it.
    """
    return _add_note(to_printable(text[:TEXT_LENGTH_MAX], keep="\n\t"), len(text))


def _cut_json(text: str) -> str:
    """Return JSON text cut as `cut_text` does; its escapes are those of JSON."""
    return _add_note(
        to_printable(text[:TEXT_LENGTH_MAX], keep="\n", escape=lambda sign: json.dumps(sign)[1:-1]), len(text)
    )


def _add_note(shown: str, length: int) -> str:
    return shown if length <= TEXT_LENGTH_MAX else f"{shown} … (cut: {length:,} characters)"


def _lay_out(data: Any, indent: str, before: int) -> str:
    """Return JSON with each part on one line if it fits; `before` is the number of characters before it on its line."""
    line = json.dumps(data, ensure_ascii=False)
    if not isinstance(data, dict | list) or len(indent) + before + len(line) <= _LINE_LENGTH_MAX:
        return line
    inner = f"{indent}  "
    if isinstance(data, list):
        if all(_is_small(part) for part in data):
            return f"[\n{inner}" + f",\n{inner}".join(_fill_lines(data, len(inner))) + f"\n{indent}]"
        parts = [_lay_out(part, inner, 0) for part in data]
    else:
        keys = [f"{json.dumps(key, ensure_ascii=False)}: " for key in data]
        parts = [key + _lay_out(part, inner, len(key)) for key, part in zip(keys, data.values(), strict=True)]
    opened, closed = "[]" if isinstance(data, list) else "{}"
    return f"{opened}\n{inner}" + f",\n{inner}".join(parts) + f"\n{indent}{closed}"


def _is_small(part: Any) -> bool:
    return not isinstance(part, dict | list) and not (isinstance(part, str) and len(part) > _WORD_LENGTH_MAX)


def _fill_lines(parts: list[Any], indent: int) -> list[str]:
    """Return lines that each hold as many small values as fit. Long lists of numbers are common."""
    lines: list[str] = []
    for part in parts:
        text = json.dumps(part, ensure_ascii=False)
        if lines and indent + len(lines[-1]) + len(text) + 2 <= _LINE_LENGTH_MAX:
            lines[-1] += f", {text}"
        else:
            lines.append(text)
    return lines


def format_value(value: Any) -> str:
    """Return a value as JSON text, on one line if it fits, and cut if it is long. A text is cut within its quotes."""
    if isinstance(value, str):
        return json.dumps(cut_text(value), ensure_ascii=False)
    data = to_json(value)
    line = json.dumps(data, ensure_ascii=False)
    # A very long value is not laid out: it would be cut after its first few lines.
    return _cut_json(line if len(line) > 16 * TEXT_LENGTH_MAX else _lay_out(data, "", 0))
