"""State as one attempt sees it: the layers of places, read lazily, and updates, collected until the commit.

The layer of a branch holds one combined update for each field. So a node sees the owner's value with the update of
each layer reduced into it, outermost first, and then the updates of the attempt, one by one.

Where a frame owns its state, updates also reach the value one by one. A branch combines its updates before they
reach any value, so there a reducer must be associative.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from beluga_graph.codec.errors import NotData
from beluga_graph.codec.stand_in import StandIn
from beluga_graph.errors import StateConflict, StateError
from beluga_graph.execution.items import AppendSequence, ItemReader, KnownItems
from beluga_graph.kernel.snapshot import Place, Snapshot
from beluga_graph.kernel.types import Value
from beluga_graph.plan.channels import Channel, StateBinding

__all__ = ["AttemptState", "StateChanges", "StateView"]

_NOTHING = object()
_NAMES_SHOWN = 5


class Reader(ItemReader, Protocol):
    """Encodes and decodes values, and reads the items of append fields."""

    def encode(self, value: Any) -> bytes:
        """Return a value's bytes. Raises `NotData`."""
        ...


class StateChanges(NamedTuple):
    """The changes of one layer, in the form in which triggers and patches name them."""

    values: tuple[Value, ...]
    """New values of fields, stored."""
    sets: tuple[tuple[str, int], ...]
    """Fields that have a new value, and the number of that value."""
    appends: tuple[tuple[str, int], ...]
    """Append fields that have new items, and how many."""
    items: tuple[tuple[str, list[bytes]], ...]
    """The new items of these fields, stored."""


class _Update(NamedTuple):
    """One update of a field, and its origin: the node, or the nodes of a branch."""

    value: Any
    origin: str


class StateView(StandIn):
    """`ctx.state`: one attribute for each field. It is stored as an instance of the state's model."""

    __slots__ = ("_state",)

    def __init__(self, state: AttemptState) -> None:
        object.__setattr__(self, "_state", state)

    def __getattr__(self, field: str) -> Any:
        if field.startswith("_"):  # pydantic allows no such field
            raise AttributeError(field)
        return self._state.read(field)

    def __setattr__(self, field: str, value: Any) -> None:
        raise StateError("", f"state is read-only: write ctx.update({field}=…)")

    def __dir__(self) -> list[str]:
        return list(self._state.binding.channels)

    def __repr__(self) -> str:
        binding = self._state.binding
        return f"<state {binding.model.__name__} with {', '.join(binding.channels)}>"

    def to_value(self) -> Any:
        """Return the state as an instance of its model."""
        return self._state.build_model()


