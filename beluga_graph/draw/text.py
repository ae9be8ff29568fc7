"""Text in drawings: its width, where it is cut, and which characters are shown.

Labels are untrusted: names may contain any character. Characters that no format can show become escapes here; each
format then escapes the text for its own syntax.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from textwrap import wrap

from beluga_graph.codec.safe_repr import to_printable

__all__ = [
    "clean",
    "clip",
    "count_columns",
    "format_duration",
    "format_moment",
    "format_number",
    "measure_width",
    "wrap_fault",
]

# Advance widths of ASCII from the space on, in thousandths of the font size, for Helvetica and Arial.
_ASCII = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 278 "
    "584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 667 944 "
    "667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 556 333 500 "
    "278 556 500 722 500 500 500 334 260 334 584"
)
_WIDTHS = dict(enumerate((int(width) for width in _ASCII.split()), 32))
_SLACK = 1.08  # substitute fonts are a little wider
_FAULT_LENGTH_MAX, _FAULT_LINES_MAX = 84, 8


def clean(text: str) -> str:
    """Return text on one line: any run of white space becomes one space, unprintable characters become escapes.

    So a label can neither rearrange the text beside it nor hide a character that distinguishes it from another label.
    """
    return to_printable(" ".join(text.split()))


def wrap_fault(fault: str) -> list[str]:
    """Return the error to show above a picture in short lines, at most eight; none for `""`."""
    if not fault:
        return []
    return wrap(f"! {clean(fault)}", _FAULT_LENGTH_MAX, max_lines=_FAULT_LINES_MAX, placeholder=" …")


def clip(text: str, most: int) -> str:
    """Return text of at most `most` characters. Cuts the middle, because names differ at both ends."""
    if len(text) <= most:
        return text
    left = (most - 1) * 2 // 3
    return f"{text[:left]}…{text[len(text) - (most - 1 - left) :]}"


def measure_width(text: str, size: float) -> float:
    """Return the approximate width of text at a font size. Fonts differ."""
    total = 0
    for sign in text:
        known = _WIDTHS.get(ord(sign))
        if known is not None:
            total += known
        elif unicodedata.combining(sign) or unicodedata.category(sign) in ("Mn", "Me", "Cf"):
            continue
        elif unicodedata.east_asian_width(sign) in ("W", "F"):
            total += 1050
        else:
            total += 640
    return round(total * size / 1000 * _SLACK, 1)


def count_columns(text: str) -> int:
    """Return the number of terminal columns that text occupies."""
    wide = sum(unicodedata.east_asian_width(sign) in ("W", "F") for sign in text)
    flat = sum(unicodedata.category(sign) in ("Mn", "Me", "Cf") for sign in text)
    return len(text) + wide - flat


def format_duration(milliseconds: int) -> str:
    """Return a duration in at most two units: `850 ms`, `2.4 s`, `9 s`, `3 min 12 s`, `4 h 5 min`, `2 d 3 h`."""
    if milliseconds < 1000:
        return f"{milliseconds} ms"
    seconds = milliseconds / 1000
    if seconds < 59.95:
        return f"{seconds:.1f} s".replace(".0 ", " ")
    minutes, second = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {second} s" if second else f"{minutes} min"
    hours, minute = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minute} min" if minute else f"{hours} h"
    days, hour = divmod(hours, 24)
    return f"{days} d {hour} h" if hour else f"{days} d"


def format_moment(at_ms: int) -> str:
    """Return a point in time to the second, in UTC: `2030-01-31 09:00:00Z`."""
    return datetime.fromtimestamp(at_ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%SZ")


def format_number(number: int) -> str:
    """Return a number in at most five characters: `950`, `1.2k`, `34k`, `5.6M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            share = number / size
            return f"{share:.1f}{unit}" if share < 9.95 else f"{share:.0f}{unit}"
    return str(number)
