"""Stored data as text for a terminal, and as JSON.

The content of a store is untrusted: a title may contain the codes that recolour a terminal or retitle its window.
So every character that does not print is escaped, and text is never interpreted as markup.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from beluga_graph.codec.safe_repr import to_printable
from beluga_graph.codec.to_json import to_json

__all__ = ["as_json", "brief", "local_time", "one_line", "to_printable"]


def one_line(text: str) -> str:
    """Return text of several lines as one `plain` line."""
    return to_printable(" ".join(text.split()))


def brief(value: Any, width_max: int = 100) -> str:
    """Return a value as one short line."""
    text = value if isinstance(value, str) else json.dumps(to_json(value), ensure_ascii=False)
    shown = to_printable(text[: width_max + 1])
    return shown if len(shown) <= width_max else shown[: width_max - 1] + "…"


def local_time(at_ms: int) -> str:
    """Return a time in this machine's time zone."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


def as_json(value: Any) -> str:
    """Return a value as JSON. It is ASCII only, which any parser accepts and any terminal prints."""
    return json.dumps(to_json(value), indent=2, allow_nan=False)
