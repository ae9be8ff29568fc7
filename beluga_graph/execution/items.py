"""The items of append fields, as attempts read them: a list that cannot be changed, and what is known of it.

A step that looks at a field of 10,000 items must not decode 10,000 items. Items are written once, so all attempts
of a run in this process share what was decoded of them:

| an item                                       | an attempt gets                                             |
|-----------------------------------------------|-------------------------------------------------------------|
| cannot be changed: text, a frozen class       | the shared one                                              |
| dicts and lists of those                      | its own, decoded when the item is taken out of the list     |
| anything else, such as a model that is no frozen one | its own, decoded when the field is read               |

C code (pydantic, for one) reads the memory of a list past every method. So the memory of the list always holds the
items: for those of the second row, until they are taken out, a shared copy that refuses to be changed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, SupportsIndex

from beluga_graph.codec.immutable import is_immutable
from beluga_graph.codec.stand_in import StandIn
from beluga_graph.errors import StateError
from beluga_graph.kernel.types import Value

__all__ = ["FieldItems", "ItemReader", "KnownItems"]

_WHOLE = slice(None)
_LEVELS = 50  # deeper items are not shared


class ItemReader(Protocol):
    """Where encoded items come from, and what decodes them."""

    def decode(self, value: Value) -> Any:
        """Return a fresh copy of a value."""
        ...

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer at `place`."""
        ...


def _refuse_part(*_: Any, **__: Any) -> NoReturn:
    raise StateError("", "a part of an item of an append field cannot be changed here: change a copy.deepcopy of it")


