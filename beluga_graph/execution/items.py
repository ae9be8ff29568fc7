"""The items of append fields as attempts read them: an immutable list, and a cache of the decoded items.

A step that reads a field of 10,000 items must not decode 10,000 items. Items are written once, so all attempts of
a run in this process share the decoded items:

| an item                                         | an attempt gets                                           |
|-------------------------------------------------|-----------------------------------------------------------|
| is immutable: text, a frozen class              | the shared item                                           |
| consists of dicts and lists of those            | its own copy, decoded when it takes the item from the list |
| anything else, such as a model that is not frozen | its own copy, decoded when it reads the field           |

C code (pydantic, for example) reads the memory of a list without calling its methods. So the memory of the list
always holds items: for the second row, until an item is taken, a shared copy that refuses changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, Protocol, SupportsIndex

from beluga_graph.codec.immutable import is_immutable
from beluga_graph.codec.stand_in import StandIn
from beluga_graph.errors import StateError
from beluga_graph.kernel.types import Value

__all__ = ["AppendSequence", "ItemReader", "KnownItems"]

_WHOLE = slice(None)
_LEVELS = 50  # items nested deeper are not shared


class ItemReader(Protocol):
    """Reads encoded items and decodes them."""

    def decode(self, value: Value) -> Any:
        """Return a new copy of a value."""
        ...

    def read_items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer at `place`."""
        ...


def _refuse_change(*_: Any, **__: Any) -> NoReturn:
    raise StateError("", "a part of an item of an append field cannot be changed here: change a copy.deepcopy of it")


