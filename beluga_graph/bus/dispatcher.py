"""The dispatcher of a bus: its active subscriptions, and the publishers and drains that wait for them."""

from __future__ import annotations

import asyncio

from beluga_graph.bus.backpressure import Drain, PendingPublish, PublishQueue
from beluga_graph.bus.delivery import Delivery, current_delivery
from beluga_graph.bus.event import ObservedEdge
from beluga_graph.bus.log import Appended, Log
from beluga_graph.bus.record import Record
from beluga_graph.bus.topology import Topology
from beluga_graph.bus.worker import SubscriptionWorker, end_workers
from beluga_graph.errors import BusClosed
from beluga_graph.topics import matches

__all__ = ["Dispatcher"]


class Dispatcher:
    """Appends events to the log, wakes the subscriptions that have to handle them, and notes when they have."""

    def __init__(self, log: Log, topology: Topology) -> None:
        self.workers: list[SubscriptionWorker] = []
        self.publishing = PublishQueue(self._append)
        self.last_seen = 0  # the last position that this process knows to be in the log
        self._leaving: set[SubscriptionWorker] = set()  # cancelled ones whose handler is under way
        self._drains: list[Drain] = []
        self._log, self._topology = log, topology
        log.on_grown = self.wake
        log.unhandled = lambda: set().union(*(worker.queue.positions for worker in self.workers))

    async def publish(self, record: Record) -> Appended:
        """Append an event, once there is room in the queues of the subscriptions that it goes to."""
        targets = [worker.queue for worker in self._subscribed_to(record.topic)]
        return await self.publishing.publish(PendingPublish(record, targets, self.delivery()))

    def delivery(self) -> Delivery | None:
        """Return the call of a handler of this bus that the caller is part of, if any."""
        delivery = current_delivery()
        return delivery if delivery is not None and delivery.subscriber.host is self else None

    def wake(self) -> None:
        """Let every subscription read on."""
        for worker in self.workers:
            worker.wake()

    async def drain(self) -> None:
        """Return when everything published so far, and everything its handlers published in turn, is handled here."""
        drain = Drain(self._log.tail())
        self._drains.append(drain)
        try:
            self.wake()
            drain.check(worker.position for worker in self.workers)
            await drain.over
        finally:
            self._drains.remove(drain)

    def stop(self) -> None:
        """Cancel all subscriptions, and raise `BusClosed` in all publishers and drains that wait."""
        self.publishing.close()
        for drain in self._drains:
            drain.fail(BusClosed("the bus was closed before everything was handled"))
        for worker in list(self.workers):
            worker.cancel()

    async def join(self) -> None:
        """Return when the tasks of cancelled subscriptions have ended, or are abandoned."""
        await end_workers(self._leaving)

    # Reports of the workers.

    def on_cancelled(self, worker: SubscriptionWorker) -> None:
        """Remove a worker from the active ones; remember it until its task ends."""
        if worker in self.workers:
            self.workers.remove(worker)
        if worker.task is not None and not worker.task.done():
            self._leaving.add(worker)
            worker.task.add_done_callback(lambda _: self._leaving.discard(worker))
        self.on_moved(worker)

    def on_moved(self, worker: SubscriptionWorker) -> None:
        """Admit publishers and end drains that waited for a worker."""
        self.publishing.on_room(worker.queue)
        for drain in self._drains:
            drain.check(other.position for other in self.workers)

    def on_observed(self, edge: ObservedEdge) -> None:
        """Add an edge to the observed topology."""
        ops = self._topology.ops(edge)
        if ops:
            self._log.committer.give(ops)

    def _append(self, pending: PendingPublish) -> asyncio.Future[Appended]:
        appended = self._log.append(pending.record)
        appended.add_done_callback(lambda _: self._on_appended(pending, appended))
        return appended

    def _on_appended(self, pending: PendingPublish, appended: asyncio.Future[Appended]) -> None:
        """Called when an event is in the log, also if its publisher does not wait any more."""
        if appended.cancelled() or appended.exception() is not None or not appended.result().is_new:
            return
        position, record, _ = appended.result()
        self.last_seen = max(self.last_seen, position)
        if pending.delivery is not None:
            for drain in self._drains:
                if (pending.delivery.event.position or 0) <= drain.target:
                    drain.target = max(drain.target, position)
        self.on_observed(ObservedEdge(record.agent_id, record.topic, ""))
        for worker in self._subscribed_to(record.topic):
            worker.enqueue(position)

    def _subscribed_to(self, topic: str) -> list[SubscriptionWorker]:
        return [worker for worker in self.workers if matches(worker.pattern, topic)]
