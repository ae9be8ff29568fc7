"""Stored data as text for a terminal, and as JSON.

What a store holds is untrusted: a title may carry the codes that recolour a terminal, or retitle its window.
So text is shown with every character that does not print written out, and never as markup.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from datetime import datetime
from enum import Enum
from typing import Any

from beluga_graph.codec import Unregistered

__all__ = ["as_data", "as_json", "brief", "local_time", "one_line", "plain"]

_LEVELS = 200  # json nests no deeper without trouble


def plain(text: str) -> str:
    """Return text with every character that does not print (controls, bidi marks, lone surrogates) written out."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else sign.encode("unicode_escape").decode() for sign in text)


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


def as_data(value: Any, levels: int = _LEVELS) -> Any:
    """Return a value as what JSON can say; what it has no word for becomes text, or an object with `$type`."""
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if levels == 0:
        return "…"
    if isinstance(value, Enum):
        return as_data(value.value, levels - 1)
    if isinstance(value, int):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return {"$type": "bytes", "hex": value.hex()}
    return _parts(value, levels - 1)


def _parts(value: Any, levels: int) -> Any:
    if isinstance(value, Unregistered):
        return {"$type": value.name, **as_data(value.fields, levels)}
    if (fields := getattr(type(value), "__pydantic_fields__", None)) is not None:
        return {name: as_data(getattr(value, name), levels) for name in fields}
    if dataclasses.is_dataclass(value):
        return {field.name: as_data(getattr(value, field.name), levels) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key, levels): as_data(item, levels) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((as_data(item, levels) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, list | tuple):
        return [as_data(item, levels) for item in value]
    return str(value)  # dates, times, UUIDs, decimals


def _key(key: Any, levels: int) -> str:
    return key if isinstance(key, str) else json.dumps(as_data(key, levels))
