"""Values as what JSON can say: for people and other programs to read, not to come back as what they were."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from enum import Enum
from typing import Any

from beluga_graph.codec.values import Unregistered

__all__ = ["as_data"]

_BITS = 14_000
_LEVELS = 200  # json nests no deeper without trouble


def as_data(value: Any, levels: int = _LEVELS) -> Any:
    """Return a value as what JSON can say; what it has no word for becomes text, or an object with `$type`."""
    if value is None or (isinstance(value, bool | str) and not isinstance(value, Enum)):
        return value
    if levels == 0:
        return "…"
    if isinstance(value, Enum):
        return as_data(value.value, levels - 1)
    if isinstance(value, int):
        # Python writes no number of more than 4,300 digits in decimals.
        return value if value.bit_length() <= _BITS else {"$type": "int", "hex": f"{value:x}"}
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
