"""Types that the modules of the kernel share."""

from __future__ import annotations

from typing import Any, NamedTuple, TypeAlias

__all__ = ["DecidedTime", "EventFields", "FailureFields", "Op", "Patch", "Renames", "Route", "Value"]

Route: TypeAlias = str | int | bool

FailureFields: TypeAlias = tuple[str, str, str, int, Any]
"""A failure as data: node, type, message, attempts, and the input (a `Value` or `None`)."""

Value: TypeAlias = bytes | FailureFields
"""The value of a token: bytes are an encoded value, a tuple is a failure. The kernel never looks inside."""

DecidedTime: TypeAlias = tuple[str, int]
"""A time that a function decided: `after`, `at` or `never`, and milliseconds. See `kernel.times`."""

Op: TypeAlias = tuple[Any, ...]
"""One primitive change: its kind, then its operands, as `kernel.ops` lists them."""

Renames: TypeAlias = tuple[tuple[str, str], ...]
"""Pairs of a node's path in the earlier graph and its path in the current one."""

EventFields: TypeAlias = tuple[str, str, str, dict[str, Any] | None, int | None]
"""A stored event: type, node, token, fields, and the index of its value in the patch."""


class Patch(NamedTuple):
    """The changes that one trigger makes. Operations and events refer to values by their index in `values`."""

    values: tuple[Value, ...]
    ops: tuple[Op, ...]
    events: tuple[EventFields, ...]
