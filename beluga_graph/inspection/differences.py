"""The differences of two decoded values, part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from decimal import Decimal
from enum import Enum
from itertools import zip_longest
from math import isnan
from typing import Any

from beluga_graph.codec.values import Unregistered
from beluga_graph.inspection.comparison import ABSENT

__all__ = ["are_same", "differences"]


def are_same(one: Any, other: Any) -> bool:
    """Return whether two decoded values are equal, types too: `1`, `1.0` and `True` differ. NaN equals itself."""
    return next(differences(one, other), None) is None


def differences(one: Any, other: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Yield where two decoded values differ, as in `.rows[3]["name"]`, and the part of each there, or `ABSENT`."""
    todo = [(path, one, other)]  # not by recursion: values may nest deeper than Python's calls can
    while todo:
        path, one, other = todo.pop()
        children = _children(path, one, other) if type(one) is type(other) else None
        if children is not None:
            todo.extend(reversed(children))
        elif type(one) is not type(other) or _form(one) != _form(other):
            yield path, one, other


def _children(path: str, one: Any, other: Any) -> list[tuple[str, Any, Any]] | None:
    """Return the parts of two values of one type, side by side; `None` if they have no parts to compare."""
    if isinstance(one, dict):
        pairs = {_form(key): (key, value) for key, value in one.items()}
        others = {_form(key): (key, value) for key, value in other.items()}
        both = [(pairs.get(form), others.get(form)) for form in {**pairs, **others}]
        return [
            (
                f"{path}[{_key((mine or theirs or (None,))[0])}]",
                mine[1] if mine else ABSENT,
                theirs[1] if theirs else ABSENT,
            )
            for mine, theirs in both
        ]
    if isinstance(one, list | tuple):
        found = enumerate(zip_longest(one, other, fillvalue=ABSENT))
        return [(f"{path}[{index}]", mine, theirs) for index, (mine, theirs) in found]
    if isinstance(one, Unregistered):
        if one.name != other.name:
            return None
        names = [*{**one.fields, **other.fields}]
        return [(f"{path}.{name}", one.fields.get(name, ABSENT), other.fields.get(name, ABSENT)) for name in names]
    if names := _fields_of(one):
        return [(f"{path}.{name}", getattr(one, name, ABSENT), getattr(other, name, ABSENT)) for name in names]
    return None


def _form(value: Any) -> Any:
    """Return a key that two values share if and only if they are equal, types too; NaN equals itself.

    `==` will not do: it may raise (a signaling NaN, a user's class), and it denies that NaN equals itself.
    """
    cls = type(value)
    if isinstance(value, Decimal):
        return cls, str(value) if value.is_nan() else value
    if isinstance(value, float):
        return cls, "nan" if isnan(value) else value
    if isinstance(value, dict):
        return cls, frozenset((_form(key), _form(part)) for key, part in value.items())
    if isinstance(value, list | tuple):
        return cls, tuple(_form(part) for part in value)
    if isinstance(value, set | frozenset):
        return cls, frozenset(_form(part) for part in value)
    if isinstance(value, Enum):
        return cls, value.name, _form(value.value)
    if isinstance(value, Unregistered):
        return cls, value.name, _form(value.fields)
    if names := _fields_of(value):
        return cls, tuple(_form(getattr(value, name, ABSENT)) for name in names)
    return cls, value


def _key(key: Any) -> str:
    return json.dumps(key, ensure_ascii=False) if isinstance(key, str) else f"{key!r:.80}"


def _fields_of(value: Any) -> list[str]:
    if (names := getattr(type(value), "__pydantic_fields__", None)) is not None:
        return list(names)
    return [field.name for field in fields(value)] if is_dataclass(value) and not isinstance(value, type) else []
