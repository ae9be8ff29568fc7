"""Times as a flow declares them: seconds, a `timedelta`, a point in time, or a function that returns one of these."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, TypeAlias

from beluga_graph.kernel.tokens import AFTER, AT
from beluga_graph.kernel.types import DecidedTime
from beluga_graph.policy import SECONDS_MAX

__all__ = [
    "NO_TIME",
    "YEAR_MAX",
    "DeclaredTime",
    "Delay",
    "Moment",
    "TimeFunction",
    "read_pause",
    "read_time",
    "to_decided_time",
    "to_due_ms",
]

Delay: TypeAlias = float | timedelta | datetime | Callable[..., Any]
"""A length of time, a point in time, or a function `(value)` or `(ctx, value)` that returns one of these."""

Moment: TypeAlias = datetime | Callable[..., Any]
"""A point in time, or a function `(value)` or `(ctx, value)` that returns one."""

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
YEAR_MAX: Final = 2200
"""The last year of the points in time that a flow or a schedule may name."""
_MS: Final = timedelta(milliseconds=1)


@dataclass(frozen=True, slots=True)
class TimeFunction:
    """A function that decides a time, and the parameter that it was given as: `seconds`, `until` or `timeout`."""

    call: Callable[..., Any]
    parameter: str


@dataclass(frozen=True, slots=True)
class DeclaredTime:
    """A time as declared: at most one of its fields is set."""

    seconds: float | None = None
    due: datetime | None = None
    decide: TimeFunction | None = None


NO_TIME: Final = DeclaredTime()


def read_time(where: str, parameter: str, given: Delay | None) -> DeclaredTime:
    """Return a time as declared; `None` is no time.

    Raises `TypeError` or `ValueError` for a constant that is not a valid time. `where` names the node or flow.
    """
    if given is None:
        return NO_TIME
    if callable(given) and not isinstance(given, type):
        return DeclaredTime(decide=TimeFunction(given, parameter))
    try:
        to_decided_time(given, parameter)
    except (TypeError, ValueError) as error:
        msg = f"{where}: {parameter}={given!r:.100}; {error}"
        raise type(error)(msg) from None
    if isinstance(given, datetime):
        return DeclaredTime(due=given)
    return DeclaredTime(seconds=given.total_seconds() if isinstance(given, timedelta) else given)  # type: ignore[arg-type]  # neither a function nor a class


def read_pause(where: str, seconds: Delay | None, until: Moment | None) -> DeclaredTime:
    """Return the time of a pause, given by its length or by its end.

    Raises `TypeError` or `ValueError` as `read_time` does, and `TypeError` unless exactly one of them is given.
    """
    if (seconds is None) == (until is None):
        msg = f"{where}: seconds={seconds!r:.100}, until={until!r:.100}; give one of them"
        raise TypeError(msg)
    return read_time(where, "until", until) if seconds is None else read_time(where, "seconds", seconds)


def to_decided_time(value: Any, parameter: str) -> DecidedTime:
    """Return a value as the time that it means for a parameter.

    Raises `TypeError` or `ValueError` with the rule that the value breaks.
    """
    if isinstance(value, datetime):
        return AT, to_due_ms(value)
    if parameter == "until":
        raise TypeError("give a datetime with a zone, such as datetime(2030, 1, 31, 9, tzinfo=UTC)")
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("give a number of seconds, a timedelta, or a datetime with a zone")
    if not 0 <= value <= SECONDS_MAX:
        raise ValueError("seconds are >= 0, and at most a hundred years")
    return AFTER, round(value * 1000)


def to_due_ms(point: datetime) -> int:
    """Return a point in time in milliseconds since the epoch, rounded up; a time before the epoch is the epoch.

    Raises `ValueError` for a datetime without a zone, or after the year 2200.
    """
    if point.utcoffset() is None:
        raise ValueError("a datetime needs a zone: tzinfo=UTC, or ZoneInfo(…)")
    if point.year > YEAR_MAX:
        raise ValueError(f"a point in time is at most in the year {YEAR_MAX}")
    return max(0, -((_EPOCH - point) // _MS))
