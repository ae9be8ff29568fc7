"""Walk: the parts of a value with their paths, for when something about it must be said.

Slow beside the encoder, which does not know where it is; so this runs only when a value is refused, or must
be searched.
"""

from collections.abc import Iterator
from typing import Any

from beluga_graph.codec import instances
from beluga_graph.codec.hash_collisions import CROWD, is_crowded
from beluga_graph.codec.registry import BUILT_IN, Registry, kind_of
from beluga_graph.codec.safe_repr import shown
from beluga_graph.codec.scalars import LEAF_WRITERS, Refused
from beluga_graph.codec.stand_in import StandIn

__all__ = ["SCALARS", "Path", "Walk", "joined"]

SCALARS = frozenset({str, bytes, int, float, bool, type(None)})

# A path is linked to the one above it, so that a walk writes no text unless it finds something.
Path = tuple[()] | tuple[Any, str]


def joined(path: Path) -> str:
    steps = []
    while path:
        path, step = path
        steps.append(step)
    return "".join(reversed(steps))


class Walk:
    """Each part of a value that is no scalar, outside in, each object once.

    Gives its path, itself, and why it cannot be written, or "" if it can.
    """

    def __init__(self, registry: Registry, value: Any) -> None:
        self._registry = registry
        self._value = value

    def __iter__(self) -> Iterator[tuple[Path, Any, str]]:
        todo: list[tuple[Path, Any]] = [((), self._value)]
        # By identity, which also ends the walk of a value that contains itself; the parts are kept, for an id
        # may be used again.
        seen: dict[int, Any] = {}
        while todo:
            path, part = todo.pop()
            if type(part) in SCALARS or id(part) in seen:
                continue
            seen[id(part)] = part
            try:
                inner = list(self._inside(part))
            except Exception as error:  # noqa: BLE001 - a user's property may raise anything; it becomes the reason
                yield path, part, str(error) if isinstance(error, Refused) else f"reading it fails: {error!r}"
                continue
            yield path, part, ""
            todo.extend(((path, step), each) for step, each in reversed(inner))

    def _inside(self, part: Any) -> Iterator[tuple[str, Any]]:
        """Give the parts of a part, each with its step in the path. Raises `Refused`."""
        cls = type(part)
        if cls is list or cls is tuple:
            if not SCALARS.issuperset(map(type, part)):  # a vector of a million floats is passed in one look
                yield from ((f"[{index}]", each) for index, each in enumerate(part))
        elif cls is set or cls is frozenset:
            if is_crowded(part):
                raise Refused(CROWD)
            yield from (("{}", each) for each in part)
        elif cls is dict:
            if is_crowded(part):
                raise Refused(CROWD)
            for key, each in part.items():
                yield f"{{key {shown(key)}}}", key
                yield f"[{shown(key)}]", each
        elif (entry := self._registry.entry_of(cls)) is not None:
            yield from _attributes(instances.take_apart(entry, part))
        elif cls in LEAF_WRITERS:
            LEAF_WRITERS[cls][1](part)
        elif isinstance(part, StandIn):
            yield "", part.stored()
        else:
            raise Refused(_way_out(part))


def _attributes(taken: list[Any]) -> Iterator[tuple[str, Any]]:
    for group in taken:
        if isinstance(group, dict):
            yield from ((f".{name}", each) for name, each in group.items())


def _way_out(value: Any) -> str:
    """Say why a value of this type is refused, and what to do."""
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
    return "a live object cannot be stored: pass what it is made from, and keep it among the engine's deps"
