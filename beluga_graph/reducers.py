"""Reducers: how an update of a state field is combined with the field's value.

Name a reducer in the field's type: `total: Annotated[int, add] = 0`. A reducer is a pure function of the current value
and the update. A node's updates are applied one by one, in order: `r(r(value, a), b)`.

A branch of a fan-out does not know the value that its updates will reach, so it combines them into one update, and so
does a fan-out within a branch: `r(value, r(a, b))`. There the reducer must be *associative*: `r(r(a, b), c) ==
r(a, r(b, c))`. The reducers here are. `lambda items, new: [*items, new]` is not, because it cannot take an item in
place of `items`: use it outside of fan-outs, or update the field once per branch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

__all__ = ["Reducer", "add", "append", "last", "maximum", "merge", "union"]

Reducer: TypeAlias = Callable[[Any, Any], Any]


def append(current: Any, update: Any) -> Any:
    """Append to a list: a list or tuple adds its items, any other value is one item.

    The engine stores each item once, under a key of its own, so the cost of a step does not grow with the list.
    """
    return [*current, *(update if isinstance(update, list | tuple) else (update,))]


def add(current: Any, update: Any) -> Any:
    """Return the sum: `ctx.update(n=1)` adds one."""
    return current + update


def union(current: Any, update: Any) -> Any:
    """Return the union of both as a set; the update may be any iterable."""
    return set(current) | set(update)


def merge(current: Mapping[Any, Any], update: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a dict with the keys of both; the update's value wins for a key that both have."""
    return {**current, **update}


def maximum(current: Any, update: Any) -> Any:
    """Return the larger of the two."""
    return max(current, update)


def last(current: Any, update: Any) -> Any:
    """Return the update. Of several branches, the last in branch order wins."""
    del current
    return update
