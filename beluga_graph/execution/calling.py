"""Calling users' functions: on the loop or in threads, each with its own copy of the context variables."""

from __future__ import annotations

import contextvars
import inspect
from collections.abc import Callable, Coroutine, Generator
from typing import TYPE_CHECKING, Any

from beluga_graph.execution.context import Context
from beluga_graph.plan.plan import Body

if TYPE_CHECKING:
    from beluga_graph.execution.attempt import Attempt

__all__ = ["await_in_own_context", "call_args", "call_function"]


async def await_in_own_context(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Await a coroutine in a copy of the context, so that the variables that it sets are gone when it ends.

    Successive attempts share a task, because a task costs more than a small node. Without the copy they would also
    share context variables, and a resumed run would see different ones than a run that was never stopped.
    """
    run = contextvars.copy_context().run
    try:
        waited = run(coroutine.send, None)
    except StopIteration as stop:  # it never waited, so it needs no wrapper
        return stop.value
    return await _ContextAwaitable(coroutine, run, waited)


def call_args(attempt: Attempt, body: Body, value: Any) -> tuple[Any, ...]:
    args: tuple[Any, ...] = (Context(attempt),) if body.takes_context else ()
    return (*args, value) if body.takes_value else args


async def call_function(attempt: Attempt, body: Body, value: Any, *, threads: bool) -> Any:
    """Call a user's function: async on the loop; sync in a thread if `threads`, else in place."""
    args = call_args(attempt, body, value)
    if body.is_async:
        return await await_in_own_context(body.call(*args))
    call: Callable[..., Any] = body.call
    if threads:
        result = await attempt.in_thread(call, *args)
    else:
        result = contextvars.copy_context().run(call, *args)
    if inspect.iscoroutine(result):
        return await await_in_own_context(result)
    if inspect.isawaitable(result):
        return await result
    return result


class _ContextAwaitable:
    """Awaits the rest of a coroutine that was begun in its own context."""

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
                except BaseException as error:  # noqa: BLE001 - every exception thrown in belongs to the coroutine
                    waited = run(throw, error)
                else:
                    waited = run(send, got)
        except StopIteration as stop:
            return stop.value
