"""Plans: compiled graphs. The shape of a plan is data and is stored; its bindings are code and are not."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from beluga_graph.codec.errors import TooLarge
from beluga_graph.codec.values import Codec
from beluga_graph.errors import LimitReached
from beluga_graph.kernel.shape import Shape
from beluga_graph.plan.channels import StateBinding
from beluga_graph.policy import Retry

__all__ = ["Binding", "Body", "Compilable", "Plan", "TimeBinding", "fingerprint_of"]


@dataclass(frozen=True, slots=True)
class Body:
    """A user's function, with the way to call it."""

    call: Callable[..., Any]
    takes_context: bool
    takes_value: bool
    is_async: bool

    @classmethod
    def of(cls, call: Callable[..., Any]) -> Body:
        """Inspect a function. It gets the context if its first parameter is a `Context` or is named `ctx`."""
        parameters = positional_parameters(call)
        takes_context = bool(parameters) and wants_context(parameters[0])
        is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
            getattr(call, "__call__", None)  # noqa: B004 - an object with an async __call__
        )
        return cls(call, takes_context, len(parameters) > takes_context, is_async)


def positional_parameters(call: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that can be passed by position. A builtin without a signature counts as taking a value."""
    try:
        parameters = inspect.signature(call).parameters.values()
    except (TypeError, ValueError):  # a builtin such as `str` or `dict.get`: it takes the value
        return [inspect.Parameter("value", inspect.Parameter.POSITIONAL_ONLY)]
    kinds = (
        inspect.Parameter.POSITIONAL_ONLY,
        inspect.Parameter.POSITIONAL_OR_KEYWORD,
        inspect.Parameter.VAR_POSITIONAL,
    )
    return [parameter for parameter in parameters if parameter.kind in kinds]


def wants_context(parameter: inspect.Parameter) -> bool:
    """Return whether a function's first parameter is the context."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return parameter.name == "ctx" or annotation.rpartition(".")[2].partition("[")[0] == "Context"
    if parameter.name == "ctx":
        return True
    return getattr(annotation, "__name__", "") == "Context" and annotation.__module__.startswith("beluga_graph")


@dataclass(frozen=True, slots=True)
class TimeBinding:
    """A function that decides a time, with the parameter that it was given as."""

    body: Body
    parameter: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The code of one node. Only the executor uses it."""

    body: Body | None = None
    choose: Body | None = None
    routes: frozenset[tuple[type, Any]] = frozenset()
    over: Body | None = None
    routed: bool = False  # fan-out: `over` returns the target of each item
    targets: int = 0  # fan-out: the number of its targets
    retry: Retry | None = None
    timeout_ms: int | None = None
    due_ms: int | None = None
    time: TimeBinding | None = None  # decides the node's time, or that of a fan-out's join
    state: StateBinding | None = None  # of the frame around the node
    payload_type: Any = None  # wait: the type of a signal's payload
    revise: Callable[[Any, Any], Any] | None = None  # question: checks the value that a person gives instead


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph that was checked and frozen. Every driver runs one."""

    shape: Shape
    bindings: Mapping[str, Binding]
    codec: Codec
    state: StateBinding | None = None
    waits: Mapping[str, Any] = field(default_factory=dict)  # by signal name: the payload type, if its waits name one

    @property
    def name(self) -> str:
        """The id of the flow: its name, with `@` and its version if it has one."""
        return self.shape.name

    @property
    def base_name(self) -> str:
        """The name of the flow without its version."""
        return self.shape.base_name

    @property
    def fingerprint(self) -> str:
        """The digest of the shape without prompts, descriptions, models, retry policies, limits and times."""
        return self.shape.fingerprint

    def encode(self, value: Any, allowed: int | None = None) -> bytes:
        """Return the bytes of a value. `allowed` is the run's limit if it is narrower than the graph's.

        Raises `NotData`, and `LimitReached` for more than `max_value_bytes`.
        """
        try:
            encoded = self.codec.encode(value)
        except TooLarge as error:
            raise _over_limit(error) from None
        if allowed is not None and len(encoded) > allowed:
            raise _over_limit(TooLarge(len(encoded), allowed, self.codec.limit))
        return encoded


class Compilable(Protocol):
    """An object with a plan: every flow."""

    name: str

    def plan(self) -> Plan:
        """Return the plan. Raises `GraphError`."""
        ...


def _over_limit(error: TooLarge) -> LimitReached:
    """Return the error of a run for a value that is too large."""
    return LimitReached("", f"a value of {error}")


_VOLATILE = ("retry", "timeout_ms", "delay_ms", "due_ms", "description", "limits", "fingerprint", "required")


def fingerprint_of(plain: Mapping[str, Any]) -> str:
    """Return the fingerprint of a shape given as plain data: 32 hexadecimal digits."""
    text = json.dumps(_stable(plain), sort_keys=True, separators=(",", ":"), default=repr)
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _stable(plain: Any) -> Any:
    if isinstance(plain, Mapping):
        return {key: _stable(value) for key, value in plain.items() if key not in _VOLATILE}
    if isinstance(plain, list | tuple):
        return [_stable(item) for item in plain]
    return plain
