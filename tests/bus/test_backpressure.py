"""Backpressure: publishers wait for room, may be cancelled at any time, and never wait for themselves."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from beluga_graph import BusClosed, BusEvent, EventBus, Subscription


async def turns(count: int = 30) -> None:
    """Let the event loop run other tasks."""
    for _ in range(count):
        await asyncio.sleep(0)


async def gone(*tasks: asyncio.Task[Any]) -> None:
    """Cancel tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


class Gate:
    """A handler that holds each event until it is released."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.places = asyncio.Semaphore(0)

    async def __call__(self, event: BusEvent) -> None:
        await self.places.acquire()
        self.heard.append(event.data)

    def let_go(self, count: int = 1000) -> None:
        """Release some events."""
        for _ in range(count):
            self.places.release()


def waiting_at(bus: EventBus, subscription: Subscription) -> int:
    """Return how many events wait for room in the queue of a subscription."""
    return bus._dispatcher.publishing.count_waiting(subscription._worker.queue)


@pytest.mark.parametrize("where", ["memory", "disk"])
async def test_cancelled_publishers_leave_no_trace(tmp_path: Path, where: str) -> None:
    async with EventBus(None if where == "memory" else tmp_path, max_queue=10) as bus:
        gate = Gate()
        subscription = bus.subscribe("t", gate)
        for number in range(10):
            await bus.publish("t", number)
        for number in range(10, 300):
            publisher = asyncio.create_task(bus.publish("t", number, correlation_id="late", agent_id="p"))
            await turns(3)
            await gone(publisher)
        assert (subscription.queued, waiting_at(bus, subscription)) == (10, 0)
        assert (await bus.trace("late"), bus._dispatcher.publishing.is_empty) == ([], True)
        gate.let_go()
        await bus.drain()
        assert gate.heard == list(range(10))


async def test_a_publisher_cancelled_just_as_there_is_room_has_published_and_is_counted() -> None:
    async with EventBus(max_queue=1) as bus:
        gate = Gate()
        subscription = bus.subscribe("t", gate)
        await bus.publish("t", 0)
        publishers = [asyncio.create_task(bus.publish("t", number)) for number in (1, 2)]
        await turns()
        gate.let_go(1)
        while waiting_at(bus, subscription) == 2:  # noqa: ASYNC110  # no event announces the condition
            await asyncio.sleep(0)
        await gone(publishers[0])
        await turns()
        assert (subscription.queued, waiting_at(bus, subscription)) == (1, 1)
        gate.let_go()
        await publishers[1]
        await bus.drain()
        assert gate.heard == [0, 1, 2]


async def test_publishers_behind_a_cancelled_one_keep_their_order() -> None:
    async with EventBus(max_queue=2) as bus:
        gate = Gate()
        bus.subscribe("t.*", gate)
        publishers = [
            asyncio.create_task(bus.publish(f"t.{number % 2}", number, agent_id="one")) for number in range(12)
        ]
        await turns()
        await gone(publishers[2], publishers[5])
        gate.let_go()
        await asyncio.gather(*publishers, return_exceptions=True)
        await bus.drain()
        assert gate.heard == [0, 1, 3, 4, 6, 7, 8, 9, 10, 11]


async def test_a_publisher_that_waits_for_one_queue_reserves_no_place_in_another() -> None:
    async with EventBus(max_queue=1) as bus:
        slow, fast = Gate(), Gate()
        fast.let_go()
        bus.subscribe("both", slow)
        bus.subscribe("**", fast)
        await bus.publish("both", 0)
        publishers = [asyncio.create_task(bus.publish("both", number)) for number in range(1, 5)]
        await turns()
        async with asyncio.timeout(60):
            for number in range(10, 20):
                await bus.publish("alone", number)
        assert (slow.heard, fast.heard[:1]) == ([], [0])
        slow.let_go()
        await asyncio.gather(*publishers)
        await bus.drain()
        assert slow.heard == [0, 1, 2, 3, 4]
        assert sorted(fast.heard) == [0, 1, 2, 3, 4, *range(10, 20)]


async def test_a_handler_overtakes_publishers_that_wait_for_it() -> None:
    async with EventBus(max_queue=1) as bus:
        heard: list[Any] = []
        go_on = asyncio.Event()

        async def again(event: BusEvent) -> None:
            await go_on.wait()
            heard.append(event.data)
            if event.data == "first":
                await asyncio.gather(*(bus.publish("t", f"inside {n}", agent_id="one") for n in range(3)))

        bus.subscribe("t", again)
        await bus.publish("t", "first", agent_id="one")
        publisher = asyncio.create_task(bus.publish("t", "outside", agent_id="one"))
        await turns()
        go_on.set()
        async with asyncio.timeout(60):
            await publisher
            await bus.drain()
        assert heard == ["first", "inside 0", "inside 1", "inside 2", "outside"]


async def test_waiting_publishers_are_admitted_when_the_subscription_is_cancelled() -> None:
    async with EventBus(max_queue=1) as bus:
        subscription = bus.subscribe("t", Gate())
        publishers = [asyncio.create_task(bus.publish("t", number, correlation_id="all")) for number in range(3000)]
        await turns()
        subscription.cancel()
        await asyncio.gather(*publishers)
        assert [event.data for event in await bus.trace("all")] == list(range(3000))


async def test_closing_a_bus_raises_in_waiting_publishers() -> None:
    async with EventBus(max_queue=1) as bus:
        for pattern in ("t", "**"):
            bus.subscribe(pattern, Gate())
        await bus.publish("t")
        publishers = [asyncio.create_task(bus.publish("t", agent_id="one")) for _ in range(3)]
        await turns()
        await gone(publishers[1])
        await bus.close()
        assert [
            type(found) for found in await asyncio.gather(publishers[0], publishers[2], return_exceptions=True)
        ] == [BusClosed, BusClosed]


TOPICS = ["a", "b", "c.x"]


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(TOPICS), st.sampled_from(["", "p", "q"]), st.integers(-1, 40)), max_size=30),
    st.lists(
        st.tuples(
            st.sampled_from(["a", "b", "c.*", "**"]),
            st.integers(0, 2),
            st.lists(st.tuples(st.sampled_from(TOPICS), st.sampled_from(["", "p"])), max_size=3),
            st.booleans(),
        ),
        max_size=4,
    ),
    st.integers(1, 3),
)
def test_random_publishes_and_cancellations_end_in_order_and_leave_nothing_waiting(
    events: list[tuple[str, str, int]],
    listeners: list[tuple[str, int, list[tuple[str, str]], bool]],
    max_queue: int,
) -> None:
    async def play() -> None:
        async with EventBus(max_queue=max_queue) as bus:
            subscriptions = []
            heard: list[list[tuple[str, str, int]]] = []
            for pattern, slow, follows, at_once in listeners:
                mine: list[tuple[str, str, int]] = []
                heard.append(mine)

                async def handle(
                    event: BusEvent,
                    slow: int = slow,
                    follows: list[tuple[str, str]] = follows,
                    at_once: bool = at_once,
                    mine: list[tuple[str, str, int]] = mine,
                ) -> None:
                    await turns(slow)
                    if event.causation_id == "":
                        mine.append((event.agent_id, event.topic, event.data))
                        speaking = [bus.publish(topic, -1, agent_id=agent) for topic, agent in follows]
                        if at_once:
                            await asyncio.gather(*speaking)
                        else:
                            for each in speaking:
                                await each

                subscriptions.append(bus.subscribe(pattern, handle))
            publishers = []
            async with asyncio.timeout(60):
                for number, (topic, agent, patience) in enumerate(events):
                    task = asyncio.create_task(bus.publish(topic, number, agent_id=agent))
                    publishers.append(task)
                    if patience >= 0:
                        await turns(patience % 5)
                        asyncio.get_running_loop().call_soon(task.cancel)
                await asyncio.gather(*publishers, return_exceptions=True)
                await bus.drain()
            assert bus._dispatcher.publishing.is_empty
            for found in subscriptions:
                queue = found._worker.queue
                assert (found.queued, queue.expected, waiting_at(bus, found), queue.waits_for) == (0, 0, 0, [])
            for mine in heard:
                for who in {found[0] for found in mine if found[0]}:
                    numbers = [number for agent, _, number in mine if agent == who]
                    assert numbers == sorted(numbers)
                for topic in TOPICS:
                    numbers = [number for _, about, number in mine if about == topic]
                    assert numbers == sorted(numbers)

    asyncio.run(play())
