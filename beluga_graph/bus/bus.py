"""`EventBus`: what a user holds. Publishes to topics, hands events to whoever subscribed, and remembers both."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import TYPE_CHECKING, Any, Self

from beluga_graph.bus.backpressure import Door, Drain, Turn
from beluga_graph.bus.event import BusEvent, DeadLetter, ObservedEdge
from beluga_graph.bus.flow_runs import handler_of
from beluga_graph.bus.log import Appended, Log
from beluga_graph.bus.record import Record, recorded, relayed
from beluga_graph.bus.subscription import Delivery, Handler, Subscription, check_name, ended, handled_now
from beluga_graph.bus.topology import Topology, drawn
from beluga_graph.clock import Clock, check_clock
from beluga_graph.codec import Codec, NameTaken, Registry
from beluga_graph.errors import BusClosed, BusError
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.policy import require_at_least_one
from beluga_graph.storage.outbox_records import Message
from beluga_graph.topics import check_pattern, matches
from stores import LMDBStore, MemoryStore
from stores.base import Store

if TYPE_CHECKING:
    from beluga_graph.engine.engine import Engine
    from beluga_graph.flows.flow import Flow

__all__ = ["EventBus"]

_LOOK_S = 0.08  # between two looks for what other processes published


class EventBus:
    """Lets agents, runs and programs speak by topics without knowing each other.

    `store` is `None` for a bus in memory, which remembers the last 10,000 events; or a path or a `Store` for one
    that lasts, whose events other processes with the same store see within a tenth of a second.

    | subscription       | an event is handled     | by a bus in memory         | by one that lasts                |
    |--------------------|-------------------------|----------------------------|----------------------------------|
    | without a `name`   | at most once            | from now on                | from now on                      |
    | with a `name`      | at least once, 5 tries  | as long as the bus is open | also what came while it was down |

    Each subscription walks at its own pace, in the order of publishing; a handler that raises is logged and
    counted in `subscription.errors`. When one of this process is `max_queue` events behind, `publish` waits for it;
    those of other processes hold up nobody. Use it as `async with EventBus(…) as bus`; leaving does not wait for
    handlers: `await bus.drain()` does.
    """

    def __init__(
        self,
        store: Store | str | os.PathLike[str] | None = None,
        *,
        clock: Clock | None = None,
        max_queue: int = 1000,
    ) -> None:
        require_at_least_one("max_queue", max_queue)
        in_memory = store is None
        self._opened_here = store is None or isinstance(store, str | os.PathLike)
        if store is None:
            store = MemoryStore()
        elif isinstance(store, str | os.PathLike):
            store = LMDBStore(store)
        self.store = store
        self._clock = check_clock(clock)
        self._registry = Registry()
        self._codec = Codec(self._registry)
        self._log = Log(store, self._codec, forgets=in_memory)
        self._log.grown = self._wake
        self._log.owed = lambda: set().union(*(found.owed for found in self._subscriptions))
        self._observed = Topology(store)
        # A thread for each subscription whose handler is sync, and no fewer: one that hangs has only its own.
        self._pool = DaemonPool(sys.maxsize, name="beluga-graph-bus")
        self._max_queue = max_queue
        self._subscriptions: list[Subscription] = []
        self._leaving: set[Subscription] = set()  # cancelled ones whose handler is under way
        self._drains: list[Drain] = []
        self._door = Door(self._enter)
        self._looking: asyncio.TimerHandle | None = None
        self._looks = not in_memory
        self._seen = 0  # the last position that subscriptions were woken for
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the only one that it is used in

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop handling; what a named subscription has not handled comes again. Idempotent.

        A handler that does not end when it is cancelled is left alone after 5 seconds.
        """
        self._refuse_inside("close")
        if self._ending is None:
            self._closed = True
            self._ending = asyncio.get_running_loop().create_task(self._end())
        await asyncio.shield(self._ending)  # whoever asks for it may be cancelled; a store left open is of no use

    async def _end(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
        self._door.close()
        for drain in self._drains:
            drain.fail(BusClosed("the bus was closed before everything was handled"))
        for subscription in list(self._subscriptions):
            subscription.cancel()
        await ended(self._leaving)
        await self._log.close()
        self._pool.close()
        if self._opened_here:
            self.store.close()

    # Speaking.

    async def publish(
        self,
        topic: str | BusEvent,
        data: Any = None,
        *,
        agent_id: str = "",
        correlation_id: str | None = None,
        causation_id: str | None = None,
        event_id: str | None = None,
    ) -> BusEvent:
        """Publish an event and return it as it was published; a durable bus has it on disk then.

        From within a handler it is correlated with the event handled, and caused by it. An `event_id` that was
        published before publishes nothing; returned is the event of the first time. Waits for subscriptions of this
        process that are far behind; but never a handler for itself, also not in the end. Cancelled while it waits,
        it publishes nothing; cancelled after that, it has published: give an `event_id` to try again.

        Raises `BadTopic`, `NotData` for data that cannot be stored (see `register`), `BusClosed`, `StoreError`;
        `BusError` in another event loop, or thread, than the one that the bus was first used in.
        """
        if isinstance(topic, BusEvent):
            if data is not None or agent_id or correlation_id or causation_id or event_id:
                msg = "publish takes an event, or a topic and what belongs to it, not both"
                raise TypeError(msg)
            event = topic
        else:
            event = BusEvent(
                topic=topic,
                data=data,
                agent_id=agent_id,
                id=event_id or "",
                correlation_id=correlation_id or "",
                causation_id=causation_id or "",
            )
        here = self._here()
        record = recorded(event, self._codec, here.event if here else None, self._clock.now_ms())
        appended = await self._append(record)
        return self._log.event(appended.position, appended.record)

    async def relay(self, message: Message) -> None:
        """Publish what an engine's outbox holds, under the id that it has there. For engines."""
        await self._append(relayed(message))

    def register(self, *classes: Any) -> None:
        """Make classes known whose instances are published, or handled: in each process that does. Raises `NameTaken`.

        The classes that the flows of an engine name are known to its bus. A handler is handed `Unregistered` for an
        instance of any other, so that it may hear topics whose classes it has not; the log says so once for each topic.
        """
        for found in classes:
            self._registry.add(found)

    def learn(self, registry: Registry) -> None:
        """Know the classes that a flow names; of two of one name, the first. For engines."""
        for entry in registry.entries():
            try:
                self._registry.add(entry.cls)
            except NameTaken:  # what does not fit the first one is handed over as `Unregistered`
                continue

    # Listening.

    def subscribe(
        self,
        pattern: str,
        handler: Handler | Flow,
        *,
        name: str | None = None,
        from_start: bool = False,
        engine: Engine | None = None,
    ) -> Subscription:
        """Hand the events of topics that a pattern chooses to `handler(event)`, one after the other.

        In a pattern `*` is one part of a topic and `**` any number. A sync handler runs in a thread. A `name` has
        its place in the bus's store: it begins now, or with the whole log if `from_start`, and goes on where it
        was whenever it is subscribed again. Its place is moved after the handler returned, so after a crash the
        event comes again; when the handler has raised 5 times, the event becomes a dead letter. If two processes
        subscribe under one name, each event is handled by one of them at least, sometimes by both.

        A flow is a handler, too, with the `engine` to run on: an event starts one run, however often it is delivered.
        Its input is the event's data, `ctx.context["event"]` has topic, id and agent, and its id is `name:event_id`;
        the flow's name serves if none is given. The event is handled once the run is on disk: the engine does the rest.

        Raises `BadTopic`, `BusClosed`; `BusError` for a name that is subscribed here, or cannot be one; `TypeError`
        for a flow without an engine; `GraphError`.
        """
        self._check_open()
        self._check_loop()
        check_pattern(pattern)
        handler, name = handler_of(self, handler, name, engine)
        position = 0 if from_start else self._log.tail()
        cursor = None
        if name is not None:
            self._check_name(name)
            cursor = self._log.cursor(name) or self._log.placed(name, position)
            position = cursor.position
        about = pattern, handler, name, position, cursor, self._max_queue
        subscription = Subscription(self, self._log, self._clock, self._pool, *about)
        self._subscriptions.append(subscription)
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # it begins with the first thing that is done in a loop
            return subscription
        self._begin()
        return subscription

    async def drain(self) -> None:
        """Return when everything published so far, and what its handlers published in turn, has been handled here.

        Raises `BusClosed` if the bus is closed before, `BusError` from within a handler.
        """
        self._check_open()
        self._refuse_inside("drain")
        self._begin()
        drain = Drain(self._log.tail())
        self._drains.append(drain)
        try:
            self._wake()
            drain.look(self._subscriptions)
            await drain.over
        finally:
            self._drains.remove(drain)

    # Looking.

    async def trace(self, correlation_id: str) -> list[BusEvent]:
        """Return the events of a correlation id, in order. Raises `DamagedRecord`."""
        self._check_open()
        return self._log.trace(correlation_id)

    async def dead_letters(self, name: str | None = None) -> list[DeadLetter]:
        """Return what the handlers of a named subscription, or of all, refused for good. Raises `DamagedRecord`."""
        self._check_open()
        return self._log.dead_letters(name)

    def observed(self) -> list[ObservedEdge]:
        """Return who was seen to publish to which topic and who heard it, by any process on the store; sorted."""
        self._check_open()
        return self._observed.edges()

    def mermaid(self) -> str:
        """Return what was observed as a Mermaid flowchart."""
        return drawn(self.observed())

    # Keeping it small.

    async def prune(self, *, older_than: float) -> int:
        """Delete the events that are older, in seconds, and that nobody has still to handle; return how many.

        They go with their dead letters. Each event stays that a named subscription of any process has still to
        handle, also one that is down; or one without a name of this bus. The last event of all stays, too: the next
        one gets its position from it. A name that nobody subscribes any more keeps all that came after it was last
        here; and one that idles in another process may keep up to 1,000 events of other topics.

        With an event its id is forgotten: what is published under it again is a new event. So give a time that is
        longer than publishers, the outbox of an engine among them, may take to try again. Safe beside other
        processes; a crash leaves nothing half deleted. Raises `ValueError`, `BusClosed`, `StoreError`.
        """
        if not 0 <= older_than < 2**53:
            msg = f"older_than={older_than!r}: give seconds, from 0 on"
            raise ValueError(msg)
        self._check_open()
        self._begin()
        for subscription in self._subscriptions:
            subscription.note()
        await asyncio.sleep(0)  # those that idle write down how far they have come
        await self._log.committer.drain()
        handled = min((found.position for found in self._subscriptions), default=self._log.tail())
        return await self._log.prune(self._clock.now_ms() - round(older_than * 1000), handled)

    # What subscriptions tell.

    def left(self, subscription: Subscription) -> None:
        """A subscription is cancelled; its task is kept in sight until it ends."""
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        if subscription.task is not None and not subscription.task.done():
            self._leaving.add(subscription)
            subscription.task.add_done_callback(lambda _: self._leaving.discard(subscription))
        self.moved(subscription)

    def saw(self, edge: ObservedEdge) -> None:
        """Somebody published to a topic, or was handed an event of it."""
        ops = self._observed.ops(edge)
        if ops:
            self._log.committer.give(ops)

    def moved(self, subscription: Subscription) -> None:
        """A subscription came further, or left: perhaps somebody waits for that."""
        self._door.moved(subscription)
        for drain in self._drains:
            drain.look(self._subscriptions)

    # What the verbs share.

    async def _append(self, record: Record) -> Appended:
        """Append an event, once there is room in the queues of those that it is for."""
        self._check_open()
        self._begin()
        return await self._door.passed(Turn(record, self._hearers(record.topic), self._here()))

    def _enter(self, turn: Turn) -> asyncio.Future[Appended]:
        appended = self._log.append(turn.record)
        appended.add_done_callback(lambda _: self._entered(turn, appended))
        return appended

    def _entered(self, turn: Turn, appended: asyncio.Future[Appended]) -> None:
        """An event is in the log, whoever still waits for that."""
        if appended.cancelled() or appended.exception() is not None or not appended.result().is_new:
            return
        position, record, _ = appended.result()
        self._seen = max(self._seen, position)
        if turn.here is not None:
            for drain in self._drains:
                if (turn.here.event.position or 0) <= drain.target:
                    drain.target = max(drain.target, position)
        self.saw(ObservedEdge(record.agent_id, record.topic, ""))
        for found in self._hearers(record.topic):
            found.owes(position)

    def _hearers(self, topic: str) -> list[Subscription]:
        return [found for found in self._subscriptions if matches(found.pattern, topic)]

    def _here(self) -> Delivery | None:
        """Return the call of a handler of this bus that is publishing, if one is."""
        here = handled_now()
        return here if here is not None and here.subscription.is_of(self) else None

    def _begin(self) -> None:
        """Begin what needs a running loop."""
        if self._closed:
            return
        self._check_loop()
        for subscription in self._subscriptions:
            subscription.begin()
        if self._looks and self._looking is None and self._subscriptions:
            self._looking = asyncio.get_running_loop().call_later(_LOOK_S, self._look)

    def _look(self) -> None:
        """See whether another process has published."""
        self._looking = None
        try:
            tail = self._log.tail()
        except Exception:  # noqa: BLE001 - the subscriptions find out for themselves, and tell
            tail = self._seen + 1
        if tail > self._seen:
            self._seen = tail
            self._wake()
        self._begin()

    def _wake(self) -> None:
        for subscription in self._subscriptions:
            subscription.wake()

    def _check_open(self) -> None:
        if self._closed:
            raise BusClosed("the event bus is closed: make a new one, on the same store if it lasts")

    def _check_loop(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # it is set up before there is one
            return
        if self._loop is not None and self._loop is not loop:
            raise BusError("the event bus belongs to the event loop that used it first: make one for each loop")
        self._loop = loop

    def _check_name(self, name: str) -> None:
        check_name(name)
        if any(found.name == name for found in self._subscriptions):
            raise BusError(f"{name!r} is subscribed here: cancel that subscription first, or choose another name")

    def _refuse_inside(self, verb: str) -> None:
        here = self._here()
        if here is not None and here.active:
            raise BusError(
                f"{verb}() within the handler of {here.event.topic!r} would wait for itself: call it outside"
            )
