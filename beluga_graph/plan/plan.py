"""A plan: a compiled graph. Its shape is data and is stored; its bindings are code and never are."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from beluga_graph.codec import Codec, TooLarge
from beluga_graph.errors import LimitReached
from beluga_graph.kernel.shape import Shape
from beluga_graph.plan.channels import StateBinding
from beluga_graph.policy import Retry

__all__ = ["Binding", "Body", "Compilable", "Plan", "fingerprint_of"]


@dataclass(frozen=True, slots=True)
class Body:
    """A user's function, and how it is called."""

    call: Callable[..., Any]
    takes_context: bool
    takes_value: bool
    is_async: bool

    @classmethod
    def of(cls, call: Callable[..., Any]) -> Body:
        """Look at a function: it gets the context iff its first parameter is a `Context` or named `ctx`."""
        parameters = positional(call)
        takes_context = bool(parameters) and wants_context(parameters[0])
        is_async = inspect.iscoroutinefunction(call) or inspect.iscoroutinefunction(
            getattr(call, "__call__", None)  # noqa: B004 - an object with an async __call__
        )
        return cls(call, takes_context, len(parameters) > takes_context, is_async)


def positional(call: Callable[..., Any]) -> list[inspect.Parameter]:
    """Return the parameters that a call by position fills, none for a builtin that does not tell."""
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
    """Tell whether a first parameter asks for the context."""
    annotation = parameter.annotation
    if isinstance(annotation, str):
        return parameter.name == "ctx" or annotation.rpartition(".")[2].partition("[")[0] == "Context"
    if parameter.name == "ctx":
        return True
    return getattr(annotation, "__name__", "") == "Context" and annotation.__module__.startswith("beluga_graph")


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """The code of one node, seen only by the executor."""

    body: Body | None = None
    choose: Body | None = None
    routes: frozenset[tuple[type, Any]] = frozenset()
    over: Body | None = None
    routed: bool = False  # fan-out: `over` says where each item goes
    targets: int = 0  # fan-out: how many targets it has
    retry: Retry | None = None
    timeout_ms: int | None = None
    state: StateBinding | None = None  # of the frame that the node stands in
    payload_type: Any = None  # wait: what a signal's payload must be
    revise: Callable[[Any, Any], Any] | None = None  # question: checks the other value that a person goes on with


@dataclass(frozen=True, slots=True)
class Plan:
    """A graph that was checked and frozen: what every driver walks."""

    shape: Shape
    bindings: Mapping[str, Binding]
    codec: Codec
    state: StateBinding | None = None
    waits: Mapping[str, Any] = field(default_factory=dict)  # signal name -> payload type, where one is named

    @property
    def name(self) -> str:
        """The flow's name."""
        return self.shape.name

    @property
    def fingerprint(self) -> str:
        """The digest of the shape, less prompts, descriptions, models, retry and time limits."""
        return self.shape.fingerprint

    def encode(self, value: Any, allowed: int | None = None) -> bytes:
        """Return the bytes of a value; a run may be `allowed` fewer than the graph.

        Raises `NotData`, and `LimitReached` past `max_value_bytes`.
        """
        try:
            encoded = self.codec.encode(value)
        except TooLarge as error:
            raise _over_limit(error) from None
        if allowed is not None and len(encoded) > allowed:
            raise _over_limit(TooLarge(len(encoded), allowed, self.codec.limit))
        return encoded


class Compilable(Protocol):
    """What can be compiled: every flow."""

    name: str

    def plan(self) -> Plan:
        """Return the plan. Raises `GraphError`."""
        ...


def _over_limit(error: TooLarge) -> LimitReached:
    """Return what a run raises for a value that is too large."""
    return LimitReached("", f"a value of {error}")


_VOLATILE = ("retry", "timeout_ms", "delay_ms", "description", "limits", "fingerprint")


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
