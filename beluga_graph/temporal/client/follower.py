"""The follower: waits for the end of a run on the server, or yields its events while it goes on."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator
from typing import Any, NoReturn

from temporalio.client import WorkflowFailureError
from temporalio.exceptions import ApplicationError

from beluga_graph.errors import TemporalUnavailable
from beluga_graph.events import Event
from beluga_graph.inspection.views import StepInfo
from beluga_graph.kernel.snapshot import Snapshot
from beluga_graph.kernel.types import Value
from beluga_graph.plan.plan import Plan
from beluga_graph.temporal.claims.claims import CachedClaims
from beluga_graph.temporal.client.run_poller import RunNews, RunPoller
from beluga_graph.temporal.connection.sdk_errors import translate_errors
from beluga_graph.temporal.connection.watchdog import Watchdog
from beluga_graph.temporal.connection.workflow_client import WorkflowClient
from beluga_graph.temporal.live.record import LiveRecord
from beluga_graph.temporal.live.subscriptions import LiveSubscription
from beluga_graph.temporal.live.view import LiveView
from beluga_graph.temporal.mirror.cache import MirroredRuns
from beluga_graph.temporal.workflow.wire import RUN_FAILED, unpack

__all__ = ["Follower"]

_log = logging.getLogger("beluga_graph.temporal.client.follower")

_SOON_S = 0.05  # between two looks while there is news
_TEXT_S = 0.2  # while a node emits text that comes with heartbeats
_SELDOM_S = 1.0
_SLOWER = 1.5
_FIRST = asyncio.FIRST_COMPLETED


class Follower:
    """Waits for runs to end, and yields their events."""

    def __init__(self, workflows: WorkflowClient, mirrored: MirroredRuns, claims: CachedClaims | None) -> None:
        self._workflows, self._mirrored, self._claims = workflows, mirrored, claims

    async def wait_ended(self, run_id: str) -> Snapshot:
        """Wait for the end of a run; return a snapshot with its status, output, error, steps, usage and reason only.

        Raises `RunCancelled`, `RunNotFound`, `TemporalUnavailable`.
        """
        handle = await self._workflows.handle(run_id)
        client = await self._workflows.connection.client()
        with translate_errors(run_id, self._workflows.connection.address):
            try:
                return _ended(run_id, unpack(await Watchdog(client, run_id).wait(handle.result())))
            except WorkflowFailureError as error:
                cause = error.cause
                if not isinstance(cause, ApplicationError) or cause.type != RUN_FAILED:
                    raise
        if cause.details:
            return _ended(run_id, unpack(cause.details[0]))
        return (await self._mirrored.replay(run_id)).run  # the failure was too large for the server

    async def events(
        self, plan: Plan, run_id: str, after: int, decode: Callable[[Value | None], Any], live: LiveSubscription
    ) -> AsyncGenerator[Event, None]:
        """Yield the stored events of steps after `after`, then those to come and live ones, until the run ends.

        If no worker takes the work of the run, a warning in the log says so once, and the events go on with the next
        worker. Raises as `wait_ended` does if the workflow fails on its worker.
        """
        looks = RunPoller(self._workflows, self._mirrored, self._claims, plan, run_id, after, decode)
        begun = live.begun_seq
        view = LiveView(run_id, plan.shape.nodes, is_late=begun is None)
        pace, held = _Pace(), _Held()
        looking: asyncio.Task[RunNews] | None = None
        watching = asyncio.create_task(self._watch(run_id))
        try:
            while True:
                if looking is None and pace.left_s <= 0:
                    looking = asyncio.create_task(looks.look())
                    pace.begin()
                    held.begin()
                waiting: set[asyncio.Future[Any]] = {live.ready, watching, *([looking] if looking is not None else ())}
                await asyncio.wait(waiting, timeout=pace.left_s if looking is None else None, return_when=_FIRST)
                for record in live.take():
                    if record.is_over or view.is_start(record):
                        pace.hurry()
                    if held.keep(record, is_start=view.is_start(record)):
                        continue  # the follower sees the steps that caused it first
                    for event in view.take(record):
                        yield event
                if watching.done():
                    watching.result()  # its error
                if looking is None or not looking.done():
                    continue
                seen, looking = looking.result(), None
                begun = begun if begun is not None else max([after, *(step.seq for step in seen.steps)])
                for event in _arrange(view, seen, held.release(seen.steps), begun):
                    yield event
                if not seen.is_open:
                    return
                pace.note(seen)
        finally:
            if not watching.cancel():
                watching.exception()  # it was raised, or the run has ended since
            if looking is not None:
                looking.cancel()

    async def _watch(self, run_id: str) -> NoReturn:
        """Log a warning, once, if no worker takes the work of the run. Raises if its workflow fails on its worker."""
        client, is_known = await self._workflows.connection.client(), False
        while True:
            try:
                await Watchdog(client, run_id).watch()
            except TemporalUnavailable as error:
                if not is_known:
                    _log.warning("%s", error)
                is_known = True


class _Pace:
    """When to look: soon after news, and seldom while there are none."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began, self._pause_s = -_SELDOM_S, 0.0
        self._records: list[LiveRecord] = []

    @property
    def left_s(self) -> float:
        """The time until the next look; 0 or less if it is due."""
        return self._began + self._pause_s - self._loop.time()

    def begin(self) -> None:
        """Note that a look begins."""
        self._began = self._loop.time()

    def hurry(self) -> None:
        """Look soon: news are on their way."""
        self._pause_s = min(self._pause_s, _SOON_S)

    def note(self, seen: RunNews) -> None:
        """Note the news of a look."""
        has_text = seen.records != self._records
        self._records = seen.records
        if seen.is_large:
            self._pause_s = _SELDOM_S
        elif seen.steps or has_text:
            self._pause_s = _SOON_S
        else:
            self._pause_s = min(max(self._pause_s, _SOON_S) * _SLOWER, _TEXT_S if seen.records else _SELDOM_S)


