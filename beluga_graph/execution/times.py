"""Times of an attempt: it calls the function that decides a time, and its step stores the result."""

from __future__ import annotations

from typing import TYPE_CHECKING

from beluga_graph.errors import BadTime
from beluga_graph.execution.calling import call_function
from beluga_graph.kernel.tokens import AFTER, NEVER
from beluga_graph.kernel.types import DecidedTime
from beluga_graph.plan.times import to_decided_time

if TYPE_CHECKING:
    from beluga_graph.execution.attempt import Attempt

__all__ = ["decide_time", "find_limit_ms"]


async def decide_time(attempt: Attempt) -> DecidedTime | None:
    """Call the function that decides a time of the attempt's node; return `None` if there is none.

    A `timeout=` may be `None`: no limit. Raises `BadTime` for any other result that is not a time, and the errors of
    the function.
    """
    time = attempt.binding.time
    if time is None:
        return None
    found = await call_function(attempt, time.body, attempt.decode(attempt.token.value), threads=False)
    if found is None and time.parameter == "timeout":
        return NEVER, 0
    try:
        return to_decided_time(found, time.parameter)
    except (TypeError, ValueError) as error:
        name = getattr(time.body.call, "__name__", "function")
        message = f"{name}(…), the {time.parameter}= of {attempt.token.node!r}, returned {found!r:.100}; {error}"
        raise BadTime("", message) from None


def find_limit_ms(attempt: Attempt, decided: DecidedTime | None) -> int | None:
    """Return how long an attempt that begins now may take: the shortest of its limits, `None` without any."""
    binding, now = attempt.binding, attempt.resources.clock.now_ms()
    limits = [ms for ms in (binding.timeout_ms,) if ms is not None]
    limits += [max(0, due - now) for due in (binding.due_ms,) if due is not None]
    if decided is not None and decided[0] != NEVER:
        limits.append(decided[1] if decided[0] == AFTER else max(0, decided[1] - now))
    return min(limits, default=None)
