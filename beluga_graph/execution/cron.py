"""Cron expressions: the moments that five fields name in a time zone.

The fields are minute, hour, day of the month, month and day of the week, read by `cronsim` with the rules of Debian's
cron. If both day fields are restricted, a day that fits one of them counts.

An expression follows the wall clock of its zone. Where that clock is set forward or back, it matters whether the
expression names times of the day, or repeats: it repeats if its minute field or its hour field begins with `*`.

* A time of the day that a day skips is due once, at the first moment after the gap. One that a day has twice is due
  once, the first time.
* An expression that repeats is due at each moment whose wall clock fits. So `*/30 * * * *` goes on every half hour.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime, time, timedelta, tzinfo
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cronsim import CronSim

__all__ = ["Cron", "load_zone"]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
EXTRA = "pip install 'beluga-graph[schedule]'"
EXPRESSION_LENGTH_MAX = 200
_FIELDS = ("minute", "hour", "day of the month", "month", "day of the week")
_DAYS_MAX = 50 * 366  # an expression without a moment in fifty years has none
_MILLISECOND = timedelta(milliseconds=1)
_SECOND = timedelta(seconds=1)
_DAYS_KEPT = 4  # whose moments are kept: a search reads three


class Cron:
    """The moments that an expression names in a time zone, in milliseconds since the epoch.

    Raises `ValueError` for an expression that is wrong, and `ImportError` without the extra `schedule`.
    """

    def __init__(self, expression: str, zone: tzinfo) -> None:
        self._fields = _parse(expression)
        minute, hour, *_ = expression.split()
        self._repeats = minute.startswith("*") or hour.startswith("*")
        self._zone = zone
        self._times = [time(h, m) for h in sorted(self._fields.hours) for m in sorted(self._fields.minutes)]
        self._moments_of = lru_cache(maxsize=_DAYS_KEPT)(self._list_moments)

    def find_next(self, at_ms: int) -> int | None:
        """Return the first moment after a time; `None` if there is none in the next fifty years."""
        first = self._day_of(at_ms) - 1  # a clock that is set back over midnight returns to the day before
        days = range(first, min(first + _DAYS_MAX, date.max.toordinal()))
        for day in self._fitting(days):
            after = [found for found in (_first_after(self._moments_of(d), at_ms) for d in (day, day + 1)) if found]
            if after:
                return min(after)
        return None

    def find_latest(self, at_ms: int) -> int | None:
        """Return the last moment up to a time; `None` if there is none in the fifty years before."""
        last = self._day_of(at_ms) + 1
        days = range(last, max(last - _DAYS_MAX, EPOCH.toordinal() - 1), -1)
        for day in self._fitting(days):
            before = [found for found in (_last_up_to(self._moments_of(d), at_ms) for d in (day, day - 1)) if found]
            if before:
                return max(before)
        return None

    def _day_of(self, at_ms: int) -> int:
        return (EPOCH + at_ms * _MILLISECOND).astimezone(self._zone).toordinal()

    def _fitting(self, days: Iterable[int]) -> Iterator[int]:
        return (day for day in days if self._fits(day))

    def _fits(self, day: int) -> bool:
        at = date.fromordinal(day)
        return at.month in self._fields.months and self._fields.match_day(at)

    def _list_moments(self, day: int) -> list[int]:
        """Return the moments of a day of the zone, in order."""
        if not self._fits(day):
            return []
        at = date.fromordinal(day)
        found: set[datetime] = set()
        for clock_time in self._times:
            local = datetime.combine(at, clock_time)
            moments = _moments_of_clock(local, self._zone)
            if self._repeats:
                found.update(moments)
            else:
                found.add(moments[0] if moments else _end_of_gap(local, self._zone))
        return sorted((moment - EPOCH) // _MILLISECOND for moment in found)


def load_zone(name: str) -> tzinfo:
    """Return a time zone by its name. Raises `ValueError` for an unknown one, and `ImportError` without a database."""
    if name == "UTC":
        return UTC  # it needs no database
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415 - only schedules need zones

    try:
        return ZoneInfo(name)
    except (KeyError, ValueError, OSError, TypeError, AttributeError):
        if not available_timezones():
            raise ImportError(f"time zone {name!r} needs a database, which this system lacks: {EXTRA}") from None
        msg = f"timezone={name!r:.100}: there is no such time zone; name one of the IANA database, as 'Europe/Berlin'"
        raise ValueError(msg) from None


def _parse(expression: str) -> CronSim:
    try:
        from cronsim import CronSim, CronSimError  # noqa: PLC0415 - of the extra `schedule`
    except ImportError as error:
        raise ImportError(f"cron={expression!r:.80} needs the package cronsim: {EXTRA}") from error
    parts = expression.split()
    if len(parts) != len(_FIELDS) or len(expression) > EXPRESSION_LENGTH_MAX:
        msg = f"cron={expression!r:.100}: give five fields: {', '.join(_FIELDS)}, as in '0 9 * * MON-FRI'"
        raise ValueError(msg)
    for at, (field, part) in enumerate(zip(_FIELDS, parts, strict=True)):
        alone = " ".join(part if other == at else "*" for other in range(len(_FIELDS)))
        try:
            CronSim(alone, EPOCH)
        except (CronSimError, ValueError, AssertionError):
            msg = f"cron={expression!r:.100}: the {field} {part!r:.50} is wrong; use numbers, names, and * , - / L #"
            raise ValueError(msg) from None
    try:
        return CronSim(expression, EPOCH)
    except CronSimError:  # no month that it names has such a day
        raise ValueError(never_due(expression)) from None


def never_due(expression: str) -> str:
    """Return the text of the error for an expression without a moment."""
    return f"cron={expression!r:.100} is never due: no day has this date; correct the day of the month or the month"


def _moments_of_clock(local: datetime, zone: tzinfo) -> list[datetime]:
    """Return the moments at which the wall clock of a zone shows a time: none, one or two, in order."""
    found = []
    for fold in (0, 1):
        moment = local.replace(tzinfo=zone, fold=fold).astimezone(UTC)
        if moment.astimezone(zone).replace(tzinfo=None) == local and moment not in found:
            found.append(moment)
    return found


def _end_of_gap(local: datetime, zone: tzinfo) -> datetime:
    """Return the first moment after the gap in which a time of the wall clock is."""
    before = local.replace(tzinfo=zone, fold=1).astimezone(
        UTC
    )  # of a time in a gap, the fold means the offset after it
    after = local.replace(tzinfo=zone, fold=0).astimezone(UTC)
    offset = after.astimezone(zone).utcoffset()
    while after - before > _SECOND:
        middle = before + (after - before) // 2 // _SECOND * _SECOND
        if middle.astimezone(zone).utcoffset() == offset:
            after = middle
        else:
            before = middle
    return after


def _first_after(moments: list[int], at_ms: int) -> int | None:
    index = bisect_right(moments, at_ms)
    return moments[index] if index < len(moments) else None


def _last_up_to(moments: list[int], at_ms: int) -> int | None:
    index = bisect_left(moments, at_ms + 1)
    return moments[index - 1] if index else None
