"""The rule of a schedule: the points in time at which its runs are due, and the ids of those runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from functools import cached_property
from typing import Any, Literal, TypeAlias, get_args
from zlib import crc32

from beluga_graph.execution.cron import EPOCH, Cron, load_zone, never_due
from beluga_graph.kernel.names import is_name
from beluga_graph.plan.times import YEAR_MAX
from beluga_graph.policy import SECONDS_MAX

__all__ = [
    "CatchUp",
    "Overlap",
    "ScheduleRule",
    "check_options",
    "check_schedule_name",
    "jitter_delay_ms",
    "make_rule",
    "run_id_at",
]

Overlap: TypeAlias = Literal["skip", "queue", "allow"]
"""The rule for a due time that comes while the previous run of the schedule has not ended."""
CatchUp: TypeAlias = Literal["last", "all", "none"]
"""Which of the due times that were missed are made up for."""

NAME_LENGTH_MAX = 160  # the id of a run has 200 characters, and ends with the time
_SECOND_MS = 1_000
_CRC_END = 1 << 32


@dataclass(frozen=True, kw_only=True)
class ScheduleRule:
    """The rule by which a schedule is due, as plain data. Times are milliseconds since the epoch."""

    cron: str | None
    """A cron expression, or `None` for a rule of an interval."""
    every_ms: int | None
    """The interval, or `None` for a cron expression."""
    timezone: str
    """The zone whose wall clock a cron expression follows, and in which due times are written."""
    start_ms: int | None
    """The time that was given as `start=`: nothing is due before it, and an interval counts from it."""
    given_ms: int
    """The time at which the rule was set, in whole seconds: an interval without a start counts from it."""

    def is_same(self, other: ScheduleRule) -> bool:
        """Return whether another rule has the same arguments, whenever it was set."""
        mine, others = ((rule.cron, rule.every_ms, rule.timezone, rule.start_ms) for rule in (self, other))
        return mine == others

    def find_next(self, at_ms: int) -> int | None:
        """Return the first due time after a time; `None` if there is none in the next fifty years.

        Raises `ImportError` if the rule needs the extra `schedule`, and `ValueError` if its zone is unknown here.
        """
        if self.start_ms is not None:
            at_ms = max(at_ms, self.start_ms - 1)
        if self.every_ms is None:
            return self._moments.find_next(at_ms)
        base, first = self._count_from
        return base + max(first, (at_ms - base) // self.every_ms + 1) * self.every_ms

    def find_latest(self, at_ms: int) -> int | None:
        """Return the last due time up to a time; `None` if there is none. Raises as `find_next` does."""
        if self.every_ms is None:
            found = self._moments.find_latest(at_ms)
            return None if found is None or found < (self.start_ms or 0) else found
        base, first = self._count_from
        count = (at_ms - base) // self.every_ms
        return base + count * self.every_ms if count >= first else None

    def show(self, at_ms: int) -> str:
        """Return a time in ISO 8601 with the offset of the zone, such as `2026-11-30T09:00:00+01:00`."""
        at = (EPOCH + timedelta(milliseconds=at_ms)).astimezone(self.zone)
        return at.isoformat(timespec="milliseconds" if at_ms % _SECOND_MS else "seconds")

    @property
    def _count_from(self) -> tuple[int, int]:
        """The time from which an interval counts, and the number of the first interval after which it is due."""
        return (self.given_ms, 1) if self.start_ms is None else (self.start_ms, 0)

    @cached_property
    def zone(self) -> tzinfo:
        """The zone. Raises `ValueError` if it is unknown here, `ImportError` without a database of zones."""
        return load_zone(self.timezone)

    @cached_property
    def _moments(self) -> Cron:
        assert self.cron is not None
        return Cron(self.cron, self.zone)


def make_rule(
    *, cron: str | None, timezone: str, every: float | timedelta | None, start: datetime | None, now_ms: int
) -> ScheduleRule:
    """Check the arguments of a rule, and return it. Raises `TypeError`, `ValueError`, `ImportError`."""
    if (cron is None) == (every is None):
        msg = "give cron= or every=, and not both: cron='0 9 * * MON-FRI' or every=3600"
        raise ValueError(msg)
    for name, value in (("cron", cron), ("timezone", timezone)):
        if value is not None and not isinstance(value, str):
            msg = f"{name}={value!r:.100}: give a text"
            raise TypeError(msg)
    rule = ScheduleRule(
        cron=None if cron is None else " ".join(cron.split()),
        every_ms=None if every is None else _interval_ms(every),
        timezone=timezone,
        start_ms=None if start is None else _start_ms(start),
        given_ms=-(-now_ms // _SECOND_MS) * _SECOND_MS,
    )
    rule.show(now_ms)  # the zone is known
    if rule.find_next(now_ms) is None:
        raise ValueError(never_due(str(cron)))
    return rule


def check_schedule_name(name: str) -> str:
    """Return a valid name of a schedule, which begins the ids of its runs. Raises `ValueError`."""
    if not is_name(name) or len(name) > NAME_LENGTH_MAX or not set(name).isdisjoint("/\\@"):
        msg = (
            f"{name!r:.200} does not name a schedule: give 1 to {NAME_LENGTH_MAX} printable characters without / \\ @, "
            "as its runs are called name@time"
        )
        raise ValueError(msg)
    return name


def check_options(overlap: str, catch_up: str, jitter: float) -> int:
    """Check the options of a schedule, and return its jitter in milliseconds. Raises `ValueError`."""
    for name, value, known in (
        ("overlap", overlap, get_args(Overlap)),
        ("catch_up", catch_up, get_args(CatchUp)),
    ):
        if value not in known:
            msg = f"{name}={value!r:.100}: give one of {', '.join(known)}"
            raise ValueError(msg)
    if type(jitter) not in (int, float) or not 0 <= jitter <= SECONDS_MAX:
        msg = f"jitter={jitter!r:.100}: give seconds, from 0 on"
        raise ValueError(msg)
    return round(jitter * _SECOND_MS)


def run_id_at(name: str, rule: ScheduleRule, due_ms: int) -> str:
    """Return the id of the run of a due time, such as `report@2026-11-30T09:00:00+01:00`."""
    return f"{name}@{rule.show(due_ms)}"


def jitter_delay_ms(run_id: str, jitter_ms: int, gap_ms: int | None) -> int:
    """Return how long after its due time a run starts: less than `jitter_ms`, and less than the gap to the next one.

    It is a checksum of the run's id, so every process that serves the schedule computes the same delay.
    """
    bound_ms = jitter_ms if gap_ms is None else min(jitter_ms, gap_ms)
    return crc32(run_id.encode("utf-8", "surrogatepass")) * bound_ms // _CRC_END


def _interval_ms(every: Any) -> int:
    seconds: float = every.total_seconds() if isinstance(every, timedelta) else every
    if type(seconds) not in (int, float) or not 1 <= seconds <= SECONDS_MAX:
        msg = f"every={every!r:.100}: give at least one second and at most a hundred years, as a number or a timedelta"
        raise ValueError(msg)
    return round(seconds * _SECOND_MS)


def _start_ms(start: Any) -> int:
    if not isinstance(start, datetime) or start.utcoffset() is None:
        msg = f"start={start!r:.100}: give a datetime with a time zone, as datetime(2026, 11, 30, tzinfo=UTC)"
        raise ValueError(msg)
    found = (start - EPOCH) // timedelta(milliseconds=1)
    if found < 0 or start.year > YEAR_MAX:
        msg = f"start={start!r:.100}: give a time from 1970 to the year {YEAR_MAX}"
        raise ValueError(msg)
    return found
