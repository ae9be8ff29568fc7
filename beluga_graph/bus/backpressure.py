"""Backpressure: publishers wait for room in the queues of subscriptions, and drains for all events to be handled.

Every event passes through one `PublishQueue`, which appends it to the log. Events of one topic, of one named publisher
and of one call of a handler keep the order in which they were published. The first of them waits for the full queues
one after the other and reserves no place in any. So a slow subscription holds up only publishers to its topics.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence

from beluga_graph.bus.delivery import Delivery, HandlerQueue
from beluga_graph.bus.log import Appended
from beluga_graph.bus.record import Record
from beluga_graph.errors import BusClosed

__all__ = ["Drain", "PendingPublish", "PublishQueue"]


class PendingPublish:
    """An event on its way into the log."""

    __slots__ = ("admitted", "appended", "delivery", "ordering_keys", "record", "targets", "unchecked", "waits_at")

    def __init__(self, record: Record, targets: Sequence[HandlerQueue], delivery: Delivery | None) -> None:
        self.record, self.delivery = record, delivery
        self.targets = tuple(targets)  # queues of the subscriptions that have to handle it
        self.unchecked = deque(targets)  # those whose queue has not yet been seen with room
        self.admitted: asyncio.Future[None] | None = None  # set while its publisher waits for room
        self.appended: asyncio.Future[Appended] | None = None  # set once it is given to the log
        self.waits_at: tuple[HandlerQueue, HandlerQueue | None] | None = None  # the full queue, and the publisher's own
        # Events published by a handler queue only behind each other. Otherwise two handlers could deadlock.
        self.ordering_keys: tuple[Hashable, ...] = (delivery,)
        if self.own_queue is None:
            self.ordering_keys = (("topic", record.topic), *([record.agent_id] if record.agent_id else ()))

    @property
    def own_queue(self) -> HandlerQueue | None:
        """The queue of the handler that publishes this event, and that must not wait for itself."""
        delivery = self.delivery
        return delivery.subscriber.queue if delivery is not None and delivery.is_active else None


class PublishQueue:
    """Gives events to the log by `append`, as soon as all queues that they go to have room."""

    def __init__(self, append: Callable[[PendingPublish], asyncio.Future[Appended]]) -> None:
        self._append = append
        self._lanes: dict[Hashable, deque[PendingPublish]] = {}  # by ordering key
        self._waiting: dict[HandlerQueue, deque[PendingPublish]] = {}  # by the full queue that they wait for
        self._ready: deque[PendingPublish] = deque()  # heads of their lanes that are still to be looked at
        self._is_admitting = False

    async def publish(self, pending: PendingPublish) -> Appended:
        """Append an event when it is its turn. If this is cancelled before that, the event is never appended.

        Raises `BusClosed`, and errors of the log.
        """
        for key in pending.ordering_keys:
            self._lanes.setdefault(key, deque()).append(pending)
        self._admit_heads([pending])
        if pending.appended is None:
            pending.admitted = asyncio.get_running_loop().create_future()
            try:
                await pending.admitted
            finally:
                if pending.appended is None:
                    self._stop_waiting(pending)
                    self._leave_lanes(pending)
        assert pending.appended is not None
        return await asyncio.shield(pending.appended)  # it reaches the log even if its publisher is cancelled

    def on_room(self, target: HandlerQueue) -> None:
        """Admit publishers that wait for a queue which may have room now."""
        while target.has_room and (waiting := self._waiting.get(target)):
            pending = waiting[0]
            self._stop_waiting(pending)
            self._admit_heads([pending])

    def count_waiting(self, target: HandlerQueue) -> int:
        """Return how many events wait for room in a queue."""
        return len(self._waiting.get(target, ()))

    @property
    def is_empty(self) -> bool:
        """Whether no event is on its way into the log."""
        return not self._lanes and not self._waiting

    def close(self) -> None:
        """Raise `BusClosed` in all publishers that wait."""
        waiting = {id(pending): pending for lane in self._lanes.values() for pending in lane}
        self._lanes.clear()
        for pending in waiting.values():
            self._stop_waiting(pending)
            if pending.admitted is not None and not pending.admitted.done():
                pending.admitted.set_exception(
                    BusClosed("the bus was closed before there was room: the event is not published")
                )

    def _admit_heads(self, heads: Sequence[PendingPublish]) -> None:
        """Admit the heads of all lanes that have room, including those that become heads as others are admitted."""
        self._ready.extend(heads)
        if self._is_admitting:
            return
        self._is_admitting = True
        try:
            while self._ready:
                pending = self._ready.popleft()
                if self._is_head(pending) and pending.waits_at is None and self._has_room(pending):
                    self._admit(pending)
        finally:
            self._is_admitting = False

    def _is_head(self, pending: PendingPublish) -> bool:
        return pending.appended is None and all(self._lanes[key][0] is pending for key in pending.ordering_keys)

    def _has_room(self, pending: PendingPublish) -> bool:
        """Return whether each target has had room for an event; if not, let it wait for the next one that is full."""
        while pending.unchecked:
            target, own = pending.unchecked[0], pending.own_queue
            if not target.has_room and not (own is not None and target.depends_on(own)):
                self._waiting.setdefault(target, deque()).append(pending)
                pending.waits_at = target, own
                if own is not None:
                    own.waits_for.append(target)
                return False
            pending.unchecked.popleft()
        return True

    def _admit(self, pending: PendingPublish) -> None:
        for target in pending.targets:
            target.expected += 1
        pending.appended = self._append(pending)
        pending.appended.add_done_callback(lambda _: self._on_appended(pending))
        if pending.admitted is not None and not pending.admitted.done():
            pending.admitted.set_result(None)
        self._leave_lanes(pending)

    def _on_appended(self, pending: PendingPublish) -> None:
        for target in pending.targets:
            target.expected -= 1
            self.on_room(target)

    def _stop_waiting(self, pending: PendingPublish) -> None:
        if pending.waits_at is None:
            return
        target, own = pending.waits_at
        pending.waits_at = None
        waiting = self._waiting[target]
        waiting.remove(pending)
        if not waiting:
            del self._waiting[target]
        if own is not None:
            own.waits_for.remove(target)

    def _leave_lanes(self, pending: PendingPublish) -> None:
        """Remove an event from its lanes, and look at the new heads."""
        for key in pending.ordering_keys:
            lane = self._lanes.get(key)
            if lane is None:  # closed
                continue
            lane.remove(pending)
            if lane:
                self._admit_heads([lane[0]])
            else:
                del self._lanes[key]


class Drain:
    """A call of `EventBus.drain`, which waits until all events up to a position are handled."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def check(self, positions: Iterable[int]) -> None:
        """End the wait if every subscription has reached the target; `positions` are where they are."""
        if not self.over.done() and all(position >= self.target for position in positions):
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        """End the wait with an error."""
        if not self.over.done():
            self.over.set_exception(error)
