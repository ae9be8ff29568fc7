"""Checks of declared nodes that need no other node: names, times, approvals, types."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

from beluga_graph.codec.registry import Registry
from beluga_graph.errors import BadName
from beluga_graph.kernel.names import is_blank
from beluga_graph.kernel.rules import is_answer
from beluga_graph.plan.declared import END, START, Approval, DeclaredNode, make_flow_id

__all__ = [
    "check_approval",
    "check_count",
    "check_flow_name",
    "check_name",
    "check_signal",
    "check_signal_name",
    "check_types",
]

_NAME = re.compile(r"[^/#\[\]$\x00-\x1f\x7f]{1,200}")
_VERSION = re.compile(r"[A-Za-z0-9._+-]{1,40}")


def check_name(graph: str, name: str) -> None:
    """Raise `BadName` unless this is a valid name for a flow, or for a node of `graph`."""
    is_good = isinstance(name, str) and _NAME.fullmatch(name) and name not in (START.name, END.name)
    if not is_good or is_blank(name):
        rule = "a name is 1 to 200 characters without / # [ ] $ and control characters, and not START or END"
        if is_good:
            rule = "it has no visible character"
        raise BadName(graph, f"name {name!r:.100}", rule, "choose another one")


def check_flow_name(name: str, version: str | None) -> None:
    """Raise `BadName` unless these are a valid name and version of a flow."""
    check_name(name, name)
    if version is None:
        return
    if not isinstance(version, str) or _VERSION.fullmatch(version) is None:
        rule = "a version is a text of 1 to 40 letters and digits of ASCII, and . _ + -"
        raise BadName(name, f"version {version!r:.100}", rule, 'choose another one, such as version="2"')
    if "@" in name:  # `shop@home` would look like version "home" of `shop`
        rule = f"it contains @, which separates the version {version!r} from the name"
        raise BadName(name, f"name {name!r}", rule, "choose a name without @")
    check_name(name, make_flow_id(name, version))


def check_signal_name(graph: str, node: DeclaredNode) -> None:
    """Raise `BadName` if the signal that a node waits for has no name, or the name of a person's answer."""
    if node.kind == "wait" and not node.asks:
        check_signal(graph, f"node {node.name!r}", node.signal)


def check_signal(graph: str, where: str, signal: str) -> None:
    """Raise `BadName` if a signal has no name, or the name of a person's answer."""
    if not isinstance(signal, str) or is_blank(signal):
        rule = f"it waits for the signal {signal!r:.100}, which is not a name"
        raise BadName(graph, where, rule, "give a text with visible characters")
    if is_answer(signal):
        rule = f"it waits for {signal!r}, a name that is reserved for a person's answer"
        raise BadName(graph, where, rule, "choose another signal")


def check_count(what: str, count: int | None) -> int | None:
    """Return a count unchanged. Raises `ValueError` unless it is `None` or a whole number of at least 1."""
    if count is not None and (type(count) is not int or count < 1):
        msg = f"{what}={count!r}: a whole number of at least 1"
        raise ValueError(msg)
    return count


def check_approval(where: str, requires_approval: Approval) -> None:
    """Raise `TypeError` unless this is a bool, or a function that may return one."""
    if not isinstance(requires_approval, bool) and (
        isinstance(requires_approval, type) or not callable(requires_approval)
    ):
        msg = f"{where}: requires_approval={requires_approval!r:.100}; give True, or a function that returns a bool"
        raise TypeError(msg)


def check_types(where: str, types: Iterable[Any]) -> tuple[Any, ...]:
    """Return the types that a flow names in addition to its annotations.

    Raises `TypeError` for a type that contains no class whose instances can be stored.
    """
    if isinstance(types, type) or not isinstance(types, Iterable):
        msg = f"{where}: types={types!r:.100}; give a list of types: types=[…]"
        raise TypeError(msg)
    named = tuple(types)
    for annotation in named:
        if not len(Registry.of(annotation)):
            msg = f"{where}: types= names {annotation!r:.100}, which contains no dataclass, pydantic model or Enum"
            raise TypeError(msg)
    return named
