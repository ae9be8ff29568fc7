"""The executor makes one attempt of one node. It never raises an error of user code: a failure is data.

All user code runs here: bodies, choosers, items of a fan-out, reducers, validation of payloads. Its decisions are
stored with the trigger and never asked for again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
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
from beluga_graph.execution.approval import Answer
from beluga_graph.execution.attempt import Attempt, TimeLimit
from beluga_graph.execution.calling import await_in_own_context, call_args, call_function
from beluga_graph.execution.result import AttemptResult, NewItems
from beluga_graph.execution.times import decide_time, find_limit_ms
from beluga_graph.kernel.join_rule import joined_results
from beluga_graph.kernel.rules import RETRY_AFTER_MS_MAX
from beluga_graph.kernel.shape import CHOICE, FAN_OUT, JOIN, WAIT_NODE
from beluga_graph.kernel.structural_names import branch_place
from beluga_graph.kernel.times import is_undecided
from beluga_graph.kernel.triggers import NodeFailed, NodeFinished
from beluga_graph.kernel.types import DecidedTime, Value

__all__ = ["run_attempt"]

_LIMITED_BY_TIMERS = (WAIT_NODE, JOIN, FAN_OUT, CHOICE)  # their time limits are timers of the run

_PERMANENT = (
    BadTopic,
    ToolError,
    SnapshotError,
    UnknownRoute,
    StateConflict,
    StateError,
    LimitReached,
    Rejected,
)  # errors that another attempt would repeat


async def run_attempt(attempt: Attempt) -> AttemptResult:
    """Make the attempt and return its result. Raises only when the engine stops: its own cancellation."""
    node, binding = attempt.plan.shape.nodes[attempt.token.node], attempt.binding
    try:
        if binding.time is not None and is_undecided(node, attempt.token):
            return _finish(attempt, (attempt.token.value,), None, time=await _decide_time(attempt))
        has_limit = binding.timeout_ms is not None or binding.due_ms is not None or binding.time is not None
        if not has_limit or node.kind in _LIMITED_BY_TIMERS:
            return await _perform(attempt, node.kind)
        return await _perform_in_time(attempt, node.kind)
    except asyncio.CancelledError as error:
        task = asyncio.current_task()
        if task is not None and task.cancelling():
            raise
        return _fail(attempt, error, routing=False)
    except (KeyboardInterrupt, SystemExit, GeneratorExit):
        raise
    except _RoutingFailed as wrapped:
        return _fail(attempt, wrapped.error, routing=True)
    except BaseException as error:  # noqa: BLE001 - user code may raise anything, and it is recorded
        return _fail(attempt, error, routing=False)


class _RoutingFailed(Exception):
    """A chooser, the items of a fan-out or a time raised an error: the attempt is never repeated."""

    def __init__(self, error: BaseException) -> None:
        self.error = error


async def _decide_time(attempt: Attempt) -> DecidedTime | None:
    try:
        return await decide_time(attempt)
    except Exception as error:
        raise _RoutingFailed(error) from error


async def _perform_in_time(attempt: Attempt, kind: str) -> AttemptResult:
    """Make the attempt within its time limit."""
    timeout_ms = find_limit_ms(attempt, await _decide_time(attempt))
    if timeout_ms is None:  # a function decided that
        return await _perform(attempt, kind)
    task = asyncio.current_task()
    assert task is not None
    expired = False

    def expire() -> None:
        nonlocal expired
        expired = True
        task.cancel()

    before = task.cancelling()
    attempt.time_limit = TimeLimit(attempt.resources.clock, timeout_ms, expire)
    attempt.time_limit.start()
    try:
        return await _perform(attempt, kind)
    except asyncio.CancelledError as error:
        if not expired:
            raise
        expired = False
        if task.uncancel() > before:  # another task has cancelled this one, too
            raise
        message = f"attempt {attempt.token.attempt} took longer than {timeout_ms / 1000:g} s"
        raise Timeout("", message) from error
    finally:
        attempt.time_limit.stop()
        if expired:  # the body ended despite the cancellation
            task.uncancel()


async def _perform(attempt: Attempt, kind: str) -> AttemptResult:
    binding, token = attempt.binding, attempt.token
    if kind == FAN_OUT:
        return await _fan_out(attempt)
    if kind == CHOICE:
        time = await _decide_time(attempt)  # of the flow that begins with this node
        route = None if binding.choose is None else await _choose_route(attempt, attempt.decode(token.value))
        return _finish(attempt, (token.value,), route, time=time)
    if kind == JOIN:
        given = _gather(attempt)
    elif kind == WAIT_NODE and binding.revise is not None:
        return _finish(attempt, (_resolve_answer(attempt),), None)
    elif kind == WAIT_NODE:
        return _finish(attempt, (attempt.store_value(_validate_payload(attempt)),), None)
    else:
        given = attempt.decode(token.value)
    body = binding.body
    if body is None:
        output = given
    elif body.is_async:
        output = await await_in_own_context(body.call(*call_args(attempt, body, given)))
    else:
        output = await call_function(attempt, body, given, threads=True)
    stored = attempt.store_value(output)
    route = None if binding.choose is None else await _choose_route(attempt, output)
    return _finish(attempt, (stored,), route)


def _finish(
    attempt: Attempt,
    values: tuple[Value, ...],
    route: Any,
    branches: tuple[tuple[int, int], ...] = (),
    time: DecidedTime | None = None,
) -> AttemptResult:
    sets: tuple[tuple[str, int], ...] = ()
    appends: tuple[tuple[str, int], ...] = ()
    items: tuple[NewItems, ...] = ()
    if attempt.touched_state is not None:
        changes = attempt.touched_state.changes(attempt.store_encoded, first=len(values))
        values = (*values, *changes.values)
        sets, appends = changes.sets, changes.appends
        items = tuple([NewItems(attempt.token.place, field, new) for field, new in changes.items])
    events = tuple(attempt.events)
    if attempt.event_values:
        first = len(values)
        values = (*values, *attempt.event_values)
        events = tuple((*event[:4], None if event[4] is None else first + event[4]) for event in events)
    trigger = NodeFinished(
        attempt.token.name,
        attempt.token.attempt,
        attempt.resources.clock.now_ms(),
        values,
        route,
        branches,
        sets,
        appends,
        events,
        "".join(attempt.texts) if attempt.texts else "",
        tuple(attempt.usage.items()),
        attempt.reason,
        time,
    )
    return AttemptResult(trigger, tuple(attempt.blobs), items, messages=tuple(attempt.messages))


def _fail(attempt: Attempt, error: BaseException, *, routing: bool) -> AttemptResult:
    retry = attempt.binding.retry
    again = retry is not None and not routing and not isinstance(error, _PERMANENT) and retry.allows(error)
    if isinstance(error, ModelError):
        again = again and error.retryable
    given = None
    if attempt.plan.shape.nodes[attempt.token.node].kind == JOIN:
        given = _join_input(attempt)
    trigger = NodeFailed(
        attempt.token.name,
        attempt.token.attempt,
        attempt.resources.clock.now_ms(),
        type(error).__name__,
        _message_of(error),
        again,
        _retry_after_ms(error),
        given,
        final=isinstance(error, Rejected),
    )
    return AttemptResult(trigger, tuple(attempt.blobs), error=error)


def _retry_after_ms(error: BaseException) -> int | None:
    """Return the pause that an exception asks for, in milliseconds, if its `retry_after` is a number of seconds."""
    try:
        asked = round(float(getattr(error, "retry_after", None)) * 1000)  # type: ignore[arg-type]  # may be anything
        return min(max(0, asked), RETRY_AFTER_MS_MAX)  # a number that every form of a record can hold
    except Exception:  # noqa: BLE001 - users' exceptions may hold anything
        return None


def _message_of(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as second:  # noqa: BLE001 - an exception whose __str__ fails is still a failure to record
        return f"<{type(error).__name__} whose __str__ raises {type(second).__name__}>"


# The kinds of node.


async def _fan_out(attempt: Attempt) -> AttemptResult:
    over = attempt.binding.over
    value = attempt.token.value
    time = await _decide_time(attempt)  # of the join
    if over is None:
        return _finish(attempt, (value,), None, tuple((target, 0) for target in range(attempt.binding.targets)), time)
    try:
        found: Iterable[Any] = await call_function(attempt, over, attempt.decode(value), threads=False)
        allowed = attempt.limit("max_width")
        items = list(islice(found, allowed + 1))  # one more than the limit shows that it is passed
    except Exception as error:
        raise _RoutingFailed(error) from error
    if len(items) > allowed:
        message = f"fan-out {attempt.token.node!r} has more branches than max_width {allowed}"
        raise LimitReached("", message)
    if attempt.binding.routed:
        routed = tuple(_store_item(attempt, index, item) for index, (_, item) in enumerate(items))
        return _finish(attempt, routed, None, tuple((target, index) for index, (target, _) in enumerate(items)), time)
    values = tuple(_store_item(attempt, index, item) for index, item in enumerate(items))
    return _finish(attempt, values, None, tuple((0, index) for index in range(len(values))), time)


def _store_item(attempt: Attempt, index: int, item: Any) -> Value:
    try:
        return attempt.store_value(item)
    except NotData as error:
        raise NotData(f"[{index}]{error.path}", error.type_name, error.shown, error.reason) from None


def _join_results(attempt: Attempt) -> list[Any]:
    """Return the decoded results that count for a join, in branch order. A `Failure` names its branch and item."""
    place = attempt.run.places.get(attempt.token.place)
    if place is None or place.opened is None:
        return []  # the join was dropped meanwhile: the result of this late attempt is ignored
    scope = attempt.run.scopes[place.opened]
    joined = joined_results(attempt.plan.shape.nodes[attempt.token.node], scope)
    return [_branch_result(attempt, place.opened, branch, joined[branch]) for branch in sorted(joined)]


def _branch_result(attempt: Attempt, scope: str, branch: int, value: Value) -> Any:
    result = attempt.decode(value)
    if isinstance(value, bytes):
        return result
    item = attempt.run.places[branch_place(scope, branch)].item
    return replace(result, branch=branch, item=None if item is None else attempt.decode(item))


def _gather(attempt: Attempt) -> list[Any]:
    """Fold the state updates of the branches and return their results."""
    opened = attempt.run.places[attempt.token.place].opened
    assert opened is not None
    succeeded = sorted(attempt.run.scopes[opened].results)
    places = [(i, branch_place(opened, i)) for i in succeeded]
    layers = [(i, name, attempt.run.places[name]) for i, name in places]
    if any(layer.fields or layer.lengths for _, _, layer in layers):
        attempt.state.fold(layers)
    return _join_results(attempt)


def _join_input(attempt: Attempt) -> Value | None:
    try:
        return attempt.store_value(_join_results(attempt))
    except SnapshotError:  # the inputs may be too large together; then the failure is recorded without them
        return None


def _validate_payload(attempt: Attempt) -> Any:
    from pydantic import TypeAdapter  # noqa: PLC0415 - only checked waits need it

    return TypeAdapter(attempt.binding.payload_type).validate_python(attempt.decode(attempt.token.value))


def _resolve_answer(attempt: Attempt) -> Value:
    """Return the value that the answer to a question passes on: the original one, or its replacement.

    Raises `Rejected`, `BadSignal`, and the error of a replacement that does not fit.
    """
    token, revise = attempt.token, attempt.binding.revise
    assert token.answer is not None
    assert revise is not None
    answer = Answer.from_payload(attempt.decode(token.answer))
    if answer.decision == "reject":
        raise Rejected("", answer.reason or "no reason was given")
    if answer.decision == "approve":
        return token.value
    return attempt.store_value(revise(attempt.decode(token.value), answer.value))


async def _choose_route(attempt: Attempt, output: Any) -> Any:
    binding = attempt.binding
    assert binding.choose is not None
    try:
        route = await call_function(attempt, binding.choose, output, threads=False)
    except Exception as error:
        raise _RoutingFailed(error) from error
    if not isinstance(route, str | int) or (type(route), route) not in binding.routes:
        known = ", ".join(sorted(repr(name) for _, name in binding.routes))
        message = f"node {attempt.token.node!r} chose the route {route!r}, which its branch does not have: {known}"
        raise UnknownRoute("", message)
    return route
