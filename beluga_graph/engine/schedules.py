"""Schedules: the verbs with which callers create, change and remove them. `schedule_firing` starts their runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from beluga_graph.codec.errors import DamagedRecord
from beluga_graph.errors import ScheduleNotFound
from beluga_graph.execution.schedule_rules import CatchUp, Overlap, check_options, check_schedule_name, make_rule
from beluga_graph.plan.plan import Plan
from beluga_graph.runtime.scheduler import Scheduler
from beluga_graph.storage.schedule_records import (
    Schedule,
    ScheduleState,
    StoredSchedule,
    create_ops,
    erase_ops,
    find_schedule,
    next_state,
)
from stores.base import Conflict, Op

__all__ = ["ScheduleOptions", "Schedules"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleOptions:
    """The keyword arguments of `Engine.schedule`."""

    cron: str | None
    timezone: str
    every: float | timedelta | None
    start: datetime | None
    overlap: Overlap
    catch_up: CatchUp
    jitter: float


class Schedules:
    """Changes the schedules of one engine's store. `on_changed` is called after each change."""

    def __init__(self, scheduler: Scheduler, on_changed: Callable[[], None]) -> None:
        self._scheduler, self._store, self._on_changed = scheduler, scheduler.store, on_changed

    async def put(self, name: str, plan: Plan, value: Any, options: ScheduleOptions) -> StoredSchedule:
        """Create a schedule, or change the one of this name; see `Engine.schedule`."""
        check_schedule_name(name)
        now_ms = self._scheduler.clock.now_ms()
        given = Schedule(
            name=name,
            flow=plan.name,
            rule=make_rule(
                cron=options.cron,
                timezone=options.timezone,
                every=options.every,
                start=options.start,
                now_ms=now_ms,
            ),
            value=plan.encode(value),
            overlap=options.overlap,
            catch_up=options.catch_up,
            jitter_ms=check_options(options.overlap, options.catch_up, options.jitter),
        )
        given.run_id(now_ms)
        while True:
            stored = find_schedule(self._store, name)
            if stored is None:
                ops = create_ops(given, next_state(given, ScheduleState(due_ms=None, start_ms=None), now_ms))
            else:
                changed = _change(stored, given, now_ms)
                if changed is None:
                    break
                ops = stored.replace_ops(*changed)
            await self._commit(ops)
        self._on_changed()
        return stored

    async def pause(self, name: str, *, is_paused: bool) -> None:
        """Stop a schedule or let it go on. Raises `ScheduleNotFound`."""
        while (stored := self._find(name)).schedule.is_paused is not is_paused:
            await self._commit(stored.replace_ops(replace(stored.schedule, is_paused=is_paused), stored.state))
        self._on_changed()

    async def remove(self, name: str) -> None:
        """Delete a schedule with its queued starts, even if its records are damaged. Raises `ScheduleNotFound`."""
        while True:
            try:
                ops = self._find(name).delete_ops(self._store)
            except DamagedRecord:
                ops = erase_ops(self._store, name)
            if await self._commit(ops):
                return

    def _find(self, name: str) -> StoredSchedule:
        stored = find_schedule(self._store, check_schedule_name(name))
        if stored is None:
            raise ScheduleNotFound(name)
        return stored

    async def _commit(self, ops: Sequence[Op]) -> bool:
        """Commit a change; return `False` if the schedule was changed meanwhile. Raises the errors of the store."""
        error = await self._scheduler.committer.commit(ops)
        if error is not None and not isinstance(error, Conflict):
            raise error
        return error is None


def _change(stored: StoredSchedule, given: Schedule, now_ms: int) -> tuple[Schedule, ScheduleState] | None:
    """Return a schedule and its state after a second call of `put`; `None` if that changes nothing.

    With the same rule it stays where it is. With another rule it counts from now on.
    """
    is_same_rule = given.rule.is_same(stored.schedule.rule)
    rule = stored.schedule.rule if is_same_rule else given.rule
    schedule = replace(given, rule=rule, is_paused=stored.schedule.is_paused)
    if schedule == stored.schedule:
        return None
    if not is_same_rule:
        return schedule, next_state(schedule, stored.state, now_ms)
    due_ms = stored.state.due_ms
    start_ms = None if due_ms is None else schedule.start_ms(due_ms)
    return schedule, replace(stored.state, start_ms=start_ms)
