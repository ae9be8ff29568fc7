"""Codec: users' values to bytes and back, exactly, or not at all.

What msgpack has a form for is written as that. Everything else becomes a list that begins with a mark, an
extension type of one byte that no value can contain:

    (1, 2)            [mark TUPLE, 1, 2]
    {"b", "a"}        [mark SET, "a", "b"]                 in one order, so equal sets are equal bytes
    Doc(text="x")     [mark INSTANCE, "app:Doc", {"text": "x"}]

So a tree of any shape is written and parsed in one pass, without recursion in Python and without bytes inside
bytes, which would be copied once for each level.
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
from beluga_graph.codec.hash_collisions import CROWD, has_large_dict, is_crowded, largest_dicts
from beluga_graph.codec.registry import Registry
from beluga_graph.codec.safe_repr import qualified, shown
from beluga_graph.codec.scalars import LEAF_READERS, LEAF_WRITERS, Refused
from beluga_graph.codec.stand_in import StandIn
from beluga_graph.codec.value_paths import SCALARS, Path, Walk, joined

__all__ = ["MAX_BYTES", "Codec", "Unregistered", "decode", "encode"]

MAX_BYTES = 64 * 1024 * 1024

_TUPLE, _SET, _FROZENSET, _INSTANCE = 2, 3, 4, 11  # 1 and 5 to 10 are in leaves
_MARK = 1  # the one extension type; its one byte of content says what the list is
_MARKS = [msgpack.ExtType(_MARK, bytes([form])) for form in range(12)]
_LEVELS = 1024  # what msgpack's packer and its parser nest, both in C
_SETS_WRITTEN = 32  # sets inside sets: to order one, its elements are encoded, and theirs before

# Every byte that begins an extension type or bytes in msgpack; translate with `delete` keeps only those.
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
    """An instance of a class that this process does not know: its name and what was stored, to look at."""

    name: str
    fields: dict[str, Any]

    def __hash__(self) -> int:
        # It may be a key or in a set, like what it was; of fields that cannot be hashed, nothing counts.
        return hash((self.name, frozenset((name, _hash_of(part)) for name, part in self.fields.items())))


def _hash_of(part: Any) -> int:
    if type(part) is tuple:
        return hash(tuple(map(_hash_of, part)))
    if type(part) in SCALARS or type(part) in LEAF_WRITERS or type(part) is Unregistered:
        with suppress(TypeError):  # a signaling NaN
            return hash(part)
    return 0


class Codec:
    """Encodes and decodes values whose instances are of the registered classes. Any thread may use it.

    An error about `max_bytes` calls it by `limit`: the name under which a user can raise it.
    """

    __slots__ = ("_writers", "limit", "max_bytes", "registry")

    def __init__(
        self, registry: Registry | None = None, max_bytes: int = MAX_BYTES, *, limit: str = "max_bytes"
    ) -> None:
        self.registry = Registry() if registry is None else registry
        self.max_bytes = max_bytes
        self.limit = limit
        # Idle writers, as many as ever encoded at the same time: a packer must not be entered twice.
        self._writers: list[_Writer] = []

    def encode(self, value: Any) -> bytes:
        """Return the bytes of a value: the same for equal values (and equal order of dicts) in every process.

        Raises `NotData` for what cannot be stored or would not come back as it was (an instance of a program's
        class is decoded again and compared), `TooDeep`, and `TooLarge`.
        """
        blob, may_lose = self._write(value)
        if len(blob) > self.max_bytes:
            raise TooLarge(len(blob), self.max_bytes, self.limit)
        if may_lose:
            self._refuse_loss(value, blob)
        return blob

    def decode(self, blob: bytes, *, lenient: bool = False, strangers: dict[str, str] | None = None) -> Any:
        """Return the value, made anew. With `lenient`, instances of classes that are unknown,
        or that no longer fit, become `Unregistered`; `strangers` is given the names of these classes, each with what
        the class has against it, or `""` if it is unknown.

        Raises `TooLarge`, `TooDeep`, `UnknownType`, `DoesNotFit`, and `DamagedValue` for anything else that
        is wrong.
        """
        if len(blob) > self.max_bytes:
            raise TooLarge(len(blob), self.max_bytes, self.limit)
        try:
            if _MARK_BYTE not in blob:  # most values: nothing in them is marked
                return _unpack(blob, ext_hook=_refuse_extension)
            reader = _Reader(self.registry, lenient=lenient, strangers=strangers)
            # Built by the hook, a dict costs more: so only where one is large enough to be crowded.
            build = partial(_unpack, object_pairs_hook=_table) if has_large_dict(blob) else _unpack
            value = build(blob, ext_hook=reader.mark, list_hook=reader.list)
        except SnapshotError:
            raise
        except msgpack.exceptions.StackError as error:
            raise TooDeep(_LEVELS) from error
        except Exception as error:  # hostile bytes reach every reader, and each raises in its own way
            raise DamagedValue(f"{type(error).__name__}: {error}".removesuffix(": ")) from error
        if reader.open_marks:
            raise DamagedValue("a mark stands where no list begins")
        return value

    @staticmethod
    def by_reference(value: Any) -> bool:
        """Tell whether a value is an immutable scalar, which may be handed over without a fresh decode."""
        return type(value) in SCALARS

    def _write(self, value: Any) -> tuple[bytes, bool]:
        """Return the bytes, and whether instances are in them that may not come back as they were."""
        writer = self._writers.pop() if self._writers else _Writer(self.registry)
        try:
            blob = writer.write(value)
            # A value may itself hold an extension type of msgpack, a bytearray or a memoryview, which the packer
            # writes unasked. The bytes that could begin one are as many as our marks, or the value is searched.
            if len(blob.translate(None, _NO_SUSPECT)) != writer.marks and type(value) not in SCALARS:
                self._refuse_foreign(value)
            if writer.marks and has_large_dict(blob) and any(map(is_crowded, largest_dicts([value]))):
                self._refuse_foreign(value)
            may_lose = writer.may_lose
        except SnapshotError:
            raise
        except Exception as error:
            self._refuse_foreign(value)  # finds the place, which the packer does not tell
            if isinstance(error, ValueError | RecursionError):  # what msgpack calls its limit
                raise TooDeep(_LEVELS) from error
            raise NotData("", qualified(type(value)), shown(value), f"{type(error).__name__}: {error}") from error
        finally:
            if writer.reset():
                self._writers.append(writer)
        return blob, may_lose

    def _refuse_foreign(self, value: Any) -> None:
        """Raise `NotData` for the first part that cannot be written, if there is one."""
        for path, part, reason in Walk(self.registry, value):
            if reason:
                raise NotData(joined(path), qualified(type(part)), shown(part), reason)

    def _refuse_loss(self, value: Any, blob: bytes) -> None:
        """Raise `NotData` if the bytes do not come back as what they were made of.

        Compared by bytes, not by `==`: that holds for NaN and for classes without `__eq__`, and it tells 1
        from 1.0.
        """
        detail = self._loss(blob)
        if detail is None:
            return
        # The innermost instance that is lost when it stands alone is the one to blame.
        path: Path = ()
        part = value
        for at, inner, _ in Walk(self.registry, value):
            if type(inner) in self.registry:
                found = self._loss(self._write(inner)[0])
                if found is not None:
                    path, part, detail = at, inner, found
        reason = f"it does not come back equal ({detail}): let its constructor accept its own fields unchanged"
        raise NotData(joined(path), qualified(type(part)), shown(part), reason)

    def _loss(self, blob: bytes) -> str | None:
        try:
            again = self._write(self.decode(blob))[0]
        except SnapshotError as error:
            return str(error)
        return None if again == blob else "a field changed on the way"


def encode(value: Any, registry: Registry) -> bytes:
    """Return the bytes of a value, as `Codec.encode`; who encodes often keeps a `Codec`."""
    return Codec(registry).encode(value)


def decode(blob: bytes, registry: Registry, *, lenient: bool = False) -> Any:
    """Return the value of the bytes, as `Codec.decode`."""
    return Codec(registry).decode(blob, lenient=lenient)


class _Writer:
    """A packer, with what it must remember while it writes one value."""

    __slots__ = ("_orders", "_pack", "_registry", "_sets_open", "marks", "may_lose")

    def __init__(self, registry: Registry) -> None:
        self._registry = registry
        self._pack: Callable[[Any], bytes] = self._new_packer()
        # Sets in their order, by identity. A set inside sets is met once to order each of those and once to
        # be written: ordered anew each time, the work would double with each level.
        self._orders: dict[int, list[Any]] = {}
        self._sets_open = 0
        self.marks = 0
        self.may_lose = False

    def write(self, value: Any) -> bytes:
        blob = self._pack(value)
        if len(blob) > 1 << 20:  # a packer keeps its largest buffer, so one that grew is let go
            self._pack = self._new_packer()
        return blob

    def reset(self) -> bool:
        """Forget the value; False if the writer is not fit for another one."""
        if self._sets_open:
            return False
        self._orders.clear()
        self.marks = 0
        self.may_lose = False
        return True

    def _new_packer(self) -> Any:
        return msgpack.Packer(
            default=self._form,
            strict_types=True,
            autoreset=True,
            unicode_errors="surrogatepass",
            buf_size=4096,  # type: ignore[call-arg]  # the stubs lack it
        ).pack

    def _form(self, value: Any) -> list[Any]:
        """Return the list that stands for a value that msgpack has no form for."""
        self.marks += 1
        cls = type(value)
        if cls is tuple:
            return [_MARKS[_TUPLE], *value]
        entry = self._registry.entry_of(cls)
        if entry is not None:
            self.may_lose = self.may_lose or not entry.is_exact
            return [_MARKS[_INSTANCE], entry.name, *instances.take_apart(entry, value)]
        if cls is set or cls is frozenset:
            return [_MARKS[_SET if cls is set else _FROZENSET], *self._ordered(value)]
        leaf = LEAF_WRITERS.get(cls)
        if leaf is None:
            return self._other(value)
        form, write = leaf
        return [_MARKS[form], *write(value)]

    def _other(self, value: Any) -> list[Any]:
        if not isinstance(value, StandIn):
            raise Refused
        self.marks -= 1
        stored = value.stored()
        return stored if type(stored) in (list, dict) else self._form(stored)

    def _ordered(self, elements: set[Any] | frozenset[Any]) -> list[Any]:
        order = self._orders.get(id(elements))
        if order is None:
            if is_crowded(elements):
                raise Refused
            alike = set(map(type, elements)) in ({str}, {int})
            order = sorted(elements) if alike else self._ordered_by_bytes(elements)
            self._orders[id(elements)] = order
        return order

    def _ordered_by_bytes(self, elements: set[Any] | frozenset[Any]) -> list[Any]:
        if self._sets_open == _SETS_WRITTEN:
            raise TooDeep(_SETS_WRITTEN)
        marks, self._sets_open = self.marks, self._sets_open + 1
        order = sorted(elements, key=self._new_packer())  # ours is in the middle of writing
        self.marks, self._sets_open = marks, self._sets_open - 1
        return order


class _Mark:
    """What a mark is while it is parsed: never part of a value."""

    __slots__ = ("form",)

    def __init__(self, form: int) -> None:
        self.form = form


class _Reader:
    """The parser's hooks for one value. Lists come closed, from the inside out."""

    __slots__ = ("_lenient", "_registry", "_strangers", "open_marks")

    def __init__(self, registry: Registry, *, lenient: bool, strangers: dict[str, str] | None) -> None:
        self._registry = registry
        self._lenient = lenient
        self._strangers = strangers
        self.open_marks = 0  # marks that no list has begun with yet: at the end of a sound value, none

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
            return self._instance(*items)
        if form in (_SET, _FROZENSET):
            if is_crowded(items):
                raise ValueError(CROWD)
            return set(items) if form == _SET else frozenset(items)
        if form not in LEAF_READERS:
            raise ValueError(f"unknown mark {form}")
        return LEAF_READERS[form](*items)

    def _instance(self, name: str, *parts: Any) -> Any:
        if type(name) is not str:
            raise TypeError("a class is named by text")
        entry = self._registry.entry_named(name)
        if entry is None and not self._lenient:
            raise UnknownType(name, self._registry.names())
        why = ""
        if entry is not None:
            try:
                return instances.build(entry, parts)
            except DoesNotFit as error:
                # A known class may hold an unknown one, which its validator refuses: shown as found, too.
                if not self._lenient:
                    raise
                why = str(error)
        if self._strangers is not None:
            self._strangers[name] = why
        first = parts[0]
        return Unregistered(name, first if isinstance(first, dict) else {"member": first})


def _table(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    if is_crowded([key for key, _ in pairs]):
        raise ValueError(CROWD)
    return dict(pairs)


def _refuse_extension(code: int, content: bytes) -> _Mark:
    raise ValueError(f"unknown extension type {code} of {len(content)} bytes")
