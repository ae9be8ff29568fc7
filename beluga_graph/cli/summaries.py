"""A value at a glance: its outline in a few words, at a cost that does not grow with the value."""

from __future__ import annotations

import dataclasses
import itertools
import json
from collections.abc import Iterable, Mapping
from typing import Any

from beluga_graph.cli.terminal_text import brief, plain
from beluga_graph.codec import Unregistered

__all__ = ["glance", "glance_apart"]

_LEVELS = 3
_PARTS = 6  # of one instance, mapping or list
_TEXT = 200
_BITS = 1_000


def glance(value: Any, most: int = 80) -> str:
    """Return a value as one short line: instances by the name of their class, long ones by how long they are."""
    return _cut(value if isinstance(value, str) else _told(value, _LEVELS), most)


def glance_apart(one: Any, other: Any, most: int = 60) -> tuple[str, str]:
    """Return two values as short lines; of two long texts, what is around the place where they part."""
    if not (isinstance(one, str) and isinstance(other, str)) or max(len(one), len(other)) <= most:
        return glance(one, most), glance(other, most)
    same = next((at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))
    start = max(0, same - most // 3)
    before = "…" if start else ""
    return _cut(before + one[start : start + _TEXT], most), _cut(before + other[start : start + _TEXT], most)


def _cut(text: str, most: int) -> str:
    shown = plain(text[: most + 1])
    return shown if len(shown) <= most else shown[: most - 1] + "…"


def _told(value: Any, levels: int) -> str:
    if isinstance(value, str):
        return json.dumps(value[:_TEXT], ensure_ascii=False)
    if isinstance(value, bytes):
        return f"{len(value):,} bytes"
    if isinstance(value, int) and value.bit_length() > _BITS:
        return f"a number of {value.bit_length():,} bits"
    if isinstance(value, Unregistered):
        return _named(value.name.rpartition(":")[2].rpartition(".")[2], value.fields, levels)
    if isinstance(value, Mapping):
        pairs = (f"{_told(key, 0)}: {_told(part, levels - 1)}" for key, part in value.items())
        return f"{{{_some(pairs, len(value), levels)}}}"
    if isinstance(value, list | tuple | set | frozenset):
        return f"[{_some((_told(part, levels - 1) for part in value), len(value), levels)}]"
    kind = type(value)
    names = getattr(kind, "__pydantic_fields__", None)
    if names is None and dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value)]
    if names is not None:
        return _named(kind.__name__, {name: getattr(value, name, None) for name in names}, levels)
    return brief(value, _TEXT)


def _named(name: str, fields: Mapping[str, Any], levels: int) -> str:
    parts = (f"{field}={_told(part, levels - 1)}" for field, part in fields.items())
    return f"{name}({_some(parts, len(fields), levels)})"


def _some(parts: Iterable[str], count: int, levels: int) -> str:
    if not count:
        return ""
    if levels <= 0:
        return f"… {count:,} in all"
    shown = list(itertools.islice(parts, _PARTS))
    return ", ".join(shown) if count <= _PARTS else f"{', '.join(shown[:3])}, … {count:,} in all"
