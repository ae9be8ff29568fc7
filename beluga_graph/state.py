"""State as one attempt sees it: layers of places, read lazily; updates, collected until the commit.

A branch's layer holds one combined update per field, so what a node sees is the owner's value with each
layer's update reduced into it, outermost first, then the attempt's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from beluga_graph.errors import NotData, StateConflict, StateError
from beluga_graph.kernel.snapshot import Place, Snapshot
from beluga_graph.kernel.words import Value
from beluga_graph.plan import Channel, StateBinding

__all__ = ["Items", "StateView", "Written"]

_NOTHING = object()


class Reader(Protocol):
    """Where encoded values and the items of append fields come from."""

    def decode(self, value: Value) -> Any:
        """Return a fresh copy of a value."""
        ...

    def encode(self, value: Any) -> bytes:
        """Return a value's bytes. Raises `NotData`."""
        ...

    def items(self, place: str, field: str, start: int, stop: int) -> Iterator[bytes]:
        """Yield encoded items of an append field's layer at `place`."""
        ...


class Written(NamedTuple):
    """What an attempt changes of its layer: new values of fields, and new items of append fields, encoded."""

    values: list[tuple[str, bytes]]
    items: list[tuple[str, list[bytes]]]


class Items(Sequence[Any]):
    """An append field: an immutable sequence whose items are read from the store when they are looked at."""

    __slots__ = ("_head", "_reader", "_segments", "_tail")

    def __init__(
        self, reader: Reader, head: list[Any], segments: list[tuple[str, str, int]], tail: list[bytes]
    ) -> None:
        self._reader = reader
        self._head = head  # the field's default
        self._segments = segments  # place, field, length
        self._tail = tail  # the attempt's own items

    def __len__(self) -> int:
        return len(self._head) + sum(length for _, _, length in self._segments) + len(self._tail)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step != 1:
                return list(self)[index]
            return list(self._between(start, stop))
        position = index + len(self) if index < 0 else index
        if not 0 <= position < len(self):
            raise IndexError(index)
        return next(self._between(position, position + 1))

    def __iter__(self) -> Iterator[Any]:
        return self._between(0, len(self))

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or isinstance(other, str | bytes):
            return NotImplemented
        return len(self) == len(other) and all(a == b for a, b in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # equal to a list, and so no more hashable than one

    def __add__(self, other: Sequence[Any]) -> list[Any]:
        return [*self, *other]

    def __repr__(self) -> str:
        return repr(list(self))

    def _between(self, start: int, stop: int) -> Iterator[Any]:
        yield from self._head[start:stop]
        begin = len(self._head)
        for place, field, length in self._segments:
            first, past = max(start - begin, 0), min(stop - begin, length)
            if first < past:
                for item in self._reader.items(place, field, first, past):
                    yield self._reader.decode(item)
            begin += length
        for item in self._tail[max(start - begin, 0) : max(stop - begin, 0)]:
            yield self._reader.decode(item)


class StateView:
    """One attempt's view of its state; attributes are fields."""

    __slots__ = ("_binding", "_layers", "_pending", "_read", "_reader")

    def __init__(self, binding: StateBinding, run: Snapshot, place: str, reader: Reader) -> None:
        self._binding = binding
        self._layers: list[tuple[str, Place]] = [(name, run.places[name]) for name in run.layers(place)]
        self._reader = reader
        self._read: dict[str, Any] = {}
        self._pending: dict[str, Any] = {}  # per field the combined update; of append fields, encoded items

    def __getattr__(self, field: str) -> Any:
        if field.startswith("__"):
            raise AttributeError(field)
        channel = self._channel(field)
        if channel.appends:
            return self._items(channel)
        if field not in self._read:
            self._read[field] = self._current(channel)
        value = self._read[field]
        if field in self._pending:
            # The pending update stays as it was given: what the reader gets is a fresh copy.
            update = self._reader.decode(self._reader.encode(self._pending[field]))
            value = self._reduced(channel, value, update)
        if value is _NOTHING:
            name = self._binding.model.__name__
            raise StateError("", f"state field {name}.{field} has no value yet: give it a default or update it first")
        return value

    def __setattr__(self, field: str, value: Any) -> None:
        if field in StateView.__slots__:
            object.__setattr__(self, field, value)
            return
        raise StateError("", f"state is read-only: write ctx.update({field}=…)")

    def __repr__(self) -> str:
        return f"<state {self._binding.model.__name__} with {', '.join(self._binding.channels)}>"

    def update(self, fields: dict[str, Any]) -> None:
        """Add updates, all of them or none."""
        checked = [(self._channel(field), value) for field, value in fields.items()]
        for channel, value in checked:
            if channel.appends:
                items = list(value) if isinstance(value, list | tuple) else [value]
                encoded = [self._encoded(channel, self._checked(channel, item)) for item in items]
                self._pending.setdefault(channel.name, []).extend(encoded)
            elif channel.reducer is None:
                self._pending[channel.name] = self._checked(channel, value)
            elif channel.name in self._pending:
                self._pending[channel.name] = self._reduced(channel, self._pending[channel.name], value)
            else:
                self._pending[channel.name] = value

    def fold(self, branches: Sequence[tuple[int, str, Place]]) -> None:
        """Fold the layers of a scope's branches into the updates, in order: what a join begins with."""
        setter: dict[str, int] = {}
        for branch, name, layer in branches:
            for field, length in layer.lengths.items():
                self._pending.setdefault(field, []).extend(self._reader.items(name, field, 0, length))
            for field, value in layer.fields.items():
                channel = self._channel(field)
                update = self._reader.decode(value)
                if channel.reducer is None:
                    if field in setter:
                        message = (
                            f"branches {setter[field]} and {branch} both set state field {field!r}, which has no "
                            "reducer: name one in its Annotated, or set it in one branch only"
                        )
                        raise StateConflict("", message)
                    setter[field] = branch
                    self._pending[field] = update
                elif field in self._pending:
                    self._pending[field] = self._reduced(channel, self._pending[field], update)
                else:
                    self._pending[field] = update

    def written(self) -> Written:
        """Return what is to be committed: absolute values where this frame owns the state, else updates."""
        values, items = [], []
        owner = len(self._layers) == 1
        layer = self._layers[-1][1]
        for field, update in self._pending.items():
            channel = self._channel(field)
            if channel.appends:
                items.append((field, update))
                continue
            value = update
            if channel.reducer is not None:
                before = self._current(channel) if owner else self._decoded(layer, field)
                value = self._reduced(channel, before, update)
                if owner:
                    value = self._checked(channel, value)
            values.append((field, self._encoded(channel, value)))
        return Written(values, items)

    def _channel(self, field: str) -> Channel:
        channel = self._binding.channels.get(field)
        if channel is None:
            name, known = self._binding.model.__name__, ", ".join(self._binding.channels)
            raise StateError("", f"state {name} has no field {field!r}: it has {known}")
        return channel

    def _checked(self, channel: Channel, value: Any) -> Any:
        try:
            return channel.adapter.validate_python(value)
        except ValueError as error:  # pydantic's ValidationError is one
            name = self._binding.model.__name__
            raise StateError("", f"state field {name}.{channel.name}: {error}") from error

    def _reduced(self, channel: Channel, before: Any, update: Any) -> Any:
        """Return what the field is after an update; one without a reducer, or without a value yet, is set."""
        if before is _NOTHING or channel.reducer is None:
            return update
        try:
            return channel.reducer(before, update)
        except Exception as error:
            name = f"{self._binding.model.__name__}.{channel.name}"
            message = f"state field {name}: its reducer refuses the update: {type(error).__name__}: {error}"
            raise StateError("", message) from error

    def _encoded(self, channel: Channel, value: Any) -> bytes:
        try:
            return self._reader.encode(value)
        except NotData as error:
            path = f"state.{channel.name}{error.path}"
            raise NotData(path, error.type_name, error.shown, error.reason) from None

    def _decoded(self, layer: Place, field: str) -> Any:
        value = layer.fields.get(field)
        return _NOTHING if value is None else self._reader.decode(value)

    def _current(self, channel: Channel) -> Any:
        """Return the field's value as committed, as this place sees it."""
        value = self._decoded(self._layers[0][1], channel.name)
        if value is _NOTHING:
            known, default = channel.default()
            value = default if known else _NOTHING
        for _, layer in self._layers[1:]:
            update = self._decoded(layer, channel.name)
            if update is not _NOTHING:
                value = self._reduced(channel, value, update)
        return value

    def _items(self, channel: Channel) -> Items:
        known, default = channel.default()
        segments = [
            (name, channel.name, layer.lengths[channel.name])
            for name, layer in self._layers
            if channel.name in layer.lengths
        ]
        return Items(self._reader, list(default) if known else [], segments, self._pending.get(channel.name, []))
