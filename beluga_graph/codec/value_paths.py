"""Walks a value with the path of each part, to find the part that an error is about.

Much slower than the encoder, which does not know its position. So this runs only when a value is refused or
must be searched.
"""

from collections.abc import Iterator
from typing import Any

from beluga_graph.codec import instances
from beluga_graph.codec.entry import BUILT_IN, kind_of
from beluga_graph.codec.hash_collisions import COLLISIONS, has_collisions
from beluga_graph.codec.registry import Registry
from beluga_graph.codec.safe_repr import format_value
from beluga_graph.codec.scalars import NATIVE_SCALARS, SCALAR_WRITERS, Refused
from beluga_graph.codec.stand_in import StandIn

__all__ = ["Path", "join_path", "walk_value"]

# A path links to its parent path, so that a walk formats no text unless it finds a problem.
Path = tuple[()] | tuple[Any, str]


def join_path(path: Path) -> str:
    """Return a path as text, such as `[0].name`."""
    steps = []
    while path:
        path, step = path
        steps.append(step)
    return "".join(reversed(steps))


def walk_value(registry: Registry, value: Any) -> Iterator[tuple[Path, Any, str]]:
    """Yield each part of a value that is not a native scalar, outermost first, each object once.

    Yields the path, the part, and the reason why it cannot be written, or "" if it can.
    """
    todo: list[tuple[Path, Any]] = [((), value)]
    # By identity, which also ends the walk of a value that contains itself. The parts are kept because the id of
    # a freed object may be reused.
    seen: dict[int, Any] = {}
    while todo:
        path, part = todo.pop()
        if type(part) in NATIVE_SCALARS or id(part) in seen:
            continue
        seen[id(part)] = part
        try:
            inner = list(_inner_parts(registry, part))
        except Exception as error:  # noqa: BLE001 - a user's property may raise anything; it becomes the reason
            yield path, part, str(error) if isinstance(error, Refused) else f"reading it fails: {error!r}"
            continue
        yield path, part, ""
        todo.extend(((path, step), each) for step, each in reversed(inner))


def _inner_parts(registry: Registry, part: Any) -> Iterator[tuple[str, Any]]:
    """Yield the parts of a part, each with its step in the path. Raises `Refused`."""
    cls = type(part)
    if cls is list or cls is tuple:
        if not NATIVE_SCALARS.issuperset(map(type, part)):  # skips a vector of a million floats at once
            yield from ((f"[{index}]", each) for index, each in enumerate(part))
    elif cls is set or cls is frozenset:
        if has_collisions(part):
            raise Refused(COLLISIONS)
        yield from (("{}", each) for each in part)
    elif cls is dict:
        if has_collisions(part):
            raise Refused(COLLISIONS)
        for key, each in part.items():
            yield f"{{key {format_value(key)}}}", key
            yield f"[{format_value(key)}]", each
    elif (entry := registry.entry_of(cls)) is not None:
        yield from _attributes(instances.take_apart(entry, part))
    elif cls in SCALAR_WRITERS:
        SCALAR_WRITERS[cls][1](part)
    elif isinstance(part, StandIn):
        yield "", part.to_value()
    else:
        raise Refused(_refusal(part))


def _attributes(taken: list[Any]) -> Iterator[tuple[str, Any]]:
    for group in taken:
        if isinstance(group, dict):
            yield from ((f".{name}", each) for name, each in group.items())


def _refusal(value: Any) -> str:
    """Return why a value of this type is refused, and the way out."""
    cls = type(value)
    if kind_of(cls) is not None:
        return "its class is not registered: annotate a node or a tool with it, or name it in types= of the flow"
    if cls is bytearray or cls is memoryview:
        return "it would come back as bytes: use bytes(...)"
    if isinstance(value, tuple):
        return "it would come back as a plain tuple: use a dataclass, or tuple(...)"
    if isinstance(value, BUILT_IN) and cls not in BUILT_IN:
        base = next(base for base in BUILT_IN if isinstance(value, base))
        return f"it would come back as a plain {base.__name__}: use {base.__name__}(...), or a dataclass"
    if callable(value):
        return "code is never stored: pass a name and look it up where it is used"
    return "a live object cannot be stored: pass the data that it is made from, and keep it among the engine's deps"
