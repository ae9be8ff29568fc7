"""Codec: users' values to bytes and back, exactly, or not at all.

Types that msgpack supports are written by it. Everything else becomes a list that begins with a mark, an
extension type of one byte that no value can contain:

    (1, 2)            [mark TUPLE, 1, 2]
    {"b", "a"}        [mark SET, "a", "b"]                 in one order, so equal sets are equal bytes
    Doc(text="x")     [mark INSTANCE, "app:Doc", {"text": "x"}]

So a tree of any shape is written and parsed in one pass, without recursion in Python and without nested bytes,
which would be copied once for each level.
"""

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgpack

from beluga_graph.codec import instances
from beluga_graph.codec.errors import (
    DamagedValue,
    DoesNotFit,
    NotData,
    SnapshotError,
    TooDeep,
    TooLarge,
    UnknownType,
)
from beluga_graph.codec.hash_collisions import COLLISIONS, find_large_dicts, has_collisions, has_large_dict
from beluga_graph.codec.registry import Registry
from beluga_graph.codec.safe_repr import format_value, qualified_name
from beluga_graph.codec.scalars import NATIVE_SCALARS, SCALAR_READERS, SCALAR_WRITERS, Refused
from beluga_graph.codec.stand_in import StandIn
from beluga_graph.codec.value_paths import Path, join_path, walk_value

__all__ = ["MAX_BYTES", "Codec", "Unregistered", "decode", "encode"]

MAX_BYTES = 64 * 1024 * 1024

_TUPLE, _SET, _FROZENSET, _INSTANCE = 2, 3, 4, 11  # 1 and 5 to 10 are in scalars
_MARK = 1  # the one extension type; its one byte of content is the form of the list
_MARKS = [msgpack.ExtType(_MARK, bytes([form])) for form in range(12)]
_LEVELS = 1024  # the nesting limit of msgpack's packer and parser, both in C
_SETS_WRITTEN = 32  # nesting of sets: to sort a set, its elements are encoded, after the sets inside them are sorted

# All bytes but those that begin an extension type or bytes in msgpack: `translate` deletes them to count the rest.
_NO_SUSPECT = bytes(set(range(256)) - {0xC4, 0xC5, 0xC6, 0xC7, 0xC8, 0xC9, 0xD4, 0xD5, 0xD6, 0xD7, 0xD8})
_MARK_BYTE = b"\xd4"

_unpack = partial(
    msgpack.unpackb,
    raw=False,
    strict_map_key=False,
    unicode_errors="surrogatepass",
    use_list=True,
    timestamp=1,
)


@dataclass(frozen=True, slots=True)
class Unregistered:
    """An instance of a class that is unknown here, or that no longer accepts the stored fields; for reading only.

    Attributes:
        name: Name of the class in stored bytes, `module:qualname`.
        fields: The stored fields; of an Enum, `{"member": name}`.
    """

    name: str
    fields: dict[str, Any]

    def __hash__(self) -> int:
        # It may be a key or in a set, like the original instance. Fields that cannot be hashed do not count.
        return hash((self.name, frozenset((name, _hash_of(part)) for name, part in self.fields.items())))


def _hash_of(part: Any) -> int:
    if type(part) is tuple:
        return hash(tuple(map(_hash_of, part)))
    if type(part) in NATIVE_SCALARS or type(part) in SCALAR_WRITERS or type(part) is Unregistered:
        with suppress(TypeError):  # a signaling NaN
            return hash(part)
    return 0


