"""One subscription: a handler, its place in the log, and the task that walks from there.

Each walks on its own, so a slow or failing one harms nobody. Its queue is the log itself: in memory is only
which events, published here, it still has to handle, and those are bounded, for a publisher waits.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from collections import deque
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeAlias

from beluga_graph.bus.event import BusEvent, DeadLetter, ObservedEdge
from beluga_graph.bus.log import Cursor, Log
from beluga_graph.bus.record import Record
from beluga_graph.clock import Clock
from beluga_graph.codec import DamagedRecord, SnapshotError
from beluga_graph.errors import BusError
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.kernel.names import NAME_LENGTH_MAX, is_name
from beluga_graph.topics import matches
from stores.base import Conflict, Op, StoreClosed

if TYPE_CHECKING:
    from beluga_graph.bus.backpressure import Turn
    from beluga_graph.bus.bus import EventBus

__all__ = ["Delivery", "Handler", "Subscription", "check_name", "ended", "handled_now"]

TRIES = 5  # of a named subscription for one event
_PAUSE_MS = 50  # before the second try; doubled for each one after
_PAGE = 64  # events that are read at a time
_FAR = 1_000  # events of other topics after which a cursor is moved past them
_CLOSE_S = 5.0  # how long a handler may take to end when it is cancelled
_TRY_AGAIN_S = 1.0  # after the store could not be read or written

Handler: TypeAlias = Callable[[BusEvent], Any]

_log = logging.getLogger("beluga_graph.bus")


class Delivery:
    """One call of a handler: what is published from within it is caused by its event."""

    __slots__ = ("active", "event", "subscription")

    def __init__(self, subscription: Subscription, event: BusEvent) -> None:
        self.subscription, self.event = subscription, event
        self.active = True  # until the handler returns; tasks that it leaves behind go on in its context


_handled: ContextVar[Delivery | None] = ContextVar("beluga_graph_bus_delivery", default=None)


def handled_now() -> Delivery | None:
    """Return the call of a handler that the caller is part of, if any."""
    return _handled.get()


def check_name(name: str) -> None:
    """Refuse what cannot be the name of a subscription. Raises `BusError`."""
    if not is_name(name):
        rule = f"give 1 to {NAME_LENGTH_MAX} printable characters, not all of them blank"
        raise BusError(f"{name!r:.80} is no subscription's name: {rule}")


class Subscription:
    """A handler of the events that a pattern chooses. `EventBus.subscribe` makes it."""

    def __init__(
        self,
        bus: EventBus,
        log: Log,
        clock: Clock,
        pool: DaemonPool,
        pattern: str,
        handler: Handler,
        name: str | None,
        position: int,
        cursor: Cursor | None,
        max_queue: int,
    ) -> None:
        self.pattern = pattern
        self.name = name
        self.label = name or str(getattr(handler, "__name__", type(handler).__name__))
        self.errors = 0
        """How often the handler raised, or an event could not be handed to it."""
        self.last_error: BaseException | None = None
        self.position = position
        """Up to where in the log it has handled what concerns it."""
        self.cancelled = False
        self.waits_for: list[Subscription] = []  # those for which its handler waits right now, to publish
        self.waiting: deque[Turn] = deque()
        """Events that wait for room in its queue."""
        self.expected = 0
        """Events that have room in its queue, and are just being written to the log."""
        self.task: asyncio.Task[None] | None = None
        self._bus, self._log, self._clock, self._pool = bus, log, clock, pool
        self._handler = handler
        self._is_async = inspect.iscoroutinefunction(handler) or inspect.iscoroutinefunction(
            getattr(handler, "__call__", None)  # noqa: B004 - an object may be a handler, with an async __call__
        )
        self._cursor = cursor
        self._max_queue = max_queue
        self._owed: deque[int] = deque()  # positions published here and not handled
        self._more = asyncio.Event()
        self._is_handling = False
        self._is_abandoned = False
        self._far = _FAR

    @property
    def queued(self) -> int:
        """How many events published by this process it still has to handle, the one under way included."""
        return len(self._owed)

    def cancel(self) -> None:
        """Handle nothing more; a handler that is under way finishes. A name keeps its place, for a later one."""
        if self.cancelled:
            return
        self.cancelled = True
        self._owed.clear()
        self._bus.left(self)
        if self.task is not None and not self._is_handling:
            self.task.cancel()

    def abandon(self) -> None:
        """Its bus ends, and its handler does not: what that does from now on is no longer taken note of."""
        self._is_abandoned = True
        _log.warning(
            "subscription %r: its handler has not ended %g s after it was cancelled; the bus is closed without it",
            self.label,
            _CLOSE_S,
        )

    def is_of(self, bus: EventBus) -> bool:
        """Whether a bus made it."""
        return self._bus is bus

    # What the bus says.

    def begin(self) -> None:
        """Begin to handle, if that has not begun."""
        if self.task is None and not self.cancelled:
            self.task = asyncio.get_running_loop().create_task(self._work())
            self.task.add_done_callback(self._ended)

    def wake(self) -> None:
        """There is more in the log."""
        self._more.set()

    def note(self) -> None:
        """Write down how far it has come, although that is not far; as soon as it is not handling an event."""
        self._far = 0
        self._more.set()

    def owes(self, position: int) -> None:
        """Take note that an event is to be handled."""
        if not self.cancelled and position > self.position:
            self._owed.append(position)

    @property
    def has_room(self) -> bool:
        """Whether one more event may be published that it has to handle."""
        return self.cancelled or len(self._owed) + self.expected < self._max_queue

    def depends_on(self, other: Subscription) -> bool:
        """Whether room here depends, in the end, on the handler of `other`."""
        todo, seen = [self], {id(self)}
        while todo:
            found = todo.pop()
            if found is other:
                return True
            for waited in found.waits_for:
                if id(waited) not in seen:
                    seen.add(id(waited))
                    todo.append(waited)
        return False

    @property
    def owed(self) -> set[int]:
        """The positions of what was published here and is still to be handled."""
        return set(self._owed)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """Its task is over. If nobody has asked for that, a handler has ended it: no publisher waits for it then."""
        error = asyncio.CancelledError("its task was cancelled") if task.cancelled() else task.exception()
        if self.cancelled:
            return
        self.cancelled = True
        self._failed(error or RuntimeError("its task has returned"), "it hears nothing more, for its task was ended")
        self._owed.clear()
        self._bus.left(self)

    # Walking.

    async def _work(self) -> None:
        while not self.cancelled:
            try:
                await self._walk()
            except StoreClosed as error:
                self._failed(error, "its store was closed")
                self.cancelled = True
                self._owed.clear()
                self._bus.left(self)
            except Exception as error:  # noqa: BLE001 - the store may be well again in a while; nothing is passed by
                self._failed(error, "its events cannot be read or its cursor not be moved; it tries again")
                await asyncio.sleep(_TRY_AGAIN_S)

    async def _walk(self) -> None:
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
            if position <= self.position:  # another process of this name has handled it meanwhile
                continue
            if isinstance(record, DamagedRecord):
                self._failed(record, f"event {position} cannot be read")
                await self._advance(position, self._letter(position, record, 1))
            elif matches(self.pattern, record.topic):
                await self._deal_with(position, record)
            else:
                self._passed(position)
            if position > self.position:  # another process has the name, too, and has not come as far
                return
        if at_end:
            await self._more.wait()

    async def _deal_with(self, position: int, record: Record) -> None:
        """Hand an event to the handler, again if it raises and the subscription has a name; then pass it."""
        if self.name is not None and (cursor := self._log.cursor(self.name)) and cursor.position >= position:
            self._cursor = cursor
            self._passed(cursor.position)
            return
        self._bus.saw(ObservedEdge(record.agent_id, record.topic, self.label))
        tries = 1
        while True:
            error = await self._handed(position, record)
            if self._is_abandoned:
                return
            if error is None or self.name is None or isinstance(error, SnapshotError):
                break
            if self.cancelled:  # the event comes again, to a later subscription of this name
                return
            if tries >= TRIES:
                break
            await self._pause(_PAUSE_MS << (tries - 1))
            tries += 1
        await self._advance(position, None if error is None else self._letter(position, error, tries))

    async def _handed(self, position: int, record: Record) -> BaseException | None:
        """Call the handler with an event of its own copy of the value; return what it raised."""
        self._is_handling = True
        before = None
        try:
            strangers: dict[str, str] = {}
            event = self._log.event(position, record, strangers)
            self._log.strangers.met(strangers, record.topic, self.label)
            delivery = Delivery(self, event)
            before = _handled.set(delivery)
            try:
                if self._is_async:
                    await self._handler(event)
                else:
                    result = await self._pool.run(self._handler, event)
                    if inspect.isawaitable(result):
                        await result
            finally:
                delivery.active = False
        except asyncio.CancelledError as error:
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                raise
            return self._failed(error, f"its handler raised on {record.topic!r}")
        except Exception as error:  # noqa: BLE001 - a handler may raise anything, and harms nobody
            return self._failed(error, f"its handler raised on {record.topic!r}")
        finally:
            self._is_handling = False
            if before is not None:
                _handled.reset(before)
        return None

    def _failed(self, error: BaseException, what: str) -> BaseException:
        self.errors += 1
        self.last_error = error
        _log.warning("subscription %r: %s: %s: %s", self.label, what, type(error).__name__, error, exc_info=error)
        return error

    async def _pause(self, pause_ms: int) -> None:
        over = asyncio.get_running_loop().create_future()
        take_back = self._clock.call_at(self._clock.now_ms() + pause_ms, lambda: _let(over))
        try:
            await over
        finally:
            take_back()

    # Passing events.

    def _letter(self, position: int, error: BaseException, tries: int) -> DeadLetter | None:
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
        """Move past an event that was dealt with; of a named one, on disk."""
        if self.name is not None:
            cursor, ops = self._log.moved(self.name, self._cursor, position)
            more: list[Op] = [self._log.dead_letter_op(letter)] if letter is not None else []
            refused = await self._log.committer.commit([*ops, *more])
            if isinstance(refused, Conflict):  # another process of this name has moved it: go on from there
                self._cursor = self._log.cursor(self.name)
                if self._cursor is None or self._cursor.position < position:
                    self.position = self._cursor.position if self._cursor else position
                    return
                position = self._cursor.position
            elif refused is not None:
                raise refused
            else:
                self._cursor = cursor
        self._passed(position)

    def _passed(self, position: int) -> None:
        self.position = position
        while self._owed and self._owed[0] <= position:
            self._owed.popleft()
        self._bus.moved(self)


async def ended(subscriptions: Iterable[Subscription]) -> None:
    """End the tasks of cancelled subscriptions; leave alone, after a while, those whose handlers do not let them."""
    tasks = {found.task: found for found in subscriptions if found.task is not None}
    for task in tasks:
        task.cancel()
    if tasks:
        _, others = await asyncio.wait(tasks, timeout=_CLOSE_S)
        for task in others:
            tasks[task].abandon()


def _let(place: asyncio.Future[None]) -> None:
    """Let whoever waits go on, unless nobody waits any more."""
    if not place.done():
        place.set_result(None)
