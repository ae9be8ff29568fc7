"""The queue of a subscription, and handlers that are not flows."""

from __future__ import annotations

from unittest.mock import AsyncMock

from beluga_graph import EventBus
from beluga_graph.bus.delivery import HandlerQueue


def test_a_queue_has_room_until_it_holds_or_expects_as_many_events_as_its_bound() -> None:
    queue = HandlerQueue(2)
    queue.add(1)
    assert queue.has_room
    queue.expected = 1
    assert not queue.has_room
    queue.expected = 0
    queue.add(3)
    assert (queue.has_room, len(queue), queue.positions) == (False, 2, {1, 3})
    queue.remove_up_to(2)
    assert (queue.has_room, queue.positions) == (True, {3})


def test_a_closed_queue_is_empty_and_always_has_room() -> None:
    queue = HandlerQueue(1)
    queue.add(1)
    queue.close()
    queue.expected = 5
    assert (queue.is_closed, queue.has_room, len(queue)) == (True, True, 0)


def test_a_queue_depends_on_itself_and_on_all_queues_that_its_handler_waits_for() -> None:
    first, second, third, other = (HandlerQueue(1) for _ in range(4))
    first.waits_for.append(second)
    second.waits_for += [third, first]
    assert first.depends_on(first)
    assert first.depends_on(third)
    assert not third.depends_on(first)
    assert not first.depends_on(other)


async def test_an_object_that_has_any_attribute_is_a_handler_and_not_a_flow() -> None:
    handler = AsyncMock()
    async with EventBus() as bus:
        bus.subscribe("t", handler)
        await bus.publish("t", 1)
        await bus.drain()
    assert [call.args[0].data for call in handler.await_args_list] == [1]
