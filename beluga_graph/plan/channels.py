"""Channels: the fields of a pydantic model as the state of a graph, each with its reducer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, get_args, get_origin

from beluga_graph.codec.entry import class_name
from beluga_graph.codec.former_names import former_name, with_former_names
from beluga_graph.errors import BadState
from beluga_graph.kernel.shape import FieldShape
from beluga_graph.reducers import Reducer, append

__all__ = ["Channel", "StateBinding", "bind_state", "stored_type_name", "type_name"]


@dataclass(frozen=True)
class Channel:
    """One field of the state, with its reducer and its validation."""

    name: str
    annotation: Any
    reducer: Reducer | None
    default: Callable[[], tuple[bool, Any]]  # (True, value), or (False, None) if the field has none
    required: bool = False  # it has no default

    @property
    def appends(self) -> bool:
        """Whether the field is a list whose items are appended and stored one by one."""
        return self.reducer is append

    @cached_property
    def adapter(self) -> Any:
        """The validator of a value of the field, or of one item if it is an append field."""
        from pydantic import TypeAdapter  # noqa: PLC0415 - only the first update pays for it

        return TypeAdapter(self.item if self.appends else self.annotation)

    @property
    def item(self) -> Any:
        """The type of one item of an append field."""
        arguments = get_args(self.annotation)
        return arguments[0] if arguments and arguments[0] is not Ellipsis else Any

    def shape(self) -> FieldShape:
        """Return the channel as data."""
        reducer = "set" if self.reducer is None else getattr(self.reducer, "__name__", "reducer")
        stored = stored_type_name(self.annotation)
        return FieldShape(name=self.name, reducer=reducer, type=stored, required=self.required)


@dataclass(frozen=True, slots=True)
class StateBinding:
    """The state of one frame."""

    model: type[Any]
    channels: dict[str, Channel] = field(default_factory=dict)


def bind_state(graph: str, model: type[Any]) -> StateBinding:
    """Return the channels of a pydantic model class. Raises `BadState` if `model` is not one."""
    fields = getattr(model, "__pydantic_fields__", None)
    if not isinstance(model, type) or fields is None:
        raise BadState(graph, f"state {model!r}", "it is not a pydantic model class", "derive it from BaseModel")
    channels = {}
    for name, info in fields.items():
        reducers = [extra for extra in info.metadata if callable(extra) and not isinstance(extra, type)]
        if len(reducers) > 1:
            rule = f"field {name!r} has {len(reducers)} reducers"
            raise BadState(graph, f"state {model.__name__}", rule, "name one reducer in its Annotated")
        channels[name] = Channel(
            name, info.annotation, reducers[0] if reducers else None, _default(info), info.is_required()
        )
        if channels[name].appends and (get_origin(info.annotation) or info.annotation) not in (list, tuple, Any):
            rule = f"append field {name!r} is a {type_name(info.annotation)}"
            raise BadState(graph, f"state {model.__name__}", rule, "make it a list")
    return StateBinding(model, channels)


def _default(info: Any) -> Callable[[], tuple[bool, Any]]:
    def default() -> tuple[bool, Any]:
        if info.is_required():
            return False, None
        return True, info.get_default(call_default_factory=True)

    return default


def type_name(annotation: Any) -> str:
    """Return a type as text, for drawings, comparisons and messages."""
    if annotation is Any or annotation is None:
        return "Any" if annotation is Any else "None"
    if isinstance(annotation, type) and not get_args(annotation):
        return annotation.__qualname__
    return str(annotation).replace("typing.", "")


def stored_type_name(annotation: Any) -> str:
    """Return a type as text for the shape: renamed classes of this package keep the name that they had at first."""
    if isinstance(annotation, type) and not get_args(annotation):
        return former_name(class_name(annotation)).partition(":")[2]
    return with_former_names(type_name(annotation))
