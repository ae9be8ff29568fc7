"""The executor makes one attempt of one node. It never raises for what user code does: a failure is data.

All user code runs here: bodies, choosers, items of a fan-out, reducers, validation of payloads. What it
decided travels in the trigger, is on record with it, and is never asked again.
"""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Callable, Coroutine, Generator, Iterable
from dataclasses import replace
from itertools import islice
from typing import Any

from beluga_graph.codec.errors import NotData, SnapshotError
from beluga_graph.errors import (
    BadTopic,
    LimitReached,
    ModelError,
    Rejected,
    StateConflict,
    StateError,
    Timeout,
    ToolError,
    UnknownRoute,
)
from beluga_graph.execution.approval import value_to_go_on_with
from beluga_graph.execution.attempt import Attempt, TimeLimit
from beluga_graph.execution.context import Context
from beluga_graph.execution.result import AttemptResult, NewItems
from beluga_graph.kernel.shape import CHOICE, FAN_OUT, JOIN, WAIT
from beluga_graph.kernel.triggers import NodeFailed, NodeFinished
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Body

__all__ = ["run_attempt"]

_NEVER_AGAIN = (
    BadTopic,
    ToolError,
    SnapshotError,
    UnknownRoute,
    StateConflict,
    StateError,
    LimitReached,
    Rejected,
)  # no attempt will mend these


async def run_attempt(attempt: Attempt) -> AttemptResult:
    """Make the attempt and return how it ended. Raises only what stops the engine: its own cancellation."""
    kind = attempt.plan.shape.nodes[attempt.token.node].kind
    try:
        if attempt.binding.timeout_ms is None or kind in (WAIT, JOIN):  # theirs are timers of the run
            return await _made(attempt, kind)
        return await _bounded(attempt, kind, attempt.binding.timeout_ms)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _failed(attempt, error, chosen=False)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except _Decided as wrapped:
        return _failed(attempt, wrapped.error, chosen=True)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, and it is recorded
        return _failed(attempt, error, chosen=False)


