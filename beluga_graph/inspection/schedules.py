"""The schedules of a store, as callers see them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.codec.values import Codec
from beluga_graph.errors import SnapshotError
from beluga_graph.execution.cron import EPOCH
from beluga_graph.execution.schedule_rules import CatchUp, Overlap
from beluga_graph.plan.plan import Plan
from beluga_graph.storage.pace import Pace
from beluga_graph.storage.schedule_records import StoredSchedule, iter_schedules
from stores.base import Store

__all__ = ["ScheduleInfo", "info_of_schedule", "list_schedules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleInfo:
    """A line about one schedule, as `Engine.schedules` returns it. Times are in the schedule's time zone.

    Attributes:
        name: The schedule's name.
        flow: The name of its flow.
        input: The input of each run. Instances of classes that this engine's flows do not name are `Unregistered`.
        cron: The cron expression, or `None`.
        every: The interval, or `None`.
        timezone: The name of the time zone.
        start: The time before which nothing is due, if one was given.
        overlap: The rule for a due time that comes while the previous run has not ended: `skip`, `queue` or `allow`.
        catch_up: Which missed due times get a run: `last`, `all` or `none`.
        jitter: The largest delay of a run after its due time, in seconds.
        is_paused: Whether the schedule is paused.
        is_registered: Whether this engine has its flow. Its runs start in an engine that has.
        next_due: The next due time; `None` if there is none. It stays in the past while no engine starts its run.
        last_due: The last due time that came: its run was started, queued or skipped.
        last_run: The id of the run that was started last; `None` if there is none.
        queued: How many due times wait for the previous run to end.
        skipped: How many due times were skipped because the previous run had not ended.
        last_skipped: The last due time that was skipped.
        last_missed: The last due time that was missed and was not made up for.
    """

    name: str
    flow: str
    input: Any
    cron: str | None
    every: timedelta | None
    timezone: str
    start: datetime | None
    overlap: Overlap
    catch_up: CatchUp
    jitter: float
    is_paused: bool
    is_registered: bool
    next_due: datetime | None
    last_due: datetime | None
    last_run: str | None
    queued: int
    skipped: int
    last_skipped: datetime | None
    last_missed: datetime | None


async def list_schedules(store: Store, find_plan: Callable[[str], Plan | None]) -> list[ScheduleInfo]:
    """Return the schedules of a store, sorted by name. Raises `DamagedRecord`."""
    found, pace = [], Pace()
    for stored in iter_schedules(store):
        found.append(info_of_schedule(stored, find_plan(stored.schedule.flow)))
        await pace.turn()
    return sorted(found, key=lambda info: info.name)


def info_of_schedule(stored: StoredSchedule, plan: Plan | None) -> ScheduleInfo:
    """Return a line about a schedule. `plan` is that of its flow, if it is known. Raises `DamagedRecord`."""
    schedule, state, rule = stored.schedule, stored.state, stored.schedule.rule
    codec = plan.codec if plan is not None else Codec()
    try:
        value = codec.decode(schedule.value, lenient=True)
    except SnapshotError as error:
        raise DamagedRecord(f"the input of schedule {schedule.name!r}", str(error)) from error

    def local(at_ms: int | None) -> datetime | None:
        if at_ms is None:
            return None
        at = EPOCH + timedelta(milliseconds=at_ms)
        try:
            return at.astimezone(rule.zone)
        except (ValueError, ImportError):  # the zone is unknown here
            return at

    return ScheduleInfo(
        name=schedule.name,
        flow=schedule.flow,
        input=value,
        cron=rule.cron,
        every=None if rule.every_ms is None else timedelta(milliseconds=rule.every_ms),
        timezone=rule.timezone,
        start=local(rule.start_ms),
        overlap=schedule.overlap,
        catch_up=schedule.catch_up,
        jitter=schedule.jitter_ms / 1000,
        is_paused=schedule.is_paused,
        is_registered=plan is not None,
        next_due=local(state.due_ms),
        last_due=local(state.last_due_ms),
        last_run=state.last_run or None,
        queued=state.queued,
        skipped=state.skipped,
        last_skipped=local(state.last_skipped_ms),
        last_missed=local(state.last_missed_ms),
    )