class _SharedDict(dict[Any, Any], StandIn):
    """A dict that all attempts share."""

    __slots__ = ()

    def to_value(self) -> dict[Any, Any]:
        return dict(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (), None, None, iter(self.items())

    if not TYPE_CHECKING:  # no signature of a dict's fits what never returns
        __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse_part


class _SharedList(list[Any], StandIn):
    """A list that all attempts share."""

    __slots__ = ()

    def to_value(self) -> list[Any]:
        return list(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (), None, iter(self)

    if not TYPE_CHECKING:
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse_part
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse_part


class _Unshared(Exception):
    """A value cannot be shared by attempts."""


def _shared(value: Any, levels: int = _LEVELS) -> Any:
    """Return what all attempts may share of a decoded value. Raises `_Unshared`."""
    cls = type(value)
    if levels:
        if cls is dict and is_immutable(tuple(value)):
            return _SharedDict((key, _shared(part, levels - 1)) for key, part in value.items())
        if cls is list:
            return _SharedList(_shared(part, levels - 1) for part in value)
        if is_immutable(value):
            return value
        if cls is tuple:
            return tuple(_shared(part, levels - 1) for part in value)
    raise _Unshared


class _Layer:
    """What is known of one field at one place."""

    __slots__ = ("items", "lazy", "unshared")

    def __init__(self) -> None:
        self.items: list[Any] = []  # what is shared; `None` for an item that is not
        self.lazy: dict[int, bytes] = {}  # encoded, by index: an attempt gets its own when it takes the item out
        self.unshared: list[tuple[int, bytes]] = []  # likewise: an attempt gets its own when it reads the field


class _Segment(NamedTuple):
    """Where items of a layer are in the list of an attempt."""

    first: int
    length: int
    lazy: dict[int, bytes]


class FieldItems(list[Any], StandIn):
    """What `ctx.state.<field>` is of an append field: a list in all but that it cannot be changed."""

    __slots__ = ("_field", "_own", "_reader", "_segments")

    def __new__(cls, items: Iterable[Any] = (), *given: Any) -> Any:
        """Return a plain list of items alone: libraries so make another object of the type of a given one."""
        return super().__new__(cls) if given else list(items)

    def __init__(self, items: Iterable[Any], field: str, reader: ItemReader) -> None:
        super().__init__(items)
        self._field = field
        self._reader = reader
        self._segments: list[_Segment] = []
        self._own: set[int] = set()  # indices of lazy items that this attempt has a copy of

    def take(self, layer: _Layer, length: int) -> None:
        """Add the first items of a layer."""
        first = len(self)
        list.extend(self, layer.items)
        list.__delitem__(self, slice(first + length, None))  # what is known may be longer by now
        for index, encoded in tuple(layer.unshared):
            if index < length:
                list.__setitem__(self, first + index, self._reader.decode(encoded))
        self._segments.append(_Segment(first, length, layer.lazy))

    def grown(self, items: Iterable[Any]) -> FieldItems:
        """Return this with further items, which are the attempt's own."""
        found: FieldItems = FieldItems(list.__getitem__(self, _WHOLE), self._field, self._reader)
        list.extend(found, items)
        found._segments, found._own = list(self._segments), set(self._own)
        return found

    def to_value(self) -> list[Any]:
        """Return a plain list of the items."""
        return list.__getitem__(self, _WHOLE)

    # Taking items out.

    def _get(self, index: int) -> None:
        """Put the attempt's own copy of an item in its place, if it needs one."""
        if index in self._own:
            return
        for first, length, lazy in self._segments:
            encoded = lazy.get(index - first) if first <= index < first + length else None
            if encoded is not None:
                list.__setitem__(self, index, self._reader.decode(encoded))
                self._own.add(index)

    def _get_all(self) -> FieldItems:
        for first, length, lazy in self._segments:
            if lazy:
                for index in range(first, first + length):
                    self._get(index)
        return self

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            for each in range(*index.indices(len(self))):
                self._get(each)
        elif isinstance(index, SupportsIndex):
            at = index.__index__()
            self._get(at + len(self) if at < 0 else at)
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        return list.__iter__(self._get_all())

    def __reversed__(self) -> Iterator[Any]:
        return list.__reversed__(self._get_all())

    def __add__(self, other: Any) -> Any:
        return list.__add__(self._get_all(), other._get_all() if isinstance(other, FieldItems) else other)

    def __radd__(self, other: Any) -> Any:
        self._get_all()
        return NotImplemented  # a list adds what is in the memory of this one

    def __mul__(self, times: Any) -> Any:
        return list.__mul__(self._get_all(), times)

    def __rmul__(self, times: Any) -> Any:
        return list.__rmul__(self._get_all(), times)

    def copy(self) -> list[Any]:
        """Return a plain list."""
        return list.copy(self._get_all())

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Make copies plain lists: whoever copies a list means to change the copy."""
        return list, (), None, iter(self)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        field = self._field
        way_out = f"write ctx.update({field}=…) to append, or change a copy: list(ctx.state.{field})"
        raise StateError("", f"state field {field!r} cannot be changed in place: {way_out}")

    if not TYPE_CHECKING:
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse


class KnownItems:
    """The items of one run's append fields that were read before; lost with the process. Any thread may use it."""

    __slots__ = ("_layers", "_lock")

    def __init__(self) -> None:
        self._layers: dict[tuple[str, str], _Layer] = {}
        self._lock = Lock()

    def read(self, reader: ItemReader, place: str, field: str, length: int) -> _Layer:
        """Return a layer of which at least `length` items are known. Its cost is the items that are new."""
        layer = self._layers.get((place, field))
        if layer is None:
            layer = self._layers.setdefault((place, field), _Layer())
        while len(layer.items) < length:
            self._learn(layer, reader, place, field, length)
        return layer

    def forget(self, places: Any) -> None:
        """Forget the places that are no more, once they outnumber those that are."""
        if len(self._layers) > 2 * len(places) + 8:
            for key in tuple(self._layers):
                if key[0] not in places:
                    self._layers.pop(key, None)

    def _learn(self, layer: _Layer, reader: ItemReader, place: str, field: str, length: int) -> None:
        start = len(layer.items)
        items: list[Any] = []
        lazy: dict[int, bytes] = {}
        unshared: list[tuple[int, bytes]] = []
        for index, encoded in enumerate(reader.read_items(place, field, start, length), start):
            item = reader.decode(encoded)
            try:
                items.append(_shared(item))
            except _Unshared:
                items.append(None)
                unshared.append((index, encoded))
            else:
                if not is_immutable(item):
                    lazy[index] = encoded
        with self._lock:
            if len(layer.items) == start:  # else another thread has learnt of them meanwhile
                layer.lazy.update(lazy)
                layer.unshared += unshared
                layer.items += items
