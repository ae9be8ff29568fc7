"""`EventBus`: publishes events to topics, hands them to subscriptions, and keeps both in a store."""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any, Self

from beluga_graph.bus.delivery import Handler
from beluga_graph.bus.dispatcher import Dispatcher
from beluga_graph.bus.event import BusEvent, DeadLetter, ObservedEdge
from beluga_graph.bus.flow_runs import FlowEngine, handler_of
from beluga_graph.bus.log import Appended, Log
from beluga_graph.bus.record import Record, record_of_event, record_of_message
from beluga_graph.bus.subscription import Subscription, check_name
from beluga_graph.bus.topology import Topology, draw_topology
from beluga_graph.bus.worker import SubscribeRequest, SubscriptionWorker
from beluga_graph.clock import Clock, check_clock
from beluga_graph.codec.errors import NameTaken
from beluga_graph.codec.registry import Registry
from beluga_graph.codec.values import Codec
from beluga_graph.errors import BusClosed, BusError
from beluga_graph.execution.messages import Message
from beluga_graph.execution.thread_pool import DaemonPool
from beluga_graph.plan.plan import Compilable
from beluga_graph.policy import require_at_least_one
from beluga_graph.topics import check_pattern
from stores import LMDBStore, MemoryStore
from stores.base import Store

__all__ = ["EventBus"]

_POLL_S = 0.08  # between two looks for events that other processes published


