"""The methods of `Engine` about schedules."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from beluga_graph.engine.schedules import ScheduleOptions
from beluga_graph.execution.schedule_rules import CatchUp, Overlap
from beluga_graph.inspection.schedules import ScheduleInfo, info_of_schedule
from beluga_graph.plan.plan import Compilable

if TYPE_CHECKING:
    from beluga_graph.engine.host import EngineHost

__all__ = ["ScheduleMethods"]


class ScheduleMethods:
    """Creates, lists and changes schedules. `Engine` inherits this class only to keep its own file short."""

    _host: EngineHost

    async def schedule(
        self,
        name: str,
        flow: Compilable,
        value: Any = None,
        *,
        cron: str | None = None,
        timezone: str = "UTC",
        every: float | timedelta | None = None,
        start: datetime | None = None,
        overlap: Overlap = "skip",
        catch_up: CatchUp = "last",
        jitter: float = 0.0,
    ) -> ScheduleInfo:
        """Start runs of a flow at points in time, one run for each due time; return the schedule.

        The run of a due time has the id `name@2026-11-30T09:00:00+01:00`. It starts once, in any engine that serves the
        flow or is open with it, however many there are and wherever they crash.

        `cron` has five fields (minute, hour, day of the month, month, day of the week) and follows the wall clock of
        `timezone`. A fixed time that a day skips is due once, right after the gap; one that it has twice is due the
        first time. `*/30` and `*` follow real time through both. `every`, in seconds, counts from `start`, or from now.

        `overlap` decides about a due time while the previous run has not ended: `skip` it, `queue` it, or `allow` it.
        `catch_up` decides about due times that were missed: `last` starts a run for the last of them, `all` for each,
        `none` for none that is more than a minute late; `overlap` decides about these runs, too. `jitter` delays each
        run by up to so many seconds.

        A second call with the same rule and name changes only the other arguments. With another rule, the schedule
        counts from now on. Raises `ValueError`, `TypeError`, `NotData`; `ImportError` if the extra `schedule` is
        missing.

        Example:
            await engine.schedule("report", report, cron="0 9 * * MON-FRI", timezone="Europe/Berlin")
        """
        self._host.ensure_open()
        plan = self._host.register(flow)
        options = ScheduleOptions(
            cron=cron,
            timezone=timezone,
            every=every,
            start=start,
            overlap=overlap,
            catch_up=catch_up,
            jitter=jitter,
        )
        return info_of_schedule(await self._host.schedules.put(name, plan, value, options), plan)

    async def schedules(self) -> list[ScheduleInfo]:
        """Return the schedules of the store, sorted by name. Raises `DamagedRecord`."""
        return await self._host.inspector.schedules()

    async def pause(self, name: str) -> None:
        """Start no run of a schedule until `unpause`, also none that is queued. Raises `ScheduleNotFound`."""
        self._host.ensure_open()
        await self._host.schedules.pause(name, is_paused=True)

    async def unpause(self, name: str) -> None:
        """Let a paused schedule go on. Its `catch_up` decides about the due times in between.

        Raises `ScheduleNotFound`.
        """
        self._host.ensure_open()
        await self._host.schedules.pause(name, is_paused=False)

    async def unschedule(self, name: str) -> None:
        """Delete a schedule, and the starts that it has queued. Its runs stay. Raises `ScheduleNotFound`.

        A schedule whose records are damaged is deleted, too.
        """
        self._host.ensure_open()
        await self._host.schedules.remove(name)