class _Decided(Exception):
    """A chooser, filter or the like raised: it is never tried again."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _bounded(attempt: Attempt, kind: str, timeout_ms: int) -> AttemptResult:
    """Make the attempt within its time."""
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    before = task.cancelling()
    attempt.time_limit = TimeLimit(attempt.hands.clock, timeout_ms, expire)
    attempt.time_limit.start()
    try:
        return await _made(attempt, kind)
    except asyncio.CancelledError as error:
        if not expired:
            raise
        expired = False
        if task.uncancel() > before:  # somebody else wants the task to end, too
            raise
        message = f"attempt {attempt.token.attempt} took longer than {timeout_ms / 1000:g} s"
        raise Timeout("", message) from error
    finally:
        attempt.time_limit.stop()
        if expired:  # the body ended in spite of it
            task.uncancel()


async def _made(attempt: Attempt, kind: str) -> AttemptResult:
    binding, token = attempt.binding, attempt.token
    if kind == FAN_OUT:
        return await _fanned_out(attempt)
    if kind == CHOICE:
        route = await _chosen(attempt, attempt.decode(token.value))
        return _finished(attempt, (token.value,), route)
    if kind == JOIN:
        given = _gathered(attempt)
    elif kind == WAIT and binding.revise is not None:
        return _finished(attempt, (value_to_go_on_with(attempt),), None)
    elif kind == WAIT:
        return _finished(attempt, (attempt.keep(_payload(attempt)),), None)
    else:
        given = attempt.decode(token.value)
    body = binding.body
    if body is None:
        output = given
    elif body.is_async:
        output = await _alone(body.call(*_args(attempt, body, given)))
    else:
        output = await _called(attempt, body, given, threads=True)
    kept = attempt.keep(output)
    route = None if binding.choose is None else await _chosen(attempt, output)
    return _finished(attempt, (kept,), route)


def _finished(
    attempt: Attempt,
    values: tuple[Value, ...],
    route: Any,
    branches: tuple[tuple[int, int], ...] = (),
) -> AttemptResult:
    sets: tuple[tuple[str, int], ...] = ()
    appends: tuple[tuple[str, int], ...] = ()
    items: tuple[NewItems, ...] = ()
    if attempt.touched_state is not None:
        changes = attempt.touched_state.changes(attempt.keep_encoded, first=len(values))
        values = (*values, *changes.values)
        sets, appends = changes.sets, changes.appends
        items = tuple([NewItems(attempt.token.place, field, new) for field, new in changes.items])
    events = tuple(attempt.events)
    if attempt.shown:
        first = len(values)
        values = (*values, *attempt.shown)
        events = tuple((*event[:4], None if event[4] is None else first + event[4]) for event in events)
    trigger = NodeFinished(
        attempt.token.name,
        attempt.token.attempt,
        attempt.hands.clock.now_ms(),
        values,
        route,
        branches,
        sets,
        appends,
        events,
        "".join(attempt.texts) if attempt.texts else "",
        tuple(attempt.usage.items()),
        attempt.reason,
    )
    return AttemptResult(trigger, tuple(attempt.blobs), items, messages=tuple(attempt.messages))


def _failed(attempt: Attempt, error: BaseException, *, chosen: bool) -> AttemptResult:
    retry = attempt.binding.retry
    again = retry is not None and not chosen and not isinstance(error, _NEVER_AGAIN) and retry.allows(error)
    if isinstance(error, ModelError):
        again = again and error.retryable
    given = None
    if attempt.plan.shape.nodes[attempt.token.node].kind == JOIN:
        given = _join_input(attempt)
    trigger = NodeFailed(
        attempt.token.name,
        attempt.token.attempt,
        attempt.hands.clock.now_ms(),
        type(error).__name__,
        _text_of(error),
        again,
        _asked_ms(error),
        given,
        final=isinstance(error, Rejected),
    )
    return AttemptResult(trigger, tuple(attempt.blobs), error=error)


def _asked_ms(error: BaseException) -> int | None:
    """Return the pause that an exception asks for in its `retry_after` seconds, if that is a number."""
    try:
        return round(float(getattr(error, "retry_after", None)) * 1000)  # type: ignore[arg-type]  # may be anything
    except Exception:  # noqa: BLE001 - users' exceptions hold what they like
        return None


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - an exception whose __str__ fails is still a failure to record
        return f"<{type(error).__name__} whose text cannot be had: {type(second).__name__}>"


# The kinds of node.


async def _fanned_out(attempt: Attempt) -> AttemptResult:
    over = attempt.binding.over
    value = attempt.token.value
    if over is None:
        return _finished(attempt, (value,), None, tuple((target, 0) for target in range(attempt.binding.targets)))
    try:
        found: Iterable[Any] = await _called(attempt, over, attempt.decode(value), threads=False)
        allowed = attempt.limit("max_width")
        items = list(islice(found, allowed + 1))  # no more than it takes to know
    except Exception as error:
        raise _Decided(error) from error
    if len(items) > allowed:
        message = f"fan-out {attempt.token.node!r} has more branches than max_width {allowed}"
        raise LimitReached("", message)
    if attempt.binding.routed:
        routed = tuple(_kept_item(attempt, index, item) for index, (_, item) in enumerate(items))
        return _finished(attempt, routed, None, tuple((target, index) for index, (target, _) in enumerate(items)))
    values = tuple(_kept_item(attempt, index, item) for index, item in enumerate(items))
    return _finished(attempt, values, None, tuple((0, index) for index in range(len(values))))


def _kept_item(attempt: Attempt, index: int, item: Any) -> Value:
    try:
        return attempt.keep(item)
    except NotData as error:
        raise NotData(f"[{index}]{error.path}", error.type_name, error.shown, error.reason) from None


def _arrived(attempt: Attempt) -> list[Any]:
    """Return the results that count for a join, decoded, in branch order; a `Failure` tells its branch and item."""
    place = attempt.run.places.get(attempt.token.place)
    if place is None or place.opened is None:
        return []  # the join was dropped meanwhile: the attempt is too late, whatever comes of it
    scope = attempt.run.scopes[place.opened]
    collect = attempt.plan.shape.nodes[attempt.token.node].collect
    counted = {**scope.failures, **scope.results} if collect else scope.results
    return [_result(attempt, place.opened, branch, counted[branch]) for branch in sorted(counted)]


def _result(attempt: Attempt, scope: str, branch: int, value: Value) -> Any:
    result = attempt.decode(value)
    if isinstance(value, bytes):
        return result
    item = attempt.run.places[f"{scope}[{branch}]/"].item
    return replace(result, branch=branch, item=None if item is None else attempt.decode(item))


def _gathered(attempt: Attempt) -> list[Any]:
    """Fold the branches' state updates and return their results."""
    opened = attempt.run.places[attempt.token.place].opened
    assert opened is not None
    succeeded = sorted(attempt.run.scopes[opened].results)
    places = [(i, f"{opened}[{i}]/") for i in succeeded]
    layers = [(i, name, attempt.run.places[name]) for i, name in places]
    if any(layer.fields or layer.lengths for _, _, layer in layers):
        attempt.state.fold(layers)
    return _arrived(attempt)


