"""Registry: the classes whose instances a value may hold, each with its name in the bytes.

A class is registered only through an annotation of the program, never through bytes. Pydantic models,
dataclasses and Enums are registered, and so are the classes that their fields name, at any depth. All other
classes are skipped.
"""

import enum
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any, Literal, Self

from beluga_graph.codec.entry import Entry, Kind, kind_of, make_entry
from beluga_graph.codec.errors import NameTaken
from beluga_graph.codec.former_names import FORMER_NAMES

__all__ = ["Registry"]


class Registry:
    """The classes whose instances values may hold. It only grows."""

    __slots__ = ("_by_class", "_by_name")

    def __init__(self) -> None:
        self._by_class: dict[type[Any], Entry] = {}
        self._by_name: dict[str, Entry] = {}

    @classmethod
    def of(cls, *annotations: Any) -> Self:
        """Return a new registry of every class that the annotations name."""
        registry = cls()
        for annotation in annotations:
            registry.add(annotation)
        return registry

    def add(self, annotation: Any) -> None:
        """Register every class that a type annotation names, at any depth, and the classes that their fields name.

        Skips text that cannot be resolved (a forward reference to a local class). Raises `NameTaken`, and then
        registers nothing of this annotation.
        """
        self._take([make_entry(cls, kind) for cls, kind in _find_classes(annotation)])

    def merge(self, other: "Registry") -> None:
        """Register every class of another registry. Raises `NameTaken`, and then registers none of them."""
        self._take(other.entries())

    def names(self) -> tuple[str, ...]:
        """Return the names of the classes in bytes, sorted."""
        return tuple(sorted(self._by_name))

    def entries(self) -> tuple[Entry, ...]:
        """Return the entry of each class, in the order registered."""
        return tuple(self._by_name.values())

    def entry_of(self, cls: type[Any]) -> Entry | None:
        """Return the entry of exactly this class; a subclass does not count."""
        return self._by_class.get(cls)

    def entry_named(self, name: str) -> Entry | None:
        """Return the entry with this name in bytes; a former name finds the class under its current name."""
        return self._by_name.get(name) or self._by_name.get(FORMER_NAMES.get(name, ""))

    def __contains__(self, cls: object) -> bool:
        return cls in self._by_class

    def __len__(self) -> int:
        return len(self._by_name)

    def __repr__(self) -> str:
        return f"Registry({', '.join(self.names())})"

    def _take(self, entries: Iterable[Entry]) -> None:
        fresh: dict[str, Entry] = {}
        for entry in entries:
            known = self._by_name.get(entry.name) or fresh.setdefault(entry.name, entry)
            if known.cls is not entry.cls:
                raise NameTaken(entry.name, known.cls, entry.cls)
        self._by_name.update(fresh)
        self._by_class.update((entry.cls, entry) for entry in fresh.values())


def _find_classes(annotation: Any) -> Iterator[tuple[type[Any], Kind]]:
    """Yield each class that an annotation names and that can be rebuilt, once."""
    todo = [annotation]
    # By identity, because an annotation may be unhashable. The objects are kept because an id may be reused.
    seen: dict[int, Any] = {}
    while todo:
        found = todo.pop()
        if id(found) in seen:
            continue
        seen[id(found)] = found
        # `list[int]` passes for a class in isinstance, so the origin is checked first.
        if typing.get_origin(found) is None and isinstance(found, type):
            kind = kind_of(found)
            if kind is not None:
                yield found, kind
            todo.extend(_annotations_of_class(found, kind))
        else:
            todo.extend(_annotations_in(found))


def _annotations_of_class(cls: type[Any], kind: Kind | None) -> Iterable[Any]:
    """Return the annotations of a class's own fields; nothing for a class without declared fields."""
    if kind == "model":
        model: Any = cls
        if not model.__pydantic_complete__:
            model.model_rebuild(raise_errors=False)
        return [field.annotation for field in model.__pydantic_fields__.values()]
    if kind == "dataclass" or typing.is_typeddict(cls):
        return [hint for base in cls.__mro__ for hint in _read_hints(base)]
    return ()


def _annotations_in(form: Any) -> Iterable[Any]:
    """Return the annotations inside one that is not a class: `X | Y`, `list[X]`, a type variable, an alias."""
    if isinstance(form, list | tuple):  # the parameters in Callable[[X], Y]
        return form
    if isinstance(form, typing.NewType):
        return (form.__supertype__,)
    if isinstance(form, typing.TypeVar):
        return (form.__bound__, *form.__constraints__)
    # `type X = ...`: the class is in typing from 3.12 on, and in typing_extensions before.
    if type(form).__name__ == "TypeAliasType":
        return (form.__value__,)
    origin, args = typing.get_origin(form), typing.get_args(form)
    if origin is typing.Annotated:
        return args[:1]
    if origin is Literal:
        return [type(arg) for arg in args if isinstance(arg, enum.Enum)]
    return (origin, *args)


def _read_hints(cls: type[Any]) -> Iterator[Any]:
    """Yield the annotations of the class itself one by one, so that a bad name does not affect the others."""
    try:
        stated = inspect.get_annotations(cls)
    except NameError:  # from 3.14 on, annotations are computed on access
        return
    module = vars(sys.modules.get(cls.__module__, types.ModuleType("none")))
    for name, hint in stated.items():
        field: Any = types.SimpleNamespace(__annotations__={name: hint})
        try:
            # The class's own name is included, so that a local class can name itself.
            resolved = typing.get_type_hints(field, module, {cls.__name__: cls}, include_extras=True)
        except (NameError, TypeError, AttributeError, SyntaxError):
            continue
        yield resolved[name]
