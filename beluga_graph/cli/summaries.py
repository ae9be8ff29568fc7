"""A value summarized in one short line, at a cost that does not grow with the value."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from beluga_graph.cli.terminal_text import brief, to_printable
from beluga_graph.codec.values import Unregistered

__all__ = ["summarize", "summarize_pair"]

_LEVELS = 3
_PARTS = 6  # of one instance, mapping or list
_TEXT = 200
_BITS = 1_000


def summarize(value: Any, width_max: int = 80) -> str:
    """Return a value as one short line: instances by the name of their class, long values by their length."""
    return _cut(value if isinstance(value, str) else _outline(value, _LEVELS), width_max)


def summarize_pair(one: Any, other: Any, width_max: int = 60) -> tuple[str, str]:
    """Return two values as short lines. Two long texts are shown around the place where they begin to differ."""
    if not (isinstance(one, str) and isinstance(other, str)) or max(len(one), len(other)) <= width_max:
        return summarize(one, width_max), summarize(other, width_max)
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - width_max // 3)
    before = "…" if start else ""
    return _cut(before + one[start : start + _TEXT], width_max), _cut(before + other[start : start + _TEXT], width_max)


def _cut(text: str, width_max: int) -> str:
    shown = to_printable(text[: width_max + 1])
    return shown if len(shown) <= width_max else shown[: width_max - 1] + "…"


def _outline(value: Any, levels: int) -> str:
    if isinstance(value, str):
        return json.dumps(value[:_TEXT], ensure_ascii=False)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"a number of {value.bit_length():,} bits"
    if isinstance(value, Unregistered):
        return _instance(value.name.rpartition(":")[2].rpartition(".")[2], value.fields, levels)
    if isinstance(value, Mapping):
        pairs = (f"{_outline(key, 0)}: {_outline(part, levels - 1)}" for key, part in value.items())
        return f"{{{_first(pairs, len(value), levels)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{_first((_outline(part, levels - 1) for part in value), len(value), levels)}]"
    kind = type(value)
    names = getattr(kind, "__pydantic_fields__", None)
    if names is None and dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    if names is not None:
        return _instance(kind.__name__, {name: getattr(value, name, None) for name in names}, levels)
    return brief(value, _TEXT)


def _instance(name: str, fields: Mapping[str, Any], levels: int) -> str:
    parts = (f"{field}={_outline(part, levels - 1)}" for field, part in fields.items())
    return f"{name}({_first(parts, len(fields), levels)})"


def _first(parts: Iterable[str], count: int, levels: int) -> str:
    """Join the first parts, and count all if there are more."""
    if not count:
        return ""
    if levels <= 0:
        return f"… {count:,} in all"
    shown = list(itertools.islice(parts, _PARTS))
    return ", ".join(shown) if count <= _PARTS else f"{', '.join(shown[:3])}, … {count:,} in all"
