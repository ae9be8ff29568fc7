"""Entry: the facts about one class that the codec needs to write its instances and to rebuild them."""

import dataclasses
import enum
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

__all__ = ["BUILT_IN", "Entry", "Kind", "class_name", "kind_of", "make_entry"]

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


def make_entry(cls: type[Any], kind: Kind) -> Entry:
    """Return the entry of a class, from its declared fields."""
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
