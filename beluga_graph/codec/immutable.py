"""Finds values that cannot be changed, so that readers can share one copy."""

from __future__ import annotations

import dataclasses
import enum
from typing import Any

from beluga_graph.codec.scalars import NATIVE_SCALARS, SCALAR_WRITERS

__all__ = ["is_immutable"]


def is_immutable(value: Any) -> bool:
    """Return whether no part of a decoded value can be changed: scalars, and tuples and frozen classes of those."""
    todo = [value]
    while todo:
        part = todo.pop()
        cls = type(part)
        if cls in NATIVE_SCALARS or cls in SCALAR_WRITERS or isinstance(part, enum.Enum):
            continue
        if cls is tuple or cls is frozenset:
            todo.extend(part)
        elif dataclasses.is_dataclass(cls):
            if not cls.__dataclass_params__.frozen:  # type: ignore[attr-defined]  # the stubs lack it
                return False
            todo.extend(getattr(part, field.name) for field in dataclasses.fields(cls))
        elif hasattr(cls, "__pydantic_fields__") and cls.model_config.get("frozen"):
            if part.__pydantic_extra__ or part.__pydantic_private__:
                return False
            todo.extend(getattr(part, name) for name in cls.__pydantic_fields__)
        else:
            return False
    return True
