"""The decision about the next due time of a schedule: start its run, queue it, or leave it out."""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

from beluga_graph.storage.schedule_records import QUEUE_LENGTH_MAX, Schedule, ScheduleState, StoredSchedule, next_state
from stores.base import Op

__all__ = ["ON_TIME_MS", "Decision", "decide"]

ON_TIME_MS = 60_000
"""A due time that is not made up for still counts as in time for so long: a server may be replaced meanwhile."""


class Decision(NamedTuple):
    """A change of a schedule, which is committed together with the run that it starts."""

    state: ScheduleState
    """The state after the change."""
    start_ms: int | None = None
    """The due time whose run starts; `None` if none does."""
    ops: tuple[Op, ...] = ()
    """The changes of the queue."""
    notice: str = ""
    """A text for the log: why a due time gets no run."""


def decide(stored: StoredSchedule, queued_ms: int | None, now_ms: int, *, is_busy: bool) -> Decision | None:
    """Return the next change of a schedule; `None` if nothing is due.

    `queued_ms` is the oldest due time in the queue, and `is_busy` says that the previous run has not ended.
    """
    schedule, state = stored.schedule, stored.state
    if schedule.is_paused:
        return None
    if queued_ms is not None and not is_busy:
        begun = replace(state, last_run=schedule.run_id(queued_ms), queued=max(0, state.queued - 1))
        return Decision(begun, queued_ms, (stored.unqueue_op(queued_ms),))
    if state.due_ms is None or state.start_ms is None or state.start_ms > now_ms:
        return None
    due_ms, passed_ms, missed_ms = _choose(schedule, state.due_ms, now_ms)
    after = next_state(schedule, state, passed_ms)
    if missed_ms is not None:
        after = replace(after, last_missed_ms=missed_ms)
    if due_ms is None:
        return Decision(after, notice=f"missed {schedule.rule.show(passed_ms)}")
    after = replace(after, last_due_ms=due_ms)
    if schedule.overlap == "allow" or not (is_busy or queued_ms is not None):
        return Decision(replace(after, last_run=schedule.run_id(due_ms)), due_ms)
    if schedule.overlap == "queue" and state.queued < QUEUE_LENGTH_MAX:
        return Decision(replace(after, queued=state.queued + 1), None, (stored.queue_op(due_ms),))
    skipped = replace(after, skipped=state.skipped + 1, last_skipped_ms=due_ms)
    return Decision(skipped, notice=f"skipped {schedule.rule.show(due_ms)}: run {state.last_run!r} has not ended")


def _choose(schedule: Schedule, due_ms: int, now_ms: int) -> tuple[int | None, int, int | None]:
    """Choose among the due times that have come, of which `due_ms` is the first.

    Returns the one whose run is to start, if any; the last one that is settled with it; and the last one left out.
    """
    if schedule.catch_up == "all":
        return due_ms, due_ms, None
    latest_ms = _find_latest(schedule, due_ms, now_ms)
    if schedule.catch_up == "none" and now_ms - schedule.start_ms(latest_ms) > ON_TIME_MS:
        return None, latest_ms, latest_ms
    missed_ms = schedule.rule.find_latest(latest_ms - 1) if latest_ms > due_ms else None
    return latest_ms, latest_ms, missed_ms


def _find_latest(schedule: Schedule, due_ms: int, now_ms: int) -> int:
    """Return the last due time whose run should have started by now."""
    latest_ms = schedule.rule.find_latest(now_ms)
    if latest_ms is not None and schedule.start_ms(latest_ms) > now_ms:
        latest_ms = schedule.rule.find_latest(latest_ms - 1)
    return max(due_ms, latest_ms or 0)
