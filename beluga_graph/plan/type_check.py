"""Type checks of edges: whether a node's output fits the input of the next node, by their annotations.

The check is one-sided: it refuses types that surely do not fit and accepts everything else, because annotations may be
missing, generic or forward references.
"""

from __future__ import annotations

import collections.abc
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Union, get_args, get_origin

from beluga_graph.plan.plan import positional_parameters, wants_context

__all__ = ["input_type", "is_assignable", "output_type"]


def input_type(call: Callable[..., Any]) -> Any:
    """Return the annotation of a function's value parameter; `Any` if there is none."""
    parameters = positional_parameters(call)
    if parameters and wants_context(parameters[0]):
        parameters = parameters[1:]
    if not parameters:
        return Any
    return _hints(call).get(parameters[0].name, Any)


def output_type(call: Callable[..., Any]) -> Any:
    """Return the annotation of a function's result, awaited; `Any` if there is none."""
    found = _hints(call).get("return", Any)
    if get_origin(found) in (collections.abc.Awaitable, collections.abc.Coroutine):
        return get_args(found)[-1]
    return found


def _hints(call: Callable[..., Any]) -> dict[str, Any]:
    target = call if inspect.isroutine(call) or isinstance(call, type) else getattr(call, "__call__", call)  # noqa: B004
    try:
        return typing.get_type_hints(target, include_extras=True)
    except (
        NameError,
        TypeError,
        AttributeError,
        SyntaxError,
    ):  # an annotation that only a type checker resolves
        return {}


def is_assignable(given: Any, taken: Any) -> bool:
    """Return whether a value of type `given` may be passed as `taken`; in doubt, yes."""
    given, taken = _plain(given), _plain(taken)
    if Any in (given, taken) or taken is object or isinstance(given, typing.TypeVar | str):
        return True
    if isinstance(taken, typing.TypeVar | str):
        return True
    if _is_union(given):
        return all(is_assignable(one, taken) for one in get_args(given))
    if _is_union(taken):
        return any(is_assignable(given, one) for one in get_args(taken))
    if get_origin(given) is typing.Literal:
        return all(is_assignable(type(one), taken) or _literal(one, taken) for one in get_args(given))
    if get_origin(taken) is typing.Literal:
        return True
    wide, narrow = get_origin(taken) or taken, get_origin(given) or given
    if not isinstance(wide, type) or not isinstance(narrow, type):
        return True
    if not _subclass(narrow, wide):
        return False
    inner, outer = get_args(given), get_args(taken)
    if wide is narrow and len(inner) == len(outer) and wide in (list, set, frozenset, dict, tuple):
        return all(is_assignable(a, b) for a, b in zip(inner, outer, strict=True) if Ellipsis not in (a, b))
    return True


def _plain(annotation: Any) -> Any:
    if annotation is None:
        return type(None)
    if get_origin(annotation) is typing.Annotated:
        return _plain(get_args(annotation)[0])
    return getattr(annotation, "__supertype__", annotation)  # NewType


def _is_union(annotation: Any) -> bool:
    return get_origin(annotation) in (Union, types.UnionType)


def _literal(value: Any, taken: Any) -> bool:
    return get_origin(taken) is typing.Literal and value in get_args(taken)


def _subclass(narrow: type, wide: type) -> bool:
    if wide is float and narrow is int:  # PEP 484: an int passes for a float
        return True
    if wide is dict and hasattr(narrow, "__required_keys__"):  # a TypedDict
        return True
    try:
        return issubclass(narrow, wide)
    except TypeError:  # a protocol that cannot be checked at run time, or a TypedDict
        return True
