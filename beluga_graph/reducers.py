"""Reducers: how an update of a state field joins what is there.

A reducer is named in the type: `total: Annotated[int, add] = 0`. It is a pure function of the current value
and the update. A node's updates are applied one by one, in order: `r(r(value, a), b)`.

A branch of a fan-out does not know the value that its updates will reach, so it combines them into one, and so
does a fan-out within a branch: `r(value, r(a, b))`. There the reducer must be *associative*: `r(r(a, b), c) ==
r(a, r(b, c))`. The reducers here are. `lambda items, new: [*items, new]` is not, for it cannot take an item for
`items`: it serves outside of fan-outs, and in branches that update the field once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

__all__ = ["Reducer", "add", "append", "last", "maximum", "merge", "union"]

Reducer: TypeAlias = Callable[[Any, Any], Any]


def append(current: Any, update: Any) -> Any:
    """Append to a list: a list or tuple adds its items, anything else is one item.

    The engine stores each item once, under a key of its own, so a step never pays for the list's length.
    """
    return [*current, *(update if isinstance(update, list | tuple) else (update,))]


def add(current: Any, update: Any) -> Any:
    """Return the sum: `update(n=1)` adds one."""
    return current + update


def union(current: Any, update: Any) -> Any:
    """Return the set of both; any iterable will do as the update."""
    return set(current) | set(update)


def merge(current: Mapping[Any, Any], update: Mapping[Any, Any]) -> dict[Any, Any]:
    """Return a dict of both; the update wins where both have a key."""
    return {**current, **update}


def maximum(current: Any, update: Any) -> Any:
    """Return the larger one."""
    return max(current, update)


def last(current: Any, update: Any) -> Any:
    """Return the update: the last branch, in branch order, wins."""
    del current
    return update
