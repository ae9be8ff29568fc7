"""Takes instances of registered classes apart into named fields, and rebuilds them with their own constructor.

Names from bytes are only ever compared with the names that the class itself declares.
"""

import enum
import functools
import inspect
from collections.abc import Sequence
from typing import Any

from beluga_graph.codec.entry import Entry
from beluga_graph.codec.errors import DoesNotFit, SnapshotError
from beluga_graph.codec.former_names import FORMER_FIELDS
from beluga_graph.codec.safe_repr import qualified_name
from beluga_graph.codec.scalars import Refused

__all__ = ["build", "take_apart"]


def take_apart(entry: Entry, value: Any) -> list[Any]:
    """Return the parts of an instance that are stored after the name of its class.

    Enum: [member, or the int of a combination of flags]. Dataclass: [fields]. Model: [fields with extras;
    the names that were set explicitly, None for all; private attributes or None]. Raises `Refused`.
    """
    if entry.kind == "enum":
        return [_read_member(value)]
    if entry.kind == "dataclass":
        return [_read_fields(entry, value)]
    return _take_model_apart(value)


def build(entry: Entry, parts: Sequence[Any]) -> Any:
    """Return the instance that was taken apart. Raises `DoesNotFit` with the reason why the class refuses it."""
    try:
        if entry.kind == "enum":
            return _build_enum(entry, *parts)
        if entry.kind == "dataclass":
            return _build_dataclass(entry, *parts)
        return _build_model(entry, *parts)
    except SnapshotError:
        raise
    except Exception as error:  # constructors and validators are user code and raise anything
        raise DoesNotFit(entry.name, _reason_of(error)) from error


def _read_member(value: enum.Enum) -> str | int:
    if type(value).__members__.get(value.name) is value:
        return value.name
    if isinstance(value, enum.Flag) and type(value.value) is int:
        return value.value
    raise Refused("it is not a member of its class")


def _build_enum(entry: Entry, member: str | int) -> enum.Enum:
    if type(member) is int and issubclass(entry.cls, enum.Flag):
        return entry.cls(member)
    found = entry.cls.__members__.get(member)
    if found is None:
        raise DoesNotFit(entry.name, f"it has no member {member!r}")
    return found  # type: ignore[no-any-return]  # a user's class is Any


def _read_fields(entry: Entry, value: Any) -> dict[str, Any]:
    try:
        fields = {name: getattr(value, name) for name in entry.fields}
    except AttributeError as error:
        raise Refused(f"a field was never set ({error})") from error
    _refuse_strays(value, getattr(value, "__dict__", {}), fields)
    return fields


def _build_dataclass(entry: Entry, fields: dict[str, Any]) -> Any:
    renamed = FORMER_FIELDS.get(entry.name)
    if renamed is not None:
        fields = {renamed.get(name, name): part for name, part in fields.items()}
    for name in fields:
        if name not in entry.fields:
            raise DoesNotFit(entry.name, f"it has no field {name!r}")
    instance = entry.cls(**{name: part for name, part in fields.items() if name in entry.init})
    for name in fields.keys() - entry.init:
        object.__setattr__(instance, name, fields[name])  # also of a frozen one
    return instance


def _take_model_apart(value: Any) -> list[Any]:
    declared, present = type(value).__pydantic_fields__, value.__dict__
    fields = {name: present[name] for name in declared if name in present}
    _refuse_strays(value, present, fields)
    fields.update(value.__pydantic_extra__ or ())
    explicit = value.__pydantic_fields_set__
    chosen = None if explicit >= fields.keys() else [name for name in fields if name in explicit]
    private = value.__pydantic_private__
    # In the order of the class: the order in the instance depends on the order of assignments.
    kept = {name: private[name] for name in type(value).__private_attributes__ if name in private} if private else None
    return [fields, chosen, kept]


def _build_model(entry: Entry, fields: dict[str, Any], chosen: list[str] | None, private: dict[str, Any] | None) -> Any:
    cls = entry.cls
    is_root = getattr(cls, "__pydantic_root_model__", False)
    if cls.model_config.get("extra") != "allow":
        # A model that ignores extras would silently drop a field that it no longer has.
        for name in fields:
            if name not in cls.__pydantic_fields__:
                raise DoesNotFit(entry.name, f"it has no field {name!r}")
    instance = cls.model_validate(fields["root"] if is_root else fields, by_alias=False, by_name=True)
    if type(instance) is not cls:
        raise DoesNotFit(entry.name, f"its validator returns a {qualified_name(type(instance))}")
    explicit = fields.keys() if chosen is None else fields.keys() & chosen
    object.__setattr__(instance, "__pydantic_fields_set__", set(explicit))
    for name, part in (private or {}).items():
        if name not in cls.__private_attributes__:
            raise DoesNotFit(entry.name, f"it has no private attribute {name!r}")
        instance.__pydantic_private__[name] = part
    return instance


def _refuse_strays(value: Any, present: dict[str, Any], fields: dict[str, Any]) -> None:
    """Refuse an instance with attributes that are not fields: they would be lost."""
    for name in present:
        # A cached property is computed again on access.
        if name not in fields and not isinstance(
            inspect.getattr_static(type(value), name, None), functools.cached_property
        ):
            raise Refused(f"its attribute {name!r} is not a field and would be lost: declare it")


def _reason_of(error: Exception) -> str:
    """Return the reason on one line; leave the values out of a pydantic error, because they may be secret."""
    problems = getattr(error, "errors", None)
    if callable(problems):
        listed = problems(include_url=False, include_context=False, include_input=False)
        return "; ".join(f"{'.'.join(map(str, each['loc'])) or 'the whole'}: {each['msg']}" for each in listed)
    return f"{type(error).__name__}: {error}"
