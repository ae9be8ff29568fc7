"""The plain words that shape, snapshot and transition share."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

__all__ = ["EventFields", "FailureFields", "Op", "Patch", "Renames", "Route", "Value"]

Route: TypeAlias = str | int | bool

FailureFields: TypeAlias = tuple[str, str, str, int, Any]
"""A failure as data: node, type, message, attempts, and the input (a `Value` or `None`)."""

Value: TypeAlias = bytes | FailureFields
"""What a token carries. The kernel never looks inside: bytes are an encoded value, a tuple is a failure."""

Op: TypeAlias = tuple[Any, ...]
"""One primitive change: its name, then its operands. Tuples, since a run makes millions of them."""

Renames: TypeAlias = tuple[tuple[str, str], ...]
"""Paths of nodes in the graph that was, and what they are in the graph that is."""

EventFields: TypeAlias = tuple[str, str, str, dict[str, Any] | None, int | None]
"""A stored event: type, node, token, fields, and the index of its value in the patch."""


class Patch(NamedTuple):
    """All that one trigger changes. Operations and events name values by their index in `values`."""

    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    events: tuple[EventFields, ...]