class EventBus:
    """Connects agents, runs and programs by topics, so that they need not know each other.

    `store` is `None` for a bus in memory, which remembers the last 10,000 events; or a path or a `Store` for a durable
    one, whose events other processes with the same store see within a tenth of a second.

    | subscription       | an event is handled     | by a bus in memory         | by a durable bus                 |
    |--------------------|-------------------------|----------------------------|----------------------------------|
    | without a `name`   | at most once            | from now on                | from now on                      |
    | with a `name`      | at least once, 5 tries  | as long as the bus is open | also events of while it was down |

    Each subscription proceeds at its own pace, in the order of publishing. A handler that raises is logged and counted
    in `subscription.errors`. While a subscription of this process is `max_queue` events behind, `publish` waits for
    it; subscriptions of other processes never hold up a publisher. Use it as `async with EventBus(…) as bus`. Leaving
    the block does not wait for handlers: `await bus.drain()` does.

    Example:
        async with EventBus() as bus:
            bus.subscribe("task.*", lambda event: print(event.topic, event.data))
            await bus.publish("task.done", {"id": 1})
            await bus.drain()

    Attributes:
        store: The store that holds the events.
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
        self._topology = Topology(store)
        self._dispatcher = Dispatcher(self._log, self._topology)
        # One thread for each subscription whose handler is sync: a handler that hangs blocks only its own.
        self._pool = DaemonPool(sys.maxsize, name="beluga-graph-bus")
        self._max_queue = max_queue
        self._poll_timer: asyncio.TimerHandle | None = None
        self._polls = not in_memory
        self._closed = False
        self._ending: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None  # the only event loop that it may be used in

    async def __aenter__(self) -> Self:
        self._begin()
        return self

    async def __aexit__(self, *exc: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Stop handling. A named subscription gets the events that it has not handled at its next start. Idempotent.

        A handler that does not end when it is cancelled is abandoned after 5 seconds.
        """
        self._refuse_inside("close")
        if self._ending is None:
            self._closed = True
            self._ending = asyncio.get_running_loop().create_task(self._end())
        await asyncio.shield(self._ending)  # a cancelled caller must not leave the store open

    async def _end(self) -> None:
        if self._poll_timer is not None:
            self._poll_timer.cancel()
        self._dispatcher.stop()
        await self._dispatcher.join()
        await self._log.close()
        self._pool.close()
        if self._opened_here:
            self.store.close()

    # Publishing.

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

        Within a handler, the event gets the correlation id of the handled event, and that event's id as its cause. An
        `event_id` that was published before publishes nothing; the first event with that id is returned.

        Waits while subscriptions of this process are far behind. A handler never waits for itself, directly or
        indirectly. If the call is cancelled while it waits, nothing is published; if it is cancelled later, the event
        is published: give an `event_id` to be able to try again.

        Raises `BadTopic`, `NotData` for data that cannot be stored (see `register`), `BusClosed`, `StoreError`;
        `BusError` in an event loop or thread other than the one in which the bus was first used.
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
        delivery = self._dispatcher.delivery()
        record = record_of_event(event, self._codec, delivery.event if delivery else None, self._clock.now_ms())
        appended = await self._append(record)
        return self._log.event(appended.position, appended.record)

    async def relay(self, message: Message) -> None:
        """Publish a message of an engine's outbox, under the id that it has there. Engines call this."""
        await self._append(record_of_message(message))

    def register(self, *classes: Any) -> None:
        """Make classes known whose instances are published or handled, in each process that does. Raises `NameTaken`.

        Classes that the flows of an engine name are known to its bus. A handler gets `Unregistered` in place of an
        instance of any other class, so it can subscribe to topics without knowing their classes; the log reports it
        once for each topic.
        """
        for found in classes:
            self._registry.add(found)

    def learn(self, registry: Registry) -> None:
        """Make the classes known that a flow names; of two classes with one name, the first. Engines call this."""
        for entry in registry.entries():
            try:
                self._registry.add(entry.cls)
            except NameTaken:  # an instance that does not fit the first class becomes `Unregistered`
                continue

    # Subscribing.

    def subscribe(
        self,
        pattern: str,
        handler: Handler | Compilable,
        *,
        name: str | None = None,
        from_start: bool = False,
        engine: FlowEngine | None = None,
    ) -> Subscription:
        """Hand each event whose topic matches a pattern to `handler(event)`, one after the other.

        In a pattern, `*` stands for one part of a topic and `**` for any number of parts. A sync handler runs in a
        thread.

        A `name` has a position in the bus's store. It begins now, or at the start of the log if `from_start`, and
        continues where it was whenever it is subscribed again. Its position moves after the handler has returned, so
        after a crash the event comes again. When the handler has raised 5 times, the event becomes a dead letter. If
        two processes subscribe under one name, at least one of them handles each event, and sometimes both do.

        A flow is a handler, too, with the `engine` to run on: an event starts one run, however often it is delivered.
        The run's input is the event's data, `ctx.context["event"]` has its topic, id and agent, and the run's id is
        `name:event_id`. Without a name, the flow's name is used. The event is handled once the run is on disk; the
        engine does the rest.

        Raises `BadTopic`, `BusClosed`; `BusError` for a name that is subscribed here, or is not a valid name;
        `TypeError` for a flow without an engine; `GraphError`.
        """
        self._check_open()
        self._check_loop()
        check_pattern(pattern)
        function, name = handler_of(handler, name, engine, self.learn)
        position = 0 if from_start else self._log.tail()
        cursor = None
        if name is not None:
            self._check_name(name)
            cursor = self._log.cursor(name) or self._log.create_cursor(name, position)
            position = cursor.position
        request = SubscribeRequest(pattern, function, name, position, cursor)
        worker = SubscriptionWorker(
            self._dispatcher, self._log, self._clock, self._pool, request, max_queue=self._max_queue
        )
        self._dispatcher.workers.append(worker)
        try:
            asyncio.get_running_loop()
        except RuntimeError:  # it begins with the first call within an event loop
            return Subscription(worker)
        self._begin()
        return Subscription(worker)

    async def drain(self) -> None:
        """Return when all events published so far are handled here, and all that their handlers published in turn.

        Raises `BusClosed` if the bus is closed before that, `BusError` within a handler.
        """
        self._check_open()
        self._refuse_inside("drain")
        self._begin()
        await self._dispatcher.drain()

    # Inspecting.

    async def trace(self, correlation_id: str) -> list[BusEvent]:
        """Return the events of a correlation id, in order. Raises `DamagedRecord`."""
        self._check_open()
        return self._log.trace(correlation_id)

    async def dead_letters(self, name: str | None = None) -> list[DeadLetter]:
        """Return the dead letters of a named subscription, or of all of them. Raises `DamagedRecord`."""
        self._check_open()
        return self._log.dead_letters(name)

    def observed(self) -> list[ObservedEdge]:
        """Return the publishers and subscriptions seen at each topic, by any process with the store; sorted."""
        self._check_open()
        return self._topology.edges()

    def mermaid(self) -> str:
        """Return the observed edges as a Mermaid flowchart."""
        return draw_topology(self.observed())

    # Pruning.

    async def prune(self, *, older_than: float) -> int:
        """Delete events older than this many seconds that no subscription still has to handle; return their number.

        Their dead letters are deleted, too. An event stays while a named subscription of any process still has to
        handle it, even if that process is down, or an unnamed subscription of this bus. The last event of all stays:
        the next one gets its position from it. A name that is not subscribed any more keeps all events since it was
        last here. An idle subscription in another process may keep up to 1,000 events of other topics.

        The id of a deleted event is forgotten: to publish under it again makes a new event. So give a time longer than
        publishers, and the outbox of an engine, may take to try again. It is safe beside other processes, and a crash
        leaves no event half deleted. Raises `ValueError`, `BusClosed`, `StoreError`.
        """
        if not 0 <= older_than < 2**53:
            msg = f"older_than={older_than!r}: give seconds, from 0 on"
            raise ValueError(msg)
        self._check_open()
        self._begin()
        workers = self._dispatcher.workers
        for worker in workers:
            worker.store_cursor()
        await asyncio.sleep(0)  # idle subscriptions store their positions
        await self._log.committer.drain()
        handled = min((worker.position for worker in workers), default=self._log.tail())
        return await self._log.prune(self._clock.now_ms() - round(older_than * 1000), handled)

    # Helpers.

    async def _append(self, record: Record) -> Appended:
        self._check_open()
        self._begin()
        return await self._dispatcher.publish(record)

    def _begin(self) -> None:
        """Start everything that needs a running event loop."""
        if self._closed:
            return
        self._check_loop()
        for worker in self._dispatcher.workers:
            worker.begin()
        if self._polls and self._poll_timer is None and self._dispatcher.workers:
            self._poll_timer = asyncio.get_running_loop().call_later(_POLL_S, self._poll)

    def _poll(self) -> None:
        """Wake the subscriptions if another process has published."""
        self._poll_timer = None
        dispatcher = self._dispatcher
        try:
            tail = self._log.tail()
        except Exception:  # noqa: BLE001 - the subscriptions meet the same error, and report it
            tail = dispatcher.last_seen + 1
        if tail > dispatcher.last_seen:
            dispatcher.last_seen = tail
            dispatcher.wake()
        self._begin()

    def _check_open(self) -> None:
        if self._closed:
            raise BusClosed("the event bus is closed: make a new one, on the same store if it lasts")

    def _check_loop(self) -> None:
        try:
            loop = asyncio.get_running_loop()
        except RuntimeError:  # the bus is set up outside of any loop
            return
        if self._loop is not None and self._loop is not loop:
            raise BusError("the event bus belongs to the event loop that used it first: make one for each loop")
        self._loop = loop

    def _check_name(self, name: str) -> None:
        check_name(name)
        if any(worker.name == name for worker in self._dispatcher.workers):
            raise BusError(f"{name!r} is subscribed here: cancel that subscription first, or choose another name")

    def _refuse_inside(self, verb: str) -> None:
        delivery = self._dispatcher.delivery()
        if delivery is not None and delivery.is_active:
            raise BusError(
                f"{verb}() within the handler of {delivery.event.topic!r} would wait for itself: call it outside"
            )
