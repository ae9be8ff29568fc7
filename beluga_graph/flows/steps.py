"""The parts of a workflow: steps, waits for a signal, pauses. `Graph.add` accepts them, too."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias, overload

from beluga_graph.flows.checks import check_approval, check_name
from beluga_graph.flows.flow import Flow
from beluga_graph.flows.frames import build_frame
from beluga_graph.plan.declared import MISSING, Approval, DeclaredNode, Missing
from beluga_graph.plan.times import Delay, Moment, read_pause, read_time
from beluga_graph.policy import Retry

__all__ = ["Part", "sleep", "step", "to_part", "wait_signal"]


class Part:
    """One part of a workflow. It can be used in any number of flows, once in each under its name.

    A part made from a function can be called like that function.

    Attributes:
        name: The name of the node that the part becomes.
    """

    __slots__ = ("__wrapped__", "_declare", "name")

    def __init__(self, name: str, declare: Callable[[str], DeclaredNode], function: Callable[..., Any] | None) -> None:
        check_name(name, name)
        self.name = name
        self._declare = declare
        self.__wrapped__ = function

    def node(self, name: str | None = None) -> DeclaredNode:
        """Return the part as a node of a graph, under another name if one is given."""
        return self._declare(self.name if name is None else name)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function of the part, outside of any run. Raises `TypeError` if the part has no function."""
        if self.__wrapped__ is None:
            msg = f"part {self.name!r} has no function of its own to call"
            raise TypeError(msg)
        return self.__wrapped__(*args, **kwargs)

    def __repr__(self) -> str:
        return f"<part {self.name!r}>"


Handlers: TypeAlias = Mapping[str, Part | Callable[..., Any] | Flow]
"""Steps that signals interrupt a step for, by the name of the signal."""


@overload
def step(name: Callable[..., Any] | Flow, /) -> Part: ...
@overload
def step(
    name: str | None = None,
    *,
    retry: Retry | None = None,
    timeout: Delay | None = None,
    requires_approval: Approval = False,
    on_signal: Handlers | None = None,
) -> Callable[[Callable[..., Any] | Flow], Part]: ...
@overload
def step(
    name: str,
    fn: Callable[..., Any] | Flow,
    *,
    retry: Retry | None = None,
    timeout: Delay | None = None,
    requires_approval: Approval = False,
    on_signal: Handlers | None = None,
) -> Part: ...


def step(
    name: Any = None,
    fn: Callable[..., Any] | Flow | None = None,
    *,
    retry: Retry | None = None,
    timeout: Delay | None = None,
    requires_approval: Approval = False,
    on_signal: Handlers | None = None,
) -> Any:
    """Make a step from a function or a flow. Works as a call and as a decorator, with or without a name.

    A step made from a flow is a frame: one attempt is a run of the whole flow.

    ```python
    @step("charge", retry=Retry(attempts=5), timeout=30, requires_approval=lambda amount: amount > 100)
    async def charge(ctx: Context, amount: int) -> str: ...
    ```

    Args:
        name: The name of the step; by default that of the function or flow.
        fn: A function `(value)` or `(ctx, value)`, async (runs on the event loop) or sync (runs in a thread); or a
            flow.
        retry: The policy for failed attempts; by default the first failure is final. The step of a flow repeats the
            whole flow, so `retry_on` and `give_up_on` must be left at their defaults.
        timeout: The longest time of one attempt: seconds, a `timedelta`, a `datetime` with a zone, or a function of the
            step's input that returns one of these, or `None` for no limit. For a flow it is the deadline of the whole
            flow.
        requires_approval: `True`, or a function `(value)` or `(ctx, value)` that returns a bool: whether the step
            waits, without a time limit, until a person answers by `Engine.answer`. Attempts and timeout count from the
            answer. A rejected step fails with `Rejected`.
        on_signal: Steps, plain functions or flows by the names of signals. Such a signal interrupts the step while it
            is under way, and the other step gets the payload. The run goes on behind this step, with its output.

    Raises:
        BadName: The name is not valid.
        TypeError, ValueError: A parameter is not valid.
    """
    if name is not None and not isinstance(name, str):
        return _make_step(None, name)
    if fn is None:
        return lambda fn: _make_step(name, fn, retry, timeout, requires_approval=requires_approval, on_signal=on_signal)
    return _make_step(name, fn, retry, timeout, requires_approval=requires_approval, on_signal=on_signal)


