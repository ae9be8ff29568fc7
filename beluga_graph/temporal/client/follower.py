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
from beluga_graph.temporal.client.run_poller import PollResult, RunPoller
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

_ACTIVE_S = 0.05  # between two polls of a run that makes steps
_TEXT_S = 0.2  # while a node emits text that comes with heartbeats
_QUIET_S = 1.0
_BACKOFF = 1.5
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
        poller = RunPoller(self._workflows, self._mirrored, self._claims, plan, run_id, after, decode)
        begun = live.begun_seq
        view = LiveView(run_id, plan.shape.nodes, is_late=begun is None)
        interval, held = _PollInterval(), _HeldRecords()
        polling: asyncio.Task[PollResult] | None = None
        watching = asyncio.create_task(self._watch(run_id))
        try:
            while True:
                if polling is None and interval.left_s <= 0:
                    polling = asyncio.create_task(poller.poll())
                    interval.begin()
                    held.begin()
                waiting: set[asyncio.Future[Any]] = {live.ready, watching, *([polling] if polling is not None else ())}
                await asyncio.wait(waiting, timeout=interval.left_s if polling is None else None, return_when=_FIRST)
                for record in live.take():
                    if record.is_over or view.is_start(record):
                        interval.shorten()
                    if held.keep(record, is_start=view.is_start(record)):
                        continue  # the follower sees the steps that caused it first
                    for event in view.take(record):
                        yield event
                if watching.done():
                    watching.result()  # its error
                if polling is None or not polling.done():
                    continue
                seen, polling = polling.result(), None
                begun = begun if begun is not None else max([after, *(step.seq for step in seen.steps)])
                for event in _arrange(view, seen, held.release(seen.steps), begun):
                    yield event
                if not seen.is_open:
                    return
                interval.adapt(seen)
        finally:
            if not watching.cancel():
                watching.exception()  # it was raised, or the run has ended since
            if polling is not None:
                polling.cancel()

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


class _PollInterval:
    """The time between polls: short after a poll with news, and longer after each one without."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._began, self._pause_s = -_QUIET_S, 0.0
        self._records: list[LiveRecord] = []

    @property
    def left_s(self) -> float:
        """The time until the next poll; 0 or less if it is due."""
        return self._began + self._pause_s - self._loop.time()

    def begin(self) -> None:
        """Note that a poll begins."""
        self._began = self._loop.time()

    def shorten(self) -> None:
        """Poll soon: the server is about to have new steps."""
        self._pause_s = min(self._pause_s, _ACTIVE_S)

    def adapt(self, seen: PollResult) -> None:
        """Adapt the time to the result of a poll."""
        has_text = seen.records != self._records
        self._records = seen.records
        if seen.is_large:
            self._pause_s = _QUIET_S
        elif seen.steps or has_text:
            self._pause_s = _ACTIVE_S
        else:
            self._pause_s = min(max(self._pause_s, _ACTIVE_S) * _BACKOFF, _TEXT_S if seen.records else _QUIET_S)


class _HeldRecords:
    """Records of new attempts, held back until a later poll has found the steps that caused these attempts."""

    def __init__(self) -> None:
        self._next: dict[str, list[LiveRecord]] = {}  # by token: until the next poll ends
        self._now: dict[str, list[LiveRecord]] = {}  # until the poll under way ends

    def keep(self, record: LiveRecord, *, is_start: bool) -> bool:
        """Keep a record that begins an attempt, and those after it; return whether it is kept."""
        kept = self._now.get(record.token) or self._next.get(record.token)
        if kept is None and is_start:
            kept = self._next[record.token] = []
        if kept is not None:
            kept.append(record)
        return kept is not None

    def begin(self) -> None:
        """Note that a poll begins."""
        self._now, self._next = self._next, {}

    def release(self, steps: Iterable[StepInfo]) -> list[LiveRecord]:
        """Return the records that were kept until the poll that has ended, and those of attempts whose end it found."""
        released, self._now = self._now, {}
        for step in steps:
            if step.token in self._next:
                released[step.token] = self._next.pop(step.token)
        return [record for records in released.values() for record in records]


def _arrange(view: LiveView, seen: PollResult, released: Iterable[LiveRecord], begun: int) -> Iterator[Event]:
    """Yield the events of a poll: those of each attempt in order, then those of attempts that go on."""
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