class _Held:
    """Records of new attempts, held back until a later look has found the steps that caused these attempts."""

    def __init__(self) -> None:
        self._next: dict[str, list[LiveRecord]] = {}  # by token: for the look to come
        self._now: dict[str, list[LiveRecord]] = {}  # for the look under way

    def keep(self, record: LiveRecord, *, is_start: bool) -> bool:
        """Keep a record that begins an attempt, and those after it; return whether it is kept."""
        kept = self._now.get(record.token) or self._next.get(record.token)
        if kept is None and is_start:
            kept = self._next[record.token] = []
        if kept is not None:
            kept.append(record)
        return kept is not None

    def begin(self) -> None:
        """Note that a look begins."""
        self._now, self._next = self._next, {}

    def release(self, steps: Iterable[StepInfo]) -> list[LiveRecord]:
        """Return the records that were kept for the look that has ended, and those of attempts that it saw end."""
        released, self._now = self._now, {}
        for step in steps:
            if step.token in self._next:
                released[step.token] = self._next.pop(step.token)
        return [record for records in released.values() for record in records]


def _arrange(view: LiveView, seen: RunNews, released: Iterable[LiveRecord], begun: int) -> Iterator[Event]:
    """Yield the events of a look: those of each attempt in order, and attempts that go on last."""
    records = [*released, *seen.records]
    by_token: dict[str, list[LiveRecord]] = {}
    for record in records:
        by_token.setdefault(record.token, []).append(record)
    for step in seen.steps:
        for record in by_token.get(step.token, ()):
            if record.attempt <= step.attempt:
                yield from view.take(record)
        yield from view.end(step, is_past=step.seq <= begun)
        yield from step.events
    for record in records:
        yield from view.take(record)


def _ended(run_id: str, end: Any) -> Snapshot:
    run = Snapshot(run_id=run_id, plan="", started_ms=0, value=b"")
    run.status, run.steps, run.usage, run.reason = end["status"], end["steps"], end["usage"], end["reason"]
    run.output, run.error = end.get("output"), end.get("error")
    return run
