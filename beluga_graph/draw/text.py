"""Text in drawings: how wide it is, where it is cut, and what of it can be shown.

Labels are untrusted: names may hold anything. What none of the formats can show is written out here, as an escape;
each format then escapes for itself.
"""

from __future__ import annotations

import unicodedata
from textwrap import wrap

from beluga_graph.codec.safe_repr import to_printable

__all__ = ["clean", "clipped", "columns_of", "fault_lines", "shown_duration", "shown_number", "width_of"]

# Advance widths of ASCII from the space on, in thousandths of the font size: those of Helvetica and Arial.
_ASCII = (
    "278 278 355 556 556 889 667 191 333 333 389 584 278 333 278 278 556 556 556 556 556 556 556 556 556 556 278 278 "
    "584 584 584 556 1015 667 667 722 722 667 611 778 722 278 500 667 556 833 722 778 667 778 722 667 611 722 667 944 "
    "667 667 611 278 278 278 469 556 333 556 556 500 556 556 278 556 556 222 222 500 222 833 556 556 556 556 333 500 "
    "278 556 500 722 500 500 500 334 260 334 584"
)
_WIDTHS = dict(enumerate((int(width) for width in _ASCII.split()), 32))
_SLACK = 1.08  # fonts that stand in are a little wider
_FAULT_SIGNS, _FAULT_LINES = 84, 8


def clean(text: str) -> str:
    """Return text on one line: white space of any kind becomes one space, and what does not print an escape.

    So a label cannot rearrange what is beside it, nor hide a character that makes it another label.
    """
    return to_printable(" ".join(text.split()))


def fault_lines(fault: str) -> list[str]:
    """Return what is said above a picture of something that is not whole, in short lines."""
    return wrap(f"! {clean(fault)}", _FAULT_SIGNS, max_lines=_FAULT_LINES, placeholder=" …") if fault else []


def clipped(text: str, most: int) -> str:
    """Return text of at most so many characters: the middle goes, for names differ at both ends."""
    if len(text) <= most:
        return text
    left = (most - 1) * 2 // 3
    return f"{text[:left]}…{text[len(text) - (most - 1 - left) :]}"


def width_of(text: str, size: float) -> float:
    """Return how wide text is at a font size, about: fonts differ."""
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


def columns_of(text: str) -> int:
    """Return how many columns text takes in a terminal."""
    wide = sum(unicodedata.east_asian_width(sign) in ("W", "F") for sign in text)
    flat = sum(unicodedata.category(sign) in ("Mn", "Me", "Cf") for sign in text)
    return len(text) + wide - flat


def shown_duration(milliseconds: int) -> str:
    """Return a duration as people read it: `850 ms`, `2.4 s`, `9 s`, `3 min 12 s`, `4 h 5 min`, `2 d 3 h`."""
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


def shown_number(number: int) -> str:
    """Return a number in at most five characters: `950`, `1.2k`, `34k`, `5.6M`."""
    for unit, size in (("G", 10**9), ("M", 10**6), ("k", 10**3)):
        if number >= size:
            share = number / size
            return f"{share:.1f}{unit}" if share < 9.95 else f"{share:.0f}{unit}"
    return str(number)