class _SharedDict(dict[Any, Any], StandIn):
    """A dict that all attempts share."""

    __slots__ = ()

    def to_value(self) -> dict[Any, Any]:
        return dict(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return dict, (), None, None, iter(self.items())

    if not TYPE_CHECKING:  # no signature of a dict method fits a function that never returns
        __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse_change


class _SharedList(list[Any], StandIn):
    """A list that all attempts share."""

    __slots__ = ()

    def to_value(self) -> list[Any]:
        return list(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        return list, (), None, iter(self)

    if not TYPE_CHECKING:
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse_change
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse_change


class _Unshared(Exception):
    """A value cannot be shared by attempts."""


def _share(value: Any, levels: int = _LEVELS) -> Any:
    """Return a decoded value in a form that all attempts can share. Raises `_Unshared`."""
    cls = type(value)
    if levels:
        if cls is dict and is_immutable(tuple(value)):
            return _SharedDict((key, _share(part, levels - 1)) for key, part in value.items())
        if cls is list:
            return _SharedList(_share(part, levels - 1) for part in value)
        if is_immutable(value):
            return value
        if cls is tuple:
            return tuple(_share(part, levels - 1) for part in value)
    raise _Unshared


class _KnownLayer:
    """The known items of one field at one place."""

    __slots__ = ("items", "lazy", "unshared")

    def __init__(self) -> None:
        self.items: list[Any] = []  # shared items; `None` for an item that cannot be shared
        self.lazy: dict[int, bytes] = {}  # encoded, by index: an attempt decodes its own copy when it takes the item
        self.unshared: list[tuple[int, bytes]] = []  # likewise, when it reads the field


class _Segment(NamedTuple):
    """The position of a layer's items in the list of an attempt."""

    first: int
    length: int
    lazy: dict[int, bytes]


class AppendSequence(list[Any], StandIn):
    """The value of `ctx.state.<field>` for an append field: a list that cannot be changed."""

    __slots__ = ("_field", "_own", "_reader", "_segments")

    def __new__(cls, items: Iterable[Any] = (), *given: Any) -> Any:
        """Return a plain list if called with items alone, as libraries do to copy an object of this type."""
        return super().__new__(cls) if given else list(items)

    def __init__(self, items: Iterable[Any], field: str, reader: ItemReader) -> None:
        super().__init__(items)
        self._field = field
        self._reader = reader
        self._segments: list[_Segment] = []
        self._own: set[int] = set()  # indices of the lazy items that this attempt has copied

    def add_layer(self, layer: _KnownLayer, length: int) -> None:
        """Add the first `length` items of a layer."""
        first = len(self)
        list.extend(self, layer.items)
        list.__delitem__(self, slice(first + length, None))  # more items may be known by now
        for index, encoded in tuple(layer.unshared):
            if index < length:
                list.__setitem__(self, first + index, self._reader.decode(encoded))
        self._segments.append(_Segment(first, length, layer.lazy))

    def with_items(self, items: Iterable[Any]) -> AppendSequence:
        """Return a copy with more items at the end, which belong to the attempt."""
        found: AppendSequence = AppendSequence(list.__getitem__(self, _WHOLE), self._field, self._reader)
        list.extend(found, items)
        found._segments, found._own = list(self._segments), set(self._own)
        return found

    def to_value(self) -> list[Any]:
        """Return a plain list of the items."""
        return list.__getitem__(self, _WHOLE)

    # Taking items.

    def _copy_item(self, index: int) -> None:
        """Replace an item by the attempt's own copy, if it needs one."""
        if index in self._own:
            return
        for first, length, lazy in self._segments:
            encoded = lazy.get(index - first) if first <= index < first + length else None
            if encoded is not None:
                list.__setitem__(self, index, self._reader.decode(encoded))
                self._own.add(index)

    def _copy_all(self) -> AppendSequence:
        for first, length, lazy in self._segments:
            if lazy:
                for index in range(first, first + length):
                    self._copy_item(index)
        return self

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            for each in range(*index.indices(len(self))):
                self._copy_item(each)
        elif isinstance(index, SupportsIndex):
            at = index.__index__()
            self._copy_item(at + len(self) if at < 0 else at)
        return super().__getitem__(index)

    def __iter__(self) -> Iterator[Any]:
        return list.__iter__(self._copy_all())

    def __reversed__(self) -> Iterator[Any]:
        return list.__reversed__(self._copy_all())

    def __add__(self, other: Any) -> Any:
        return list.__add__(self._copy_all(), other._copy_all() if isinstance(other, AppendSequence) else other)

    def __radd__(self, other: Any) -> Any:
        self._copy_all()
        return NotImplemented  # the other list then reads the memory of this one

    def __mul__(self, times: Any) -> Any:
        return list.__mul__(self._copy_all(), times)

    def __rmul__(self, times: Any) -> Any:
        return list.__rmul__(self._copy_all(), times)

    def copy(self) -> list[Any]:
        """Return a plain list."""
        return list.copy(self._copy_all())

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Make copies plain lists: a program copies a list to change the copy."""
        return list, (), None, iter(self)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        field = self._field
        way_out = f"write ctx.update({field}=…) to append, or change a copy: list(ctx.state.{field})"
        raise StateError("", f"state field {field!r} cannot be changed in place: {way_out}")

    if not TYPE_CHECKING:
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse


class KnownItems:
    """The items of one run's append fields that were read earlier; lost with the process. Thread-safe."""

    __slots__ = ("_layers", "_lock")

    def __init__(self) -> None:
        self._layers: dict[tuple[str, str], _KnownLayer] = {}
        self._lock = Lock()

    def read(self, reader: ItemReader, place: str, field: str, length: int) -> _KnownLayer:
        """Return a layer with at least `length` known items. Decodes only the new ones."""
        layer = self._layers.get((place, field))
        if layer is None:
            layer = self._layers.setdefault((place, field), _KnownLayer())
        while len(layer.items) < length:
            self._decode_new(layer, reader, place, field, length)
        return layer

    def forget(self, places: Any) -> None:
        """Forget the places that no longer exist, once they outnumber the existing ones."""
        if len(self._layers) > 2 * len(places) + 8:
            for key in tuple(self._layers):
                if key[0] not in places:
                    self._layers.pop(key, None)

    def _decode_new(self, layer: _KnownLayer, reader: ItemReader, place: str, field: str, length: int) -> None:
        start = len(layer.items)
        items: list[Any] = []
        lazy: dict[int, bytes] = {}
        unshared: list[tuple[int, bytes]] = []
        for index, encoded in enumerate(reader.read_items(place, field, start, length), start):
            item = reader.decode(encoded)
            try:
                items.append(_share(item))
            except _Unshared:
                items.append(None)
                unshared.append((index, encoded))
            else:
                if not is_immutable(item):
                    lazy[index] = encoded
        with self._lock:
            if len(layer.items) == start:  # another thread may have added them meanwhile
                layer.lazy.update(lazy)
                layer.unshared += unshared
                layer.items += items