def _make_step(
    name: str | None,
    fn: Any,
    retry: Retry | None = None,
    timeout: Delay | None = None,
    *,
    requires_approval: Approval = False,
    on_signal: Handlers | None = None,
) -> Part:
    name = _find_name(name, fn)
    where = f"step {name!r}"
    limit = read_time(where, "timeout", timeout)
    check_approval(where, requires_approval)
    if retry is not None and not isinstance(retry, Retry):
        msg = f"{where}: retry={retry!r:.100}; give a Retry(…)"
        raise TypeError(msg)
    is_flow = isinstance(fn, Flow)
    if is_flow and retry is not None and (retry.retry_on, retry.give_up_on) != ((Exception,), ()):
        msg = f"{where}: any failure repeats the whole flow: give retry_on and give_up_on to its nodes"
        raise ValueError(msg)

    handlers = _read_handlers(where, on_signal)

    def declare(name: str) -> DeclaredNode:
        if is_flow:
            node = build_frame(fn, name=name, retry=retry, timeout=limit)
        else:
            node = DeclaredNode(name=name, kind="function", body=fn, retry=retry).limited(limit)
        node.requires_approval = requires_approval
        for signal, handler in handlers.items():
            node.on_signal[signal] = handler.node()
            node.on_signal[signal].follows = name
        return node

    return Part(name, declare, None if is_flow else fn)


def _read_handlers(where: str, on_signal: Any) -> dict[str, Part]:
    if on_signal is None:
        return {}
    if not isinstance(on_signal, Mapping):
        msg = f"{where}: on_signal={on_signal!r:.100}; give steps by the names of signals, as in {{'cancel': refund}}"
        raise TypeError(msg)
    return {signal: to_part(handler) for signal, handler in on_signal.items()}


def _find_name(name: str | None, fn: Any) -> str:
    """Return the name of a step. Raises `TypeError` unless `fn` is a function or a flow."""
    if isinstance(fn, Part):
        msg = f"{fn!r} is a part already: use it as it is"
        raise TypeError(msg)
    if isinstance(fn, Flow):
        return fn.name if name is None else name
    if inspect.isclass(fn) or not callable(fn):
        what = f"step {name!r}: " if name is not None else ""
        msg = f"{what}{fn!r:.100} is not a step: give a function, a flow, step(…), wait_signal(…) or sleep(…)"
        raise TypeError(msg)
    found = getattr(fn, "__name__", None) if name is None else name
    if found is None:
        msg = f"{fn!r:.100} has no name of its own: write step(name, it)"
        raise TypeError(msg)
    return str(found)


def wait_signal(
    name: str,
    *,
    timeout: Delay | None = None,
    type: Any = None,  # noqa: A002 - a public name
    default: Any | Missing = MISSING,
) -> Part:
    """Make a part that waits for a signal, across restarts if need be. The payload of the signal is its output.

    ```python
    invoice = Workflow("invoice", charge, wait_signal("receipt", type=str, timeout=3600, default="none"))
    await engine.signal("march", "receipt", "no. 7")
    ```

    Args:
        name: The name of the part and of the signal.
        timeout: The longest time to wait; `None` for no limit. Seconds, a `timedelta`, a `datetime` with a zone, or a
            function of the part's input that returns one of these, or `None`. What it returns is stored, and not asked
            again.
        type: The type of the payload. `Engine.signal` refuses a payload that does not match, with `BadSignal`, if the
            engine knows the flow. Sent by another engine, such a payload fails the part.
        default: The output after `timeout`. Without a default the part fails with `SignalTimeout`.

    Raises:
        BadName: The name is not valid.
        TypeError, ValueError: `timeout` is not a valid time, or there is a `default` without a `timeout`.
    """
    limit = read_time(f"wait_signal({name!r:.100})", "timeout", timeout)
    if default is not MISSING and timeout is None:
        msg = f"wait_signal({name!r}): default= is the output after a timeout: give timeout= too"
        raise ValueError(msg)

    def declare(node: str) -> DeclaredNode:
        return DeclaredNode(name=node, kind="wait", signal=name, type=type, default=default).limited(limit)

    return Part(name, declare, None)


def sleep(name: str, seconds: Delay | None = None, *, until: Moment | None = None) -> Part:
    """Make a part that pauses, and returns its input. The time passes even if no engine runs.

    ```python
    sleep("grace", timedelta(days=3))
    sleep("until the visit", until=lambda visit: visit.begins_at)
    ```

    Args:
        name: The name of the part.
        seconds: The length of the pause, from 0 to a hundred years: a number of seconds or a `timedelta`. Also a
            `datetime` with a zone; or a function `(value)` or `(ctx, value)`, sync or async, that returns one of these.
            What it returns is stored, and not asked again.
        until: The end of the pause, in place of `seconds`: a `datetime` with a zone, or a function that returns one. If
            it has passed, the pause ends at once.

    Raises:
        BadName: The name is not valid.
        TypeError, ValueError: The time is not valid, or not exactly one of `seconds` and `until` is given.
    """
    pause = read_pause(f"sleep({name!r:.100})", seconds, until)

    def declare(node: str) -> DeclaredNode:
        return DeclaredNode(name=node, kind="timer", seconds=pause.seconds or 0.0, due=pause.due, decide=pause.decide)

    return Part(name, declare, None)


def to_part(given: Any) -> Part:
    """Return a part unchanged, or make a step from a function or a flow. Raises `TypeError` for anything else."""
    return given if isinstance(given, Part) else _make_step(None, given)