class AttemptState:
    """The state of one attempt: its reads and its updates."""

    __slots__ = (
        "_known",
        "_layers",
        "_lists",
        "_new",
        "_node",
        "_pending",
        "_read",
        "_reader",
        "_replaced",
        "_run",
        "binding",
    )

    def __init__(
        self, binding: StateBinding, run: Snapshot, place: str, reader: Reader, known: KnownItems, *, node: str = ""
    ) -> None:
        self.binding = binding
        self._run = run
        self._layers: list[tuple[str, Place]] = [(name, run.places[name]) for name in run.layers(place)]
        self._reader = reader
        self._known = known
        self._node = node
        self._read: dict[str, tuple[Any, int]] = {}  # the value, and the number of own updates in it
        self._lists: dict[str, tuple[AppendSequence, int]] = {}  # likewise, for append fields
        self._pending: dict[str, list[_Update]] = {}
        self._new: dict[str, list[bytes]] = {}  # the attempt's own items of append fields, encoded
        self._replaced: list[tuple[str, bytes]] = []  # whole fields that a fork begins with, encoded

    # Reading.

    def read(self, field: str) -> Any:
        """Return a field's value, the attempt's own updates included. Raises `StateError`."""
        channel = self._find_channel(field)
        if channel.appends:
            return self._read_items(channel)
        value = self._read_value(channel)
        if value is _NOTHING:
            raise self._unset_error(field)
        return value

    def read_own_items(self, field: str) -> list[Any]:
        """Return the items that the attempt itself appends to a field. Decodes only those."""
        return list(map(self._reader.decode, self._new.get(field, ())))

    def build_model(self) -> Any:
        """Return the state as an instance of its model. Raises `StateError` if the model refuses the fields."""
        model = self.binding.model
        fields = {name: self.read(name) for name in self.binding.channels}
        try:
            return model.model_validate(fields, by_alias=False, by_name=True)
        except ValueError as error:  # pydantic's ValidationError is one
            raise StateError("", f"the state's fields do not make a {model.__name__}: {error}") from error

    def _read_value(self, channel: Channel) -> Any:
        value, done = self._read.get(channel.name, (_NOTHING, -1))
        if done < 0:
            value, done = self._read_committed(channel), 0
        updates = self._pending.get(channel.name, ())
        for update in updates[done:]:
            # The update itself must not change, so the reader gets a new copy.
            copy = self._reader.decode(self._reader.encode(update.value))
            value = self._reduce(channel, value, update._replace(value=copy))
        self._read[channel.name] = (value, len(updates))
        return value

    def _read_items(self, channel: Channel) -> AppendSequence:
        field, new = channel.name, self._new.get(channel.name, [])
        found, own = self._lists.get(field, (None, 0))
        if found is not None and own == len(new):
            return found
        if found is None:
            self._known.forget(self._run.places)
            found = AppendSequence(self._read_head(channel), field, self._reader)
            for place, layer in self._layers:
                if length := layer.lengths.get(field):
                    found.add_layer(self._known.read(self._reader, place, field, length), length)
        if own < len(new):
            found = found.with_items(map(self._reader.decode, new[own:]))
        self._lists[field] = (found, len(new))
        return found

    def _read_head(self, channel: Channel) -> list[Any]:
        """Return the items before the appended ones: the field's default, unless a fork has replaced it."""
        replaced = self._decode(self._layers[0][1], channel.name)
        if replaced is not _NOTHING:
            return list(replaced)
        known, default = channel.default()
        return list(default) if known else []

    # Updating.

    def update(self, fields: dict[str, Any]) -> None:
        """Add updates: all of them, or none if one is refused. Raises `StateError`, `NotData`."""
        new: list[tuple[str, list[bytes]]] = []
        pending: list[tuple[Channel, Any]] = []
        for field, value in fields.items():
            channel = self._find_channel(field)
            if channel.appends:
                items = value if isinstance(value, list | tuple) else [value]
                new.append((field, [self._encode(channel, self._validate(channel, item)) for item in items]))
            else:
                pending.append((channel, self._validate(channel, value) if channel.reducer is None else value))
        for field, encoded in new:
            self._new.setdefault(field, []).extend(encoded)
        for channel, value in pending:
            self._add_update(channel, _Update(value, f"node {self._node!r}"))

    def replace(self, fields: Mapping[str, Any]) -> None:
        """Replace the values of fields in the owner's layer. Later updates reduce into the new values.

        Only for a fork, before it begins: the snapshot is changed at once, so that it holds no reference to replaced
        items.
        """
        owner = self._layers[0][1]
        for field, value in fields.items():
            channel = self._find_channel(field)
            if channel.appends and not isinstance(value, list | tuple):
                raise StateError(
                    "", f"state field {self._label(field)} is a list: give all its items, not {value!r:.80}"
                )
            if channel.appends:
                owner.lengths.pop(field, None)
                owner.fields[field] = self._reader.encode([])  # in place of the field's default
                self.update({field: value})
            else:
                owner.fields[field] = encoded = self._encode(channel, self._validate(channel, value))
                self._replaced.append((field, encoded))

    def fold(self, branches: Sequence[tuple[int, str, Place]]) -> None:
        """Fold the layers of a scope's branches into the updates of its join, in order. Raises `StateConflict`."""
        setters: dict[str, str] = {}
        for branch, name, layer in branches:
            origin = f"{_describe_origin(self._run, name)} (branch {branch})"
            for field, length in layer.lengths.items():
                self._new.setdefault(field, []).extend(self._reader.read_items(name, field, 0, length))
            for field, value in layer.fields.items():
                channel = self._find_channel(field)
                if channel.reducer is None and setters.setdefault(field, origin) is not origin:
                    message = (
                        f"{setters[field]} and {origin} both set state field {field!r}, which has no reducer: "
                        "name one in its Annotated, or set it in one branch only"
                    )
                    raise StateConflict("", message)
                self._add_update(channel, _Update(self._reader.decode(value), origin))

    def changes(self, store_encoded: Callable[[bytes], bytes], *, first: int = 0) -> StateChanges:
        """Return the changes to commit: absolute values where this frame owns the state, else combined updates.

        `store_encoded` takes the bytes of each value and item and returns them, or a reference to them. `first` is
        the number of the first value.
        """
        owner = len(self._layers) == 1
        fields = list(self._replaced)
        for field, updates in self._pending.items():
            channel = self._find_channel(field)
            value = self._final_value(channel, updates) if owner else self._combine(channel, updates)
            fields.append((field, self._encode(channel, value)))
        return StateChanges(
            values=tuple([store_encoded(encoded) for _, encoded in fields]),
            sets=tuple([(field, number) for number, (field, _) in enumerate(fields, first)]),
            appends=tuple([(field, len(new)) for field, new in self._new.items()]),
            items=tuple([(field, [store_encoded(item) for item in new]) for field, new in self._new.items()]),
        )

    def _add_update(self, channel: Channel, update: _Update) -> None:
        if channel.reducer is None:
            self._pending[channel.name] = [update]
            self._read.pop(channel.name, None)
        else:
            self._pending.setdefault(channel.name, []).append(update)

    def _final_value(self, channel: Channel, updates: list[_Update]) -> Any:
        """Return the field's value after all updates, in the frame that owns it."""
        if channel.reducer is None:
            return updates[-1].value
        value = self._read_committed(channel)
        for update in updates:
            value = self._reduce(channel, value, update)
        return self._validate(channel, value)

    def _combine(self, channel: Channel, updates: list[_Update]) -> Any:
        """Return one update for all, in a branch: the field's value is unknown until the branches are joined."""
        if channel.reducer is None:
            return updates[-1].value
        place, layer = self._layers[-1]
        before = self._decode(layer, channel.name)
        known = [] if before is _NOTHING else [_Update(before, _describe_origin(self._run, place))]
        each = [*known, *updates]
        combined = each[0]
        for update in each[1:]:
            try:
                value = channel.reducer(combined.value, update.value)
            except Exception as error:
                origins = " and ".join(dict.fromkeys((combined.origin, update.origin)))
                message = (
                    f"state field {self._label(channel.name)}: its reducer cannot combine two updates of {origins}: "
                    f"{type(error).__name__}: {error}; updates made in a branch of a fan-out are combined before "
                    "they reach the field's value, so the reducer must be associative, r(r(a, b), c) == "
                    "r(a, r(b, c)): let it take two updates as well, as `append` and `merge` do, or update the "
                    "field once in each branch"
                )
                raise StateError("", message) from error
            combined = _Update(value, combined.origin)
        return combined.value

    # Shared by reading and updating.

    def _find_channel(self, field: str) -> Channel:
        channel = self.binding.channels.get(field)
        if channel is None:
            name, known = self.binding.model.__name__, ", ".join(self.binding.channels)
            raise StateError("", f"state {name} has no field {field!r}: it has {known}")
        return channel

    def _label(self, field: str) -> str:
        return f"{self.binding.model.__name__}.{field}"

    def _unset_error(self, field: str) -> StateError:
        return StateError(
            "", f"state field {self._label(field)} has no value yet: give it a default or update it first"
        )

    def _validate(self, channel: Channel, value: Any) -> Any:
        try:
            return channel.adapter.validate_python(value)
        except ValueError as error:  # pydantic's ValidationError is one
            raise StateError("", f"state field {self._label(channel.name)}: {error}") from error

    def _reduce(self, channel: Channel, before: Any, update: _Update) -> Any:
        """Return the field's value after an update. A field without a reducer, or without a value yet, is set."""
        if before is _NOTHING or channel.reducer is None:
            return update.value
        try:
            return channel.reducer(before, update.value)
        except Exception as error:
            message = (
                f"state field {self._label(channel.name)}: its reducer refuses the update: "
                f"{type(error).__name__}: {error}; the update comes from {update.origin}"
            )
            raise StateError("", message) from error

    def _encode(self, channel: Channel, value: Any) -> bytes:
        try:
            return self._reader.encode(value)
        except NotData as error:
            path = f"state.{channel.name}{error.path}"
            raise NotData(path, error.type_name, error.shown, error.reason) from None

    def _decode(self, layer: Place, field: str) -> Any:
        value = layer.fields.get(field)
        return _NOTHING if value is None else self._reader.decode(value)

    def _read_committed(self, channel: Channel) -> Any:
        """Return the committed value of the field as this place sees it."""
        value = self._decode(self._layers[0][1], channel.name)
        if value is _NOTHING:
            known, default = channel.default()
            value = default if known else _NOTHING
        for place, layer in self._layers[1:]:
            update = self._decode(layer, channel.name)
            if update is not _NOTHING:
                value = self._reduce(channel, value, _Update(update, _describe_origin(self._run, place)))
        return value


def _describe_origin(run: Snapshot, place: str) -> str:
    """Return the names of the nodes that a branch visited. Any of them may have updated a field."""
    branch = run.places[place]
    frame = run.scopes[branch.scope].node.rpartition("/")[0] if branch.scope is not None else ""
    names = [repr(f"{frame}/{local}" if frame else local) for local in branch.visits]
    shown = ", ".join(names[:_NAMES_SHOWN]) + (", …" if len(names) > _NAMES_SHOWN else "")
    return f"node {shown}" if len(names) == 1 else f"one of the nodes {shown}"
