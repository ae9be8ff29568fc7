"""Converts values to JSON data for people and other programs. The original value cannot be restored from it."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from beluga_graph.codec.values import Unregistered

__all__ = ["to_json"]

_BITS = 14_000
_LEVELS = 200  # json fails on much deeper nesting


def to_json(value: Any, levels: int = _LEVELS) -> Any:
    """Return a value as JSON data: a type that JSON lacks becomes text, or an object with `$type`."""
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if levels == 0:
        return "…"
    if isinstance(value, Enum):
        return to_json(value.value, levels - 1)
    if isinstance(value, int):
        # Python refuses to write a number of more than 4,300 digits in decimals.
        return value if value.bit_length() <= _BITS else {"$type": "int", "hex": f"{value:x}"}
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, bytes):
        return {"$type": "bytes", "hex": value.hex()}
    return _convert_parts(value, levels - 1)


def _convert_parts(value: Any, levels: int) -> Any:
    if isinstance(value, Unregistered):
        return {"$type": value.name, **to_json(value.fields, levels)}
    if (fields := getattr(type(value), "__pydantic_fields__", None)) is not None:
        return {name: to_json(getattr(value, name), levels) for name in fields}
    if dataclasses.is_dataclass(value):
        return {field.name: to_json(getattr(value, field.name), levels) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_convert_key(key, levels): to_json(item, levels) for key, item in value.items()}
    if isinstance(value, set | frozenset):
        return sorted((to_json(item, levels) for item in value), key=lambda item: json.dumps(item, sort_keys=True))
    if isinstance(value, list | tuple):
        return [to_json(item, levels) for item in value]
    return str(value)  # dates, times, UUIDs, decimals


def _convert_key(key: Any, levels: int) -> str:
    return key if isinstance(key, str) else json.dumps(to_json(key, levels))
