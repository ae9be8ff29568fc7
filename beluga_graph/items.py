"""The items of append fields, as attempts read them: a list that cannot be changed, and what is known of it.

A step that looks at a field of 10,000 items must not decode 10,000 items. Items are written once, so those that
cannot be changed are decoded once while the run stays in this process, and shared by all attempts. An item that
could be changed, a dict for instance, is decoded for each attempt that looks at the field.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from threading import Lock
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

from beluga_graph.codec import StandIn, is_fixed
from beluga_graph.errors import StateError
from beluga_graph.kernel.words import Value

__all__ = ["FieldItems", "ItemReader", "KnownItems"]


class ItemReader(Protocol):
    """Where encoded items come from, and what decodes them."""

    def decode(self, value: Value) -> Any:
        """Return a fresh copy of a value."""
        ...

    def items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer at `place`."""
        ...


class FieldItems(list[Any], StandIn):
    """What `ctx.state.<field>` is of an append field: a list in all but that it cannot be changed.

    A real list, for C code reads the memory of a list past every method: one that filled itself when it is looked
    at would be empty to pydantic.
    """

    __slots__ = ("_field",)

    def __new__(cls, items: Iterable[Any] = (), field: str | None = None) -> Any:
        """Return a plain list if no field is named: so do libraries make another object of the type of a given one."""
        return list(items) if field is None else super().__new__(cls)

    def __init__(self, items: Iterable[Any], field: str) -> None:
        super().__init__(items)
        self._field = field

    def stored(self) -> list[Any]:
        """Return a plain list of the items."""
        return list(self)

    def __reduce_ex__(self, protocol: Any) -> tuple[Any, ...]:
        """Make copies plain lists: whoever copies a list means to change the copy."""
        return list, (), None, iter(self)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        field = self._field
        way_out = f"write ctx.update({field}=…) to append, or change a copy: list(ctx.state.{field})"
        raise StateError("", f"state field {field!r} cannot be changed in place: {way_out}")

    if not TYPE_CHECKING:  # no signature of a list's fits what never returns
        append = clear = extend = insert = pop = remove = reverse = sort = _refuse
        __setitem__ = __delitem__ = __iadd__ = __imul__ = _refuse


class _Layer:
    """What is known of one field at one place."""

    __slots__ = ("changeable", "items")

    def __init__(self) -> None:
        self.items: list[Any] = []  # `None` for one that could be changed
        self.changeable: list[tuple[int, bytes]] = []  # index and encoded item of those


class KnownItems:
    """The items of one run's append fields that were read before; lost with the process. Any thread may use it."""

    __slots__ = ("_layers", "_lock")

    def __init__(self) -> None:
        self._layers: dict[tuple[str, str], _Layer] = {}
        self._lock = Lock()

    def read_into(self, found: list[Any], reader: ItemReader, place: str, field: str, length: int) -> None:
        """Add the first `length` items of a layer to a list. Its cost is the items that are new or changeable."""
        layer = self._layers.get((place, field))
        if layer is None:
            layer = self._layers.setdefault((place, field), _Layer())
        while len(layer.items) < length:
            self._learn(layer, reader, place, field, length)
        first = len(found)
        list.extend(found, layer.items)
        list.__delitem__(found, slice(first + length, None))  # what is known may be longer by now
        for index, encoded in tuple(layer.changeable):
            if index < length:
                list.__setitem__(found, first + index, reader.decode(encoded))

    def forget(self, places: Any) -> None:
        """Forget the places that are no more, once they outnumber those that are."""
        if len(self._layers) > 2 * len(places) + 8:
            for key in tuple(self._layers):
                if key[0] not in places:
                    self._layers.pop(key, None)

    def _learn(self, layer: _Layer, reader: ItemReader, place: str, field: str, length: int) -> None:
        start = len(layer.items)
        encoded = list(reader.items(place, field, start, length))
        decoded = [reader.decode(item) for item in encoded]
        fixed = [is_fixed(item) for item in decoded]
        with self._lock:
            if len(layer.items) == start:  # else another thread has learnt of them meanwhile
                new = enumerate(zip(encoded, fixed, strict=True), start)
                layer.changeable += [(index, item) for index, (item, is_shared) in new if not is_shared]
                layer.items += [item if is_shared else None for item, is_shared in zip(decoded, fixed, strict=True)]
