"""What waits at a bus: publishers for room in the queues of those who listen, and drains for everything to be handled.

Every event comes through the door, and is appended to the log right there. Those of one topic, of one publisher
with a name, and of one call of a handler go through in the order in which they came. Whoever is in front waits for
the full queues one after the other, without holding a place in any: what is slow keeps nobody from what is not.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Hashable, Sequence

from beluga_graph.bus.log import Appended
from beluga_graph.bus.record import Record
from beluga_graph.bus.subscription import Delivery, Subscription
from beluga_graph.errors import BusClosed

__all__ = ["Door", "Drain", "Turn"]


class Turn:
    """An event on its way into the log."""

    __slots__ = ("admitted", "appended", "concerned", "full", "here", "lanes", "record", "waits_at")

    def __init__(self, record: Record, concerned: Sequence[Subscription], here: Delivery | None) -> None:
        self.record, self.here = record, here
        self.concerned = tuple(concerned)
        """Those whose queues it is for."""
        self.full = deque(concerned)  # those of them of which it does not know that there was room, since it came
        self.admitted: asyncio.Future[None] | None = None  # what its publisher waits for, if it does
        self.appended: asyncio.Future[Appended] | None = None
        """Once it is through the door."""
        self.waits_at: tuple[Subscription, Subscription | None] | None = None  # whose queue is full, for whose handler
        # What a handler publishes is behind nothing but that: else it could wait for somebody who waits for it.
        self.lanes: tuple[Hashable, ...] = (("topic", record.topic), *([record.agent_id] if record.agent_id else ()))
        if self.publisher is not None:
            self.lanes = (here,)

    @property
    def publisher(self) -> Subscription | None:
        """The subscription whose handler publishes it, and so must not wait for itself."""
        return self.here.subscription if self.here is not None and self.here.active else None


class Door:
    """Lets events into the log by `append`, when there is room for them."""

    def __init__(self, append: Callable[[Turn], asyncio.Future[Appended]]) -> None:
        self._append = append
        self._lanes: dict[Hashable, deque[Turn]] = {}
        self._ready: deque[Turn] = deque()  # in front in all of their lanes, and not looked at yet
        self._is_looking = False

    async def passed(self, turn: Turn) -> Appended:
        """Append an event when it is its turn; if this is cancelled before, never.

        Raises `BusClosed`, and what the log raises.
        """
        for lane in turn.lanes:
            self._lanes.setdefault(lane, deque()).append(turn)
        self._look([turn])
        if turn.appended is None:
            turn.admitted = asyncio.get_running_loop().create_future()
            try:
                await turn.admitted
            finally:
                if turn.appended is None:
                    self._call_away(turn)
                    self._leave(turn)
        assert turn.appended is not None
        return await asyncio.shield(turn.appended)  # it will be in the log, whether its publisher waits or not

    def moved(self, target: Subscription) -> None:
        """There may be room in a queue."""
        while target.waiting and target.has_room:
            turn = target.waiting[0]
            self._call_away(turn)
            self._look([turn])

    def close(self) -> None:
        """Turn away all who wait."""
        turns = {id(turn): turn for lane in self._lanes.values() for turn in lane}
        self._lanes.clear()
        for turn in turns.values():
            self._call_away(turn)
            if turn.admitted is not None and not turn.admitted.done():
                turn.admitted.set_exception(
                    BusClosed("the bus was closed before there was room: the event is not published")
                )

    def _look(self, turns: Sequence[Turn]) -> None:
        """Let in those who are in front, and who come to be so by that, as far as there is room."""
        self._ready.extend(turns)
        if self._is_looking:
            return
        self._is_looking = True
        try:
            while self._ready:
                turn = self._ready.popleft()
                if self._is_in_front(turn) and turn.waits_at is None and self._has_room(turn):
                    self._admit(turn)
        finally:
            self._is_looking = False

    def _is_in_front(self, turn: Turn) -> bool:
        return turn.appended is None and all(self._lanes[lane][0] is turn for lane in turn.lanes)

    def _has_room(self, turn: Turn) -> bool:
        """Tell whether each queue has had room for it; else wait at the next one that has not."""
        while turn.full:
            target, publisher = turn.full[0], turn.publisher
            if not target.has_room and not (publisher is not None and target.depends_on(publisher)):
                target.waiting.append(turn)
                turn.waits_at = target, publisher
                if publisher is not None:
                    publisher.waits_for.append(target)
                return False
            turn.full.popleft()
        return True

    def _admit(self, turn: Turn) -> None:
        for target in turn.concerned:
            target.expected += 1
        turn.appended = self._append(turn)
        turn.appended.add_done_callback(lambda _: self._arrived(turn))
        if turn.admitted is not None and not turn.admitted.done():
            turn.admitted.set_result(None)
        self._leave(turn)

    def _arrived(self, turn: Turn) -> None:
        for target in turn.concerned:
            target.expected -= 1
            self.moved(target)

    def _call_away(self, turn: Turn) -> None:
        """Let it wait at no queue."""
        if turn.waits_at is None:
            return
        target, publisher = turn.waits_at
        turn.waits_at = None
        target.waiting.remove(turn)
        if publisher is not None:
            publisher.waits_for.remove(target)

    def _leave(self, turn: Turn) -> None:
        """Give up its place in its lanes, and look at those behind it."""
        for lane in turn.lanes:
            behind = self._lanes.get(lane)
            if behind is None:  # closed
                continue
            behind.remove(turn)
            if behind:
                self._look([behind[0]])
            else:
                del self._lanes[lane]


class Drain:
    """Somebody who waits until everything up to a position is handled."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.over: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def look(self, subscriptions: Sequence[Subscription]) -> None:
        """See whether everything is."""
        if not self.over.done() and all(found.position >= self.target for found in subscriptions):
            self.over.set_result(None)

    def fail(self, error: Exception) -> None:
        """It never will be."""
        if not self.over.done():
            self.over.set_exception(error)