class Codec:
    """Encodes and decodes values with instances of the registered classes. Thread-safe.

    `limit` is the name of the setting with which a user can raise `max_bytes`; an error shows it.
    """

    __slots__ = ("_writers", "limit", "max_bytes", "registry")

    def __init__(
        self, registry: Registry | None = None, max_bytes: int = MAX_BYTES, *, limit: str = "max_bytes"
    ) -> None:
        self.registry = Registry() if registry is None else registry
        self.max_bytes = max_bytes
        self.limit = limit
        # Idle writers, as many as ever encoded at the same time: a packer is not reentrant.
        self._writers: list[_Writer] = []

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value: the same for equal values (and equal order of dicts) in every process.

        Raises `NotData` for a value that cannot be stored or would not come back unchanged (an instance of a
        program's class is decoded again and compared), `TooDeep`, and `TooLarge`.
        """
        blob, may_lose = self._write(value)
        if len(blob) > self.max_bytes:
            raise TooLarge(len(blob), self.max_bytes, self.limit)
        if may_lose:
            self._refuse_loss(value, blob)
        return blob

    def decode(self, blob: bytes, *, lenient: bool = False, unregistered: dict[str, str] | None = None) -> Any:
        """Return a new copy of the value.

        With `lenient`, instances of classes that are unknown, or that refuse the stored fields, become
        `Unregistered`. `unregistered` then collects the names of these classes, each with the reason for the
        refusal, or `""` if the class is unknown.

        Raises `TooLarge`, `TooDeep`, `UnknownType`, `DoesNotFit`, and `DamagedValue` for any other problem.
        """
        if len(blob) > self.max_bytes:
            raise TooLarge(len(blob), self.max_bytes, self.limit)
        try:
            if _MARK_BYTE not in blob:  # most values: nothing in them is marked
                return _unpack(blob, ext_hook=_refuse_extension)
            reader = _Reader(self.registry, lenient=lenient, unregistered=unregistered)
            # The hook makes every dict slower: use it only if one is large enough for too many collisions.
            build = partial(_unpack, object_pairs_hook=_build_dict) if has_large_dict(blob) else _unpack
            value = build(blob, ext_hook=reader.mark, list_hook=reader.list)
        except SnapshotError:
            raise
        except msgpack.exceptions.StackError as error:
            raise TooDeep(_LEVELS) from error
        except Exception as error:  # hostile bytes reach every reader, and each raises in its own way
            raise DamagedValue(f"{type(error).__name__}: {error}".removesuffix(": ")) from error
        if reader.open_marks:
            raise DamagedValue("a mark is not at the beginning of a list")
        return value

    @staticmethod
    def is_scalar(value: Any) -> bool:
        """Return whether a value is an immutable scalar, which readers can share without a fresh decode."""
        return type(value) in NATIVE_SCALARS

    def _write(self, value: Any) -> tuple[bytes, bool]:
        """Return the bytes, and whether they hold instances that may not come back unchanged."""
        writer = self._writers.pop() if self._writers else _Writer(self.registry)
        try:
            blob = writer.write(value)
            # A value may itself hold an extension type of msgpack, a bytearray or a memoryview, which the packer
            # accepts. Search the value if more bytes could begin one than there are marks.
            if len(blob.translate(None, _NO_SUSPECT)) != writer.marks and type(value) not in NATIVE_SCALARS:
                self._refuse_foreign(value)
            if writer.marks and has_large_dict(blob) and any(map(has_collisions, find_large_dicts([value]))):
                self._refuse_foreign(value)
            may_lose = writer.may_lose
        except SnapshotError:
            raise
        except Exception as error:
            self._refuse_foreign(value)  # finds the part, which the packer does not report
            if isinstance(error, ValueError | RecursionError):  # the errors of msgpack for its limit
                raise TooDeep(_LEVELS) from error
            raise NotData(
                "", qualified_name(type(value)), format_value(value), f"{type(error).__name__}: {error}"
            ) from error
        finally:
            if writer.reset():
                self._writers.append(writer)
        return blob, may_lose

    def _refuse_foreign(self, value: Any) -> None:
        """Raise `NotData` for the first part that cannot be written, if any."""
        for path, part, reason in walk_value(self.registry, value):
            if reason:
                raise NotData(join_path(path), qualified_name(type(part)), format_value(part), reason)

    def _refuse_loss(self, value: Any, blob: bytes) -> None:
        """Raise `NotData` if the decoded bytes differ from the value.

        Compares bytes, not with `==`: that works for NaN and for classes without `__eq__`, and it distinguishes
        1 from 1.0.
        """
        detail = self._find_loss(blob)
        if detail is None:
            return
        # Blame the innermost instance that does not survive on its own.
        path: Path = ()
        part = value
        for at, inner, _ in walk_value(self.registry, value):
            if type(inner) in self.registry:
                found = self._find_loss(self._write(inner)[0])
                if found is not None:
                    path, part, detail = at, inner, found
        reason = f"it does not come back equal ({detail}): let its constructor accept its own fields unchanged"
        raise NotData(join_path(path), qualified_name(type(part)), format_value(part), reason)

    def _find_loss(self, blob: bytes) -> str | None:
        try:
            again = self._write(self.decode(blob))[0]
        except SnapshotError as error:
            return str(error)
        return None if again == blob else "a field changed on the way"


def encode(value: Any, registry: Registry) -> bytes:
    """Return the bytes of a value, as `Codec.encode`. To encode many values, keep a `Codec`."""
    return Codec(registry).encode(value)


def decode(blob: bytes, registry: Registry, *, lenient: bool = False) -> Any:
    """Return the value of the bytes, as `Codec.decode`."""
    return Codec(registry).decode(blob, lenient=lenient)


class _Writer:
    """A packer, with the state that it needs while it writes one value."""

    __slots__ = ("_orders", "_pack", "_registry", "_sets_open", "marks", "may_lose")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pack: Callable[[Any], bytes] = self._new_packer()
        # Sorted elements of sets, by identity. An inner set is visited once to sort each outer set and once to be
        # written: without this cache, the work would double with each level.
        self._orders: dict[int, list[Any]] = {}
        self._sets_open = 0
        self.marks = 0
        self.may_lose = False

    def write(self, value: Any) -> bytes:
        blob = self._pack(value)
        if len(blob) > 1 << 20:  # a packer keeps its largest buffer, so one that grew is dropped
            self._pack = self._new_packer()
        return blob

    def reset(self) -> bool:
        """Forget the value. Return `False` if the writer cannot be used again."""
        if self._sets_open:
            return False
        self._orders.clear()
        self.marks = 0
        self.may_lose = False
        return True

    def _new_packer(self) -> Any:
        return msgpack.Packer(
            default=self._to_list,
            strict_types=True,
            autoreset=True,
            unicode_errors="surrogatepass",
            buf_size=4096,  # type: ignore[call-arg]  # the stubs lack it
        ).pack

    def _to_list(self, value: Any) -> list[Any]:
        """Return the list that is written for a value that msgpack does not support."""
        self.marks += 1
        cls = type(value)
        if cls is tuple:
            return [_MARKS[_TUPLE], *value]
        entry = self._registry.entry_of(cls)
        if entry is not None:
            self.may_lose = self.may_lose or not entry.is_exact
            return [_MARKS[_INSTANCE], entry.name, *instances.take_apart(entry, value)]
        if cls is set or cls is frozenset:
            return [_MARKS[_SET if cls is set else _FROZENSET], *self._sort(value)]
        leaf = SCALAR_WRITERS.get(cls)
        if leaf is None:
            return self._write_stand_in(value)
        form, write = leaf
        return [_MARKS[form], *write(value)]

    def _write_stand_in(self, value: Any) -> list[Any]:
        if not isinstance(value, StandIn):
            raise Refused
        self.marks -= 1
        stored = value.to_value()
        return stored if type(stored) in (list, dict) else self._to_list(stored)

    def _sort(self, elements: set[Any] | frozenset[Any]) -> list[Any]:
        order = self._orders.get(id(elements))
        if order is None:
            if has_collisions(elements):
                raise Refused
            alike = set(map(type, elements)) in ({str}, {int})
            order = sorted(elements) if alike else self._sort_by_bytes(elements)
            self._orders[id(elements)] = order
        return order

    def _sort_by_bytes(self, elements: set[Any] | frozenset[Any]) -> list[Any]:
        if self._sets_open == _SETS_WRITTEN:
            raise TooDeep(_SETS_WRITTEN)
        marks, self._sets_open = self.marks, self._sets_open + 1
        order = sorted(elements, key=self._new_packer())  # the packer of this writer is busy
        self.marks, self._sets_open = marks, self._sets_open - 1
        return order


class _Mark:
    """A parsed mark; it is never part of a value."""

    __slots__ = ("form",)

    def __init__(self, form: int) -> None:
        self.form = form


class _Reader:
    """The parser's hooks for one value. They get complete lists, innermost first."""

    __slots__ = ("_lenient", "_registry", "_unregistered", "open_marks")

    def __init__(self, registry: Registry, *, lenient: bool, unregistered: dict[str, str] | None) -> None:
        self._registry = registry
        self._lenient = lenient
        self._unregistered = unregistered
        self.open_marks = 0  # marks that have not begun a list yet; none at the end of a sound value

    def mark(self, code: int, content: bytes) -> _Mark:
        if code != _MARK or len(content) != 1:
            return _refuse_extension(code, content)
        self.open_marks += 1
        return _Mark(content[0])

    def list(self, items: list[Any]) -> Any:
        if not items or type(items[0]) is not _Mark:
            return items
        form = items.pop(0).form
        self.open_marks -= 1
        if form == _TUPLE:
            return tuple(items)
        if form == _INSTANCE:
            return self._build_instance(*items)
        if form in (_SET, _FROZENSET):
            if has_collisions(items):
                raise ValueError(COLLISIONS)
            return set(items) if form == _SET else frozenset(items)
        if form not in SCALAR_READERS:
            raise ValueError(f"unknown mark {form}")
        return SCALAR_READERS[form](*items)

    def _build_instance(self, name: str, *parts: Any) -> Any:
        if type(name) is not str:
            raise TypeError("a class name must be text")
        entry = self._registry.entry_named(name)
        if entry is None and not self._lenient:
            raise UnknownType(name, self._registry.names())
        why = ""
        if entry is not None:
            try:
                return instances.build(entry, parts)
            except DoesNotFit as error:
                # A known class may hold an unknown one, which its validator refuses: show it unbuilt, too.
                if not self._lenient:
                    raise
                why = str(error)
        if self._unregistered is not None:
            self._unregistered[name] = why
        first = parts[0]
        return Unregistered(name, first if isinstance(first, dict) else {"member": first})


def _build_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if has_collisions([key for key, _ in pairs]):
        raise ValueError(COLLISIONS)
    return dict(pairs)


def _refuse_extension(code: int, content: bytes) -> _Mark:
    raise ValueError(f"unknown extension type {code} of {len(content)} bytes")
