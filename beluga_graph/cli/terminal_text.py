"""Stored data as text for a terminal, and as JSON.

What a store holds is untrusted: a title may carry the codes that recolour a terminal, or retitle its window.
So text is shown with every character that does not print written out, and never as markup.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from beluga_graph.codec.safe_repr import plain
from beluga_graph.codec.to_json import as_data

__all__ = ["as_json", "brief", "local_time", "one_line", "plain"]


def one_line(text: str) -> str:
    """Return text of several lines on one, as `plain` text."""
    return plain(" ".join(text.split()))


def brief(value: Any, most: int = 100) -> str:
    """Return a value as one short line."""
    text = value if isinstance(value, str) else json.dumps(as_data(value), ensure_ascii=False)
    shown = plain(text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def local_time(at_ms: int) -> str:
    """Return a time as this machine's clock shows it."""
    return datetime.fromtimestamp(at_ms / 1000).astimezone().isoformat(sep=" ", timespec="milliseconds")[:23]


def as_json(value: Any) -> str:
    """Return JSON that any reader takes and any terminal survives: ASCII only."""
    return json.dumps(as_data(value), indent=2, allow_nan=False)
