"""The worker of one subscription: a task that reads the log from a position on and calls a handler.

Each worker reads at its own pace, so a slow or failing handler does not affect others. The queue of a subscription is
the log itself; memory holds only the positions of events that this process published, and their number is bounded.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections.abc import Iterable
from typing import NamedTuple, Protocol

from beluga_graph.bus.delivery import Delivery, Handler, HandlerQueue, active_delivery
from beluga_graph.bus.event import DeadLetter, ObservedEdge
from beluga_graph.bus.log import Cursor, Log
from beluga_graph.bus.record import Record
from beluga_graph.clock import Clock
from beluga_graph.codec.errors import DamagedRecord, SnapshotError
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.topics import matches
from stores.base import Conflict, Op, StoreClosed

__all__ = ["SubscribeRequest", "SubscriptionWorker", "WorkerHost", "end_workers"]

TRIES = 5  # of a named subscription for one event
_PAUSE_MS = 50  # before the second try; doubled before each later one
_PAGE = 64  # events that are read at a time
_FAR = 1_000  # events of other topics after which a cursor is moved past them
_CLOSE_S = 5.0  # how long a handler may take to end when it is cancelled
_TRY_AGAIN_S = 1.0  # after the store could not be read or written

_log = logging.getLogger("beluga_graph.bus")


class WorkerHost(Protocol):
    """The part of the bus that a worker reports to."""

    def on_cancelled(self, worker: SubscriptionWorker) -> None:
        """Called when the worker was cancelled, or its task has ended."""

    def on_moved(self, worker: SubscriptionWorker) -> None:
        """Called when the worker has passed an event."""

    def on_observed(self, edge: ObservedEdge) -> None:
        """Called when the worker is about to hand over an event."""


class SubscribeRequest(NamedTuple):
    """A request for a subscription."""

    pattern: str
    handler: Handler
    name: str | None
    position: int
    """The position in the log after which it begins."""
    cursor: Cursor | None
    """The stored position of a named subscription."""


class SubscriptionWorker:
    """Hands the events that match a pattern to a handler, one after the other."""

    def __init__(
        self, host: WorkerHost, log: Log, clock: Clock, pool: DaemonPool, request: SubscribeRequest, *, max_queue: int
    ) -> None:
        self.host = host
        self.pattern, self.name, self.position = request.pattern, request.name, request.position
        handler = request.handler
        self.label = request.name or str(getattr(handler, "__name__", type(handler).__name__))
        self.errors = 0
        self.last_error: BaseException | None = None
        self.queue = HandlerQueue(max_queue)
        self.task: asyncio.Task[None] | None = None
        self._log, self._clock, self._pool = log, clock, pool
        self._handler = handler
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object may be a handler, with an async __call__
        )
        self._cursor = request.cursor
        self._more = asyncio.Event()
        self._is_handling = False
        self._is_abandoned = False
        self._far = _FAR

    @property
    def cancelled(self) -> bool:
        """Whether it handles nothing more."""
        return self.queue.is_closed

    def cancel(self) -> None:
        """Handle nothing more; a call of the handler that is under way finishes. Idempotent."""
        if self.cancelled:
            return
        self._leave()
        if self.task is not None and not self._is_handling:
            self.task.cancel()

    def abandon(self) -> None:
        """Ignore everything that the handler does from now on: the bus closes, and the handler does not end."""
        self._is_abandoned = True
        _log.warning(
            "subscription %r: its handler has not ended %g s after it was cancelled; the bus is closed without it",
            self.label,
            _CLOSE_S,
        )

    def begin(self) -> None:
        """Start the task, unless it was started or cancelled before."""
        if self.task is None and not self.cancelled:
            self.task = asyncio.get_running_loop().create_task(self._work())
            self.task.add_done_callback(self._on_task_ended)

    def wake(self) -> None:
        """Read on: the log has grown."""
        self._more.set()

    def store_cursor(self) -> None:
        """Store the position soon, even if it has moved only a little."""
        self._far = 0
        self._more.set()

    def enqueue(self, position: int) -> None:
        """Count an event that this process has published and that this subscription has to handle."""
        if not self.cancelled and position > self.position:
            self.queue.add(position)

    def _leave(self) -> None:
        self.queue.close()
        self.host.on_cancelled(self)

    def _on_task_ended(self, task: asyncio.Task[None]) -> None:
        """Called when the task ends. If it was not cancelled, a handler ended it; release any blocked publishers."""
        error = asyncio.CancelledError("its task was cancelled") if task.cancelled() else task.exception()
        if self.cancelled:
            return
        self._fail(error or RuntimeError("its task has returned"), "it gets no more events: its task was ended")
        self._leave()

    # Reading the log.

    async def _work(self) -> None:
        while not self.cancelled:
            try:
                await self._read_page()
            except StoreClosed as error:
                self._fail(error, "its store was closed")
                self._leave()
            except Exception as error:  # noqa: BLE001 - the store may recover; no event is skipped
                self._fail(error, "its events cannot be read or its cursor not be moved; it tries again")
                await asyncio.sleep(_TRY_AGAIN_S)

    async def _read_page(self) -> None:
        """Handle one page of the log, or wait until there is more."""
        self._more.clear()
        far, self._far = self._far, _FAR
        if self.name is not None and self._cursor and self.position > self._cursor.position + far:
            await self._advance(self.position, None)
        at_end = True
        for position, record in self._log.after(self.position, _PAGE):
            at_end = False
            if self.cancelled:
                return
            if position <= self.position:  # another process with this name has handled it meanwhile
                continue
            if isinstance(record, DamagedRecord):
                self._fail(record, f"event {position} cannot be read")
                await self._advance(position, self._dead_letter(position, record, 1))
            elif matches(self.pattern, record.topic):
                await self._handle(position, record)
            else:
                self._pass(position)
            if position > self.position:  # another process with this name has not come as far
                return
        if at_end:
            await self._more.wait()

    async def _handle(self, position: int, record: Record) -> None:
        """Hand an event to the handler, again if it raises and the subscription has a name; then pass the event."""
        if self.name is not None and (cursor := self._log.cursor(self.name)) and cursor.position >= position:
            self._cursor = cursor
            self._pass(cursor.position)
            return
        self.host.on_observed(ObservedEdge(record.agent_id, record.topic, self.label))
        tries = 1
        while True:
            error = await self._call_handler(position, record)
            if self._is_abandoned:
                return
            if error is None or self.name is None or isinstance(error, SnapshotError):
                break
            if self.cancelled:  # a later subscription of this name gets the event again
                return
            if tries >= TRIES:
                break
            await self._pause(_PAUSE_MS << (tries - 1))
            tries += 1
        await self._advance(position, None if error is None else self._dead_letter(position, error, tries))

    async def _call_handler(self, position: int, record: Record) -> BaseException | None:
        """Call the handler with an event that holds its own copy of the value; return the error that it raised."""
        self._is_handling = True
        before = None
        try:
            unknown: dict[str, str] = {}
            event = self._log.event(position, record, unknown)
            self._log.unknown_classes.report(unknown, record.topic, self.label)
            delivery = Delivery(self, event)
            before = active_delivery.set(delivery)
            try:
                if self._is_async:
                    await self._handler(event)
                else:
                    result = await self._pool.run(self._handler, event)
                    if inspect.isawaitable(result):
                        await result
            finally:
                delivery.is_active = False
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._fail(error, f"its handler raised on {record.topic!r}")
        except Exception as error:  # noqa: BLE001 - a handler may raise any error without affecting others
            return self._fail(error, f"its handler raised on {record.topic!r}")
        finally:
            self._is_handling = False
            if before is not None:
                active_delivery.reset(before)
        return None

    def _fail(self, error: BaseException, what: str) -> BaseException:
        self.errors += 1
        self.last_error = error
        _log.warning("subscription %r: %s: %s: %s", self.label, what, type(error).__name__, error, exc_info=error)
        return error

    async def _pause(self, pause_ms: int) -> None:
        over = asyncio.get_running_loop().create_future()
        disarm = self._clock.call_at(self._clock.now_ms() + pause_ms, lambda: _set_done(over))
        try:
            await over
        finally:
            disarm()

    # Passing events.

    def _dead_letter(self, position: int, error: BaseException, tries: int) -> DeadLetter | None:
        if self.name is None:
            return None
        return DeadLetter(
            subscription=self.name,
            position=position,
            event=None,
            error=f"{type(error).__name__}: {error}",
            tries=tries,
            at_ms=self._clock.now_ms(),
        )

    async def _advance(self, position: int, letter: DeadLetter | None) -> None:
        """Pass an event that was handled; a named subscription stores its new position first."""
        if self.name is not None:
            cursor, ops = self._log.cursor_ops(self.name, self._cursor, position)
            more: list[Op] = [self._log.dead_letter_op(letter)] if letter is not None else []
            refused = await self._log.committer.commit([*ops, *more])
            if isinstance(refused, Conflict):  # another process with this name has moved it: go on from there
                self._cursor = self._log.cursor(self.name)
                if self._cursor is None or self._cursor.position < position:
                    self.position = self._cursor.position if self._cursor else position
                    return
                position = self._cursor.position
            elif refused is not None:
                raise refused
            else:
                self._cursor = cursor
        self._pass(position)

    def _pass(self, position: int) -> None:
        self.position = position
        self.queue.remove_up_to(position)
        self.host.on_moved(self)


async def end_workers(workers: Iterable[SubscriptionWorker]) -> None:
    """Cancel the tasks of cancelled subscriptions; after 5 seconds, abandon those whose handlers have not ended."""
    tasks = {worker.task: worker for worker in workers if worker.task is not None}
    for task in tasks:
        task.cancel()
    if tasks:
        _, others = await asyncio.wait(tasks, timeout=_CLOSE_S)
        for task in others:
            tasks[task].abandon()


def _set_done(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
