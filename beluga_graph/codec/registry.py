"""Registry: the classes whose instances a value may hold, each with its name in the bytes.

A class is registered only through an annotation of the program, never through bytes. Pydantic models,
dataclasses and Enums are registered, and so are the classes that their fields name, at any depth. All other
classes are skipped.
"""

import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self

from beluga_graph.codec.errors import NameTaken
from beluga_graph.codec.former_names import FORMER_NAMES

__all__ = ["BUILT_IN", "Entry", "Registry", "class_name", "kind_of"]

Kind = Literal["model", "dataclass", "enum"]

_HOUSE = __name__.partition(".")[0]

# An instance of these holds content outside its fields, so it cannot be rebuilt from its fields.
BUILT_IN = (str, bytes, bytearray, int, float, complex, list, tuple, dict, set, frozenset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One registered class, with the facts that an encoder needs."""

    name: str
    cls: type[Any]
    kind: Kind
    fields: tuple[str, ...] = ()
    """Fields of a dataclass, in order. Those of a model are read when used, because a model may be rebuilt."""
    init: frozenset[str] = frozenset()
    """The fields of a dataclass that its constructor takes."""
    is_exact: bool = False
    """Whether the instance is known to be restored unchanged if its fields are."""


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
        self._take([_make_entry(cls, kind) for cls, kind in _find_classes(annotation)])

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


def class_name(cls: type[Any]) -> str:
    """Return the name of a class in bytes, `module:qualname`.

    The program's main module has the name that an import would give it, so that a process that imports `app` can
    read data written by `python app.py`.
    """
    module = cls.__module__
    if module in {"__main__", "__mp_main__"}:
        module = _main_module_name()
    return f"{module}:{cls.__qualname__}"


def kind_of(cls: type[Any]) -> Kind | None:
    """Return how instances of a class are rebuilt, or `None` if they cannot be."""
    if issubclass(cls, enum.Enum):
        return "enum"
    # A class of pydantic itself (BaseModel in `payload: BaseModel`) is a bound, not a class of the program.
    if issubclass(cls, BUILT_IN) or cls.__module__.partition(".")[0] == "pydantic":
        return None
    if dataclasses.is_dataclass(cls):
        return "dataclass"
    # Checked by attribute, not by class, so that a program without pydantic never pays for its import.
    if hasattr(cls, "__pydantic_fields__") and hasattr(cls, "model_validate"):
        return "model"
    return None


def _main_module_name() -> str:
    main = sys.modules["__main__"]
    spec = getattr(main, "__spec__", None)
    if spec is not None:
        return str(spec.name)
    file = getattr(main, "__file__", None)
    return Path(file).stem if file else "__main__"


def _make_entry(cls: type[Any], kind: Kind) -> Entry:
    fields = dataclasses.fields(cls) if kind == "dataclass" else ()
    return Entry(
        name=class_name(cls),
        cls=cls,
        kind=kind,
        fields=tuple(field.name for field in fields),
        init=frozenset(field.name for field in fields if field.init),
        # The constructors of this package's own dataclasses take their fields unchanged; a test checks that.
        is_exact=kind == "enum" or (kind == "dataclass" and cls.__module__.partition(".")[0] == _HOUSE),
    )


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
