"""The parts of a workflow: steps, waits for a signal, pauses. A `Graph` takes them too, by `g.add`."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, overload

from beluga_graph.flows.checks import check_approval, check_name, check_seconds
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import frame_of
from beluga_graph.plan.declared import MISSING, Approval, DeclaredNode, Missing
from beluga_graph.policy import Retry

__all__ = ["Part", "as_part", "sleep", "step", "wait_signal"]


class Part:
    """One part of a workflow: a value that can stand in any number of flows, once in each under its name.

    A part that was made from a function is still callable as that function.
    """

    __slots__ = ("__wrapped__", "_declared", "name")

    def __init__(self, name: str, declared: Callable[[str], DeclaredNode], function: Callable[..., Any] | None) -> None:
        check_name(name, name)
        self.name = name
        self._declared = declared
        self.__wrapped__ = function

    def node(self, name: str | None = None) -> DeclaredNode:
        """Return the part as a node of a graph, under another name if one is given."""
        return self._declared(self.name if name is None else name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function behind the part, outside of any run."""
        if self.__wrapped__ is None:
            msg = f"part {self.name!r} has no function of its own to call"
            raise TypeError(msg)
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<part {self.name!r}>"


@overload
def step(name: Callable[..., Any] | Flow, /) -> Part: ...
@overload
def step(
    name: str | None = None,
    *,
    retry: Retry | None = None,
    timeout: float | None = None,
    requires_approval: Approval = False,
) -> Callable[[Callable[..., Any] | Flow], Part]: ...
@overload
def step(
    name: str,
    fn: Callable[..., Any] | Flow,
    *,
    retry: Retry | None = None,
    timeout: float | None = None,
    requires_approval: Approval = False,
) -> Part: ...


def step(
    name: Any = None,
    fn: Callable[..., Any] | Flow | None = None,
    *,
    retry: Retry | None = None,
    timeout: float | None = None,
    requires_approval: Approval = False,
) -> Any:
    """Make a step of a function, `f(value)` or `f(ctx, value)`, or of any flow; also a decorator, with or without a
    name.

    `timeout` bounds one attempt, in seconds, and `retry` says when another is made. A flow becomes a frame: an
    attempt is the whole of it, and `timeout` is its deadline.

    With `requires_approval` the step waits, for as long as it takes, until a person answers `Engine.answer`: a
    function `(value)` or `(ctx, value)` that returns a bool decides whether to ask. The times of the step count from
    the answer. A step that is rejected fails with `Rejected`.
    """
    if name is not None and not isinstance(name, str):
        return _step(None, name)
    if fn is None:
        return lambda fn: _step(name, fn, retry, timeout, requires_approval=requires_approval)
    return _step(name, fn, retry, timeout, requires_approval=requires_approval)


def _step(
    name: str | None,
    fn: Any,
    retry: Retry | None = None,
    timeout: float | None = None,
    *,
    requires_approval: Approval = False,
) -> Part:
    name = _name_of(name, fn)
    where = f"step {name!r}"
    check_seconds(where, "timeout", timeout)
    check_approval(where, requires_approval)
    if retry is not None and not isinstance(retry, Retry):
        msg = f"{where}: retry={retry!r:.100} is no Retry(…)"
        raise TypeError(msg)
    is_flow = isinstance(fn, Flow)
    if is_flow and retry is not None and (retry.retry_on, retry.give_up_on) != ((Exception,), ()):
        msg = f"{where}: a whole flow is tried again whatever failed in it: give retry_on and give_up_on to its nodes"
        raise ValueError(msg)

    def declared(name: str) -> DeclaredNode:
        if is_flow:
            node = frame_of(fn, name=name, retry=retry, timeout=timeout)
        else:
            node = DeclaredNode(name=name, kind="function", body=fn, retry=retry, timeout=timeout)
        node.requires_approval = requires_approval
        return node

    return Part(name, declared, None if is_flow else fn)


def _name_of(name: str | None, fn: Any) -> str:
    """Return the name of a step. Raises `TypeError` for what can be none."""
    if isinstance(fn, Part):
        msg = f"{fn!r} is a part already: use it as it is"
        raise TypeError(msg)
    if isinstance(fn, Flow):
        return fn.name if name is None else name
    if inspect.isclass(fn) or not callable(fn):
        what = f"step {name!r}: " if name is not None else ""
        msg = f"{what}{fn!r:.100} is no step: give a function, a flow, step(…), wait_signal(…) or sleep(…)"
        raise TypeError(msg)
    found = getattr(fn, "__name__", None) if name is None else name
    if found is None:
        msg = f"{fn!r:.100} has no name of its own: write step(name, it)"
        raise TypeError(msg)
    return str(found)


def wait_signal(
    name: str,
    *,
    timeout: float | None = None,
    type: Any = None,  # noqa: A002 - the face's word
    default: Any | Missing = MISSING,
) -> Part:
    """Wait for the signal `name`; its payload is the output, validated against `type` if one is given.

    After `timeout` seconds the output is `default`; without a default the part fails with `SignalTimeout`.
    """
    check_seconds(f"wait_signal({name!r:.100})", "timeout", timeout)
    if default is not MISSING and timeout is None:
        msg = f"wait_signal({name!r}): default= is the output after a timeout: give timeout= too"
        raise ValueError(msg)

    def declared(node: str) -> DeclaredNode:
        return DeclaredNode(name=node, kind="wait", signal=name, timeout=timeout, type=type, default=default)

    return Part(name, declared, None)


def sleep(name: str, seconds: float) -> Part:
    """Pause for `seconds`, also across restarts; passes its input on."""
    if seconds is None:
        msg = f"sleep({name!r:.100}): how many seconds?"
        raise TypeError(msg)
    check_seconds(f"sleep({name!r:.100})", "seconds", seconds)
    return Part(name, lambda node: DeclaredNode(name=node, kind="timer", seconds=seconds), None)


def as_part(given: Any) -> Part:
    """Return a part, made from a plain function or a flow if need be. Raises `TypeError`."""
    return given if isinstance(given, Part) else _step(None, given)