def _join_input(attempt: Attempt) -> Value | None:
    try:
        return attempt.keep(_arrived(attempt))
    except SnapshotError:  # a join's inputs may be too large together; the failure is recorded without them
        return None


def _payload(attempt: Attempt) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415 - only checked waits need it

    return TypeAdapter(attempt.binding.payload_type).validate_python(attempt.decode(attempt.token.value))


async def _chosen(attempt: Attempt, output: Any) -> Any:
    binding = attempt.binding
    assert binding.choose is not None
    try:
        route = await _called(attempt, binding.choose, output, threads=False)
    except Exception as error:
        raise _Decided(error) from error
    if not isinstance(route, str | int) or (type(route), route) not in binding.routes:
        known = ", ".join(sorted(repr(name) for _, name in binding.routes))
        message = f"node {attempt.token.node!r} chose the route {route!r}, which its branch does not have: {known}"
        raise UnknownRoute("", message)
    return route


# Calling.


async def _alone(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine in a copy of the context, so that variables it sets end with it.

    Attempts that follow each other share a task, for a task costs more than a small node; without this they
    would also share context variables, and a resumed run would see others than a run that was never stopped.
    """
    run = contextvars.copy_context().run
    try:
        waited = run(coroutine.send, None)
    except StopIteration as stop:  # it never had to wait, and needs no wrapper
        return stop.value
    return await _Rest(coroutine, run, waited)


def _args(attempt: Attempt, body: Body, value: Any) -> tuple[Any, ...]:
    args: tuple[Any, ...] = (Context(attempt),) if body.takes_context else ()
    return (*args, value) if body.takes_value else args


async def _called(attempt: Attempt, body: Body, value: Any, *, threads: bool) -> Any:
    """Call a user's function: async on the loop, sync in a thread if it is a node's, choosers in place."""
    args = _args(attempt, body, value)
    if body.is_async:
        return await _alone(body.call(*args))
    call: Callable[..., Any] = body.call
    if threads:
        result = await attempt.in_thread(call, *args)
    else:
        result = contextvars.copy_context().run(call, *args)
    if inspect.iscoroutine(result):
        return await _alone(result)
    if inspect.isawaitable(result):
        return await result
    return result


class _Rest:
    """Awaits what is left of a coroutine that was begun in a context of its own."""

    __slots__ = ("_coroutine", "_run", "_waited")

    def __init__(self, coroutine: Coroutine[Any, Any, Any], run: Callable[..., Any], waited: Any) -> None:
        self._coroutine, self._run, self._waited = coroutine, run, waited

    def __await__(self) -> Generator[Any, Any, Any]:
        run, waited = self._run, self._waited
        send, throw = self._coroutine.send, self._coroutine.throw
        try:
            while True:
                try:
                    got = yield waited
                except BaseException as error:  # noqa: BLE001 - whatever is thrown in belongs to the coroutine
                    waited = run(throw, error)
                else:
                    waited = run(send, got)
        except StopIteration as stop:
            return stop.value
