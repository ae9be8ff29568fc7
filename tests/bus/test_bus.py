"""A bus within one process, in memory and on disk: order, isolation, backpressure and causes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from beluga_graph import BusClosed, BusError, BusEvent, EventBus, NotData, Subscription
from beluga_graph.bus import log as bus_log
from stores import StoreClosed


@pytest.fixture(params=["memory", "disk"])
async def bus(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EventBus]:
    async with EventBus(None if request.param == "memory" else tmp_path, max_queue=5) as opened:
        yield opened


async def turns(count: int = 30) -> None:
    """Let the event loop run other tasks."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(holds: Any) -> None:
    """Wait until a condition holds, for at most a minute."""
    async with asyncio.timeout(60):
        while not holds():  # noqa: ASYNC110  # no event announces the condition
            await asyncio.sleep(0.001)


def waiting_at(bus: EventBus, subscription: Subscription) -> int:
    """Return how many events wait for room in the queue of a subscription."""
    return bus._dispatcher.publishing.count_waiting(subscription._worker.queue)


async def test_an_event_reaches_exactly_the_subscriptions_whose_pattern_matches(bus: EventBus) -> None:
    heard: dict[str, list[Any]] = {"exact": [], "wild": [], "other": []}
    bus.subscribe("task.complete", lambda event: heard["exact"].append(event.data))
    bus.subscribe("task.*", lambda event: heard["wild"].append(event.agent_id))
    bus.subscribe("order.**", heard["other"].append)
    await bus.publish(BusEvent(topic="task.complete", agent_id="researcher", data="Research phase finished"))
    await bus.drain()
    assert heard == {"exact": ["Research phase finished"], "wild": ["researcher"], "other": []}


async def test_publish_returns_the_event_with_all_its_fields(bus: EventBus) -> None:
    event = await bus.publish("a.b", {"n": 1}, agent_id="me")
    assert (event.topic, event.data, event.agent_id, event.position) == ("a.b", {"n": 1}, "me", 1)
    assert event.correlation_id == event.id != ""
    assert event.causation_id == ""
    assert await bus.trace(event.id) == [event]


async def test_publishing_again_under_an_id_returns_the_first_event(bus: EventBus) -> None:
    first = await bus.publish("t", {"n": 1}, event_id="x", agent_id="real")
    again = await bus.publish("u", {"n": 2}, event_id="x", agent_id="ghost")
    assert again == first
    both = await asyncio.gather(bus.publish("t", 1, event_id="y"), bus.publish("u", 2, event_id="y", agent_id="ghost"))
    assert both[0] == both[1]
    assert (both[0].topic, both[0].data, both[0].position) == ("t", 1, 2)
    assert [tuple(edge) for edge in bus.observed()] == [("", "t", ""), ("real", "t", "")]


async def test_each_handler_gets_a_copy_of_its_own(bus: EventBus) -> None:
    heard: list[list[int]] = []

    def spoil(event: BusEvent) -> None:
        event.data.append(2)
        heard.append(event.data)

    bus.subscribe("a", spoil)
    bus.subscribe("a", spoil)
    given_data = [1]
    await bus.publish("a", given_data)
    await bus.drain()
    assert (heard, given_data) == ([[1, 2], [1, 2]], [1])


async def test_a_chain_of_three_handlers_shares_a_correlation_id_and_names_its_causes(bus: EventBus) -> None:
    async def hop(event: BusEvent) -> None:
        await asyncio.sleep(0)
        if event.data < 3:
            await bus.publish(f"hop.{event.data + 1}", event.data + 1, agent_id="hop")

    async def from_a_task(event: BusEvent) -> None:
        await asyncio.create_task(hop(event))

    bus.subscribe("hop.0", hop)
    bus.subscribe("hop.1", from_a_task)
    bus.subscribe("hop.2", hop)
    first = await bus.publish("hop.0", 0)
    other = await bus.publish("other")
    await bus.drain()
    chain = await bus.trace(first.correlation_id)
    assert [event.topic for event in chain] == ["hop.0", "hop.1", "hop.2", "hop.3"]
    assert [event.causation_id for event in chain] == ["", *(event.id for event in chain[:3])]
    assert await bus.trace(other.id) == [other]


async def test_given_ids_win_over_those_of_the_handler(bus: EventBus) -> None:
    async def answer(event: BusEvent) -> None:
        await bus.publish("b", correlation_id="mine", causation_id="why")

    bus.subscribe("a", answer)
    await bus.publish("a")
    await bus.drain()
    (event,) = await bus.trace("mine")
    assert event.causation_id == "why"


async def test_concurrent_publishes_under_one_id_publish_once(bus: EventBus) -> None:
    heard: list[int] = []
    bus.subscribe("a", lambda event: heard.append(event.data))
    events = await asyncio.gather(*(bus.publish("a", n, event_id="one") for n in range(5)))
    again = await bus.publish(BusEvent(topic="a", id="one", data=9))
    await bus.drain()
    assert heard == [0]
    assert {event.position for event in (*events, again)} == {1}


async def test_a_handler_that_raises_is_counted_and_affects_no_other(
    bus: EventBus, caplog: pytest.LogCaptureFixture
) -> None:
    heard: list[int] = []

    def refuse(event: BusEvent) -> None:
        raise ValueError(event.data)

    async def cancel_itself(event: BusEvent) -> None:
        raise asyncio.CancelledError

    bad, odd = bus.subscribe("a", refuse), bus.subscribe("a", cancel_itself)
    good = bus.subscribe("a", lambda event: heard.append(event.data))
    for number in range(3):
        await bus.publish("a", number)
    await bus.drain()
    assert heard == [0, 1, 2]
    assert (bad.errors, repr(bad.last_error)) == (3, "ValueError(2)")
    assert (odd.errors, type(odd.last_error)) == (3, asyncio.CancelledError)
    assert (good.errors, good.last_error) == (0, None)
    assert "subscription 'refuse': its handler raised on 'a': ValueError: 0" in caplog.text


async def test_a_handler_that_hangs_delays_no_other(bus: EventBus) -> None:
    heard: list[int] = []
    go_on = threading.Event()
    bus.subscribe("a", lambda _: go_on.wait(60))
    bus.subscribe("a", lambda event: heard.append(event.data))
    for number in range(5):
        await bus.publish("a", number)
    await until(lambda: heard == [0, 1, 2, 3, 4])
    go_on.set()
    await bus.drain()


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(st.tuples(st.sampled_from("pq"), st.sampled_from(["a", "b.c"])), max_size=40),
    st.lists(st.tuples(st.sampled_from(["a", "b.*", "**"]), st.integers(0, 3), st.booleans()), max_size=4),
)
def test_each_subscription_gets_all_events_in_the_order_of_each_publisher(
    events: list[tuple[str, str]], listeners: list[tuple[str, int, bool]]
) -> None:
    async def play() -> None:
        heard: list[list[tuple[str, str, int]]] = [[] for _ in listeners]
        async with EventBus(max_queue=3) as bus:
            for (pattern, slow, raises), list_ in zip(listeners, heard, strict=True):

                async def handle(event: BusEvent, slow: int = slow, raises: bool = raises, list_: Any = list_) -> None:
                    await turns(slow)
                    list_.append((event.agent_id, event.topic, event.data))
                    if raises:
                        raise ValueError

                bus.subscribe(pattern, handle)
            await asyncio.gather(
                *(bus.publish(topic, n, agent_id=publisher) for n, (publisher, topic) in enumerate(events))
            )
            await bus.drain()
        for (pattern, *_), list_ in zip(listeners, heard, strict=True):
            wanted = [
                (publisher, topic, n)
                for n, (publisher, topic) in enumerate(events)
                if pattern in (topic, "**") or (pattern == "b.*" and topic == "b.c")
            ]
            assert sorted(list_, key=lambda found: found[2]) == wanted
            for each in "pq":
                assert [found for found in list_ if found[0] == each] == [found for found in wanted if found[0] == each]

    asyncio.run(play())


async def test_publish_waits_while_a_queue_is_full(bus: EventBus) -> None:
    gate = asyncio.Semaphore(0)
    heard: list[int] = []

    async def slow(event: BusEvent) -> None:
        await gate.acquire()
        heard.append(event.data)

    subscription = bus.subscribe("a", slow)
    published: list[int] = []

    async def publish_all() -> None:
        for number in range(12):
            await bus.publish("a", number)
            published.append(number)

    publishing = asyncio.create_task(publish_all())
    await until(lambda: len(published) == 5 and waiting_at(bus, subscription) == 1)
    await bus.publish("b")  # no subscription, so no wait
    await turns()
    assert (published, subscription.queued) == ([0, 1, 2, 3, 4], 5)
    gate.release()
    await until(lambda: len(published) == 6 and waiting_at(bus, subscription) == 1)
    assert subscription.queued == 5
    for _ in range(11):
        gate.release()
    await publishing
    await bus.drain()
    assert (heard, subscription.queued) == (list(range(12)), 0)


async def test_a_handler_never_waits_for_its_own_queue(bus: EventBus) -> None:
    heard: list[int] = []

    async def multiply(event: BusEvent) -> None:
        heard.append(event.data)
        if event.data == 0:
            for number in range(1, 30):
                await bus.publish("a", number)

    bus.subscribe("a", multiply)
    async with asyncio.timeout(60):
        await bus.publish("a", 0)
        await bus.drain()
    assert heard == list(range(30))


async def test_handlers_that_publish_to_each_other_do_not_deadlock(bus: EventBus) -> None:
    heard = {"a": 0, "b": 0, "c": 0}
    follows = {"a": "b", "b": "c", "c": "a"}

    async def flood(event: BusEvent) -> None:
        heard[event.topic] += 1
        if event.data < 3:
            for _ in range(4):
                await bus.publish(follows[event.topic], event.data + 1)

    for topic in follows:
        bus.subscribe(topic, flood)
    async with asyncio.timeout(60):
        await asyncio.gather(*(bus.publish(topic, 0) for topic in follows for _ in range(2)))
        await bus.drain()
    assert heard == dict.fromkeys(follows, 2 * (1 + 4 + 16 + 64))


async def test_drain_waits_for_events_that_handlers_publish(bus: EventBus) -> None:
    heard: list[int] = []

    async def count(event: BusEvent) -> None:
        await turns(5)
        heard.append(event.data)
        if event.data < 20:
            await bus.publish("a", event.data + 1)

    bus.subscribe("a", count)
    await bus.publish("a", 0)
    await bus.drain()
    assert heard == list(range(21))
    await bus.drain()


async def test_drain_and_close_inside_a_handler_are_refused(bus: EventBus) -> None:
    async def drain(event: BusEvent) -> None:
        await bus.drain()

    async def close(event: BusEvent) -> None:
        await bus.close()

    first, second = bus.subscribe("a", drain), bus.subscribe("a", close)
    await bus.publish("a")
    await bus.drain()
    for subscription, verb in ((first, "drain"), (second, "close")):
        assert isinstance(subscription.last_error, BusError)
        assert (
            str(subscription.last_error) == f"{verb}() within the handler of 'a' would wait for itself: call it outside"
        )


async def test_a_cancelled_subscription_gets_no_more_events_and_releases_its_publishers(bus: EventBus) -> None:
    heard: list[int] = []
    go_on = asyncio.Event()

    async def slow(event: BusEvent) -> None:
        heard.append(event.data)
        await go_on.wait()
        heard.append(-event.data)

    subscription = bus.subscribe("a", slow)
    publishing = asyncio.gather(*(bus.publish("a", number) for number in range(1, 9)))
    await until(lambda: heard == [1] and subscription.queued == 5)
    subscription.cancel()
    subscription.cancel()
    await publishing
    go_on.set()
    await until(lambda: heard == [1, -1])
    await bus.publish("a", 9)
    await bus.drain()
    assert heard == [1, -1]


async def test_a_handler_may_cancel_its_own_subscription(bus: EventBus) -> None:
    heard: list[int] = []

    async def once(event: BusEvent) -> None:
        subscription.cancel()
        await asyncio.sleep(0)
        heard.append(event.data)

    subscription = bus.subscribe("a", once)
    for number in range(3):
        await bus.publish("a", number)
    await until(lambda: heard)
    await bus.drain()
    assert (heard, subscription.errors) == ([0], 0)


async def test_close_leaves_no_task_and_later_calls_raise(tmp_path: Path) -> None:
    before = asyncio.all_tasks()
    for store in (None, tmp_path / "store"):
        bus = EventBus(store, max_queue=1)

        async def hang(event: BusEvent) -> None:
            await asyncio.Event().wait()

        idle, busy = bus.subscribe("idle", hang), bus.subscribe("a", hang)
        left = bus.subscribe("a", hang)
        publishing = [asyncio.create_task(bus.publish("a", number)) for number in range(3)]
        await until(lambda bus=bus, busy=busy: busy.queued == 1 and waiting_at(bus, busy))
        draining = asyncio.create_task(bus.drain())
        await asyncio.sleep(0)
        left.cancel()
        await bus.close()
        await bus.close()
        first, *others = await asyncio.gather(*publishing, return_exceptions=True)
        assert isinstance(first, BusEvent)
        assert [type(found) for found in others] == [BusClosed, BusClosed]  # these are not published
        with pytest.raises(BusClosed, match="before everything was handled"):
            await draining
        assert asyncio.all_tasks() == before
        assert idle.cancelled
        for verb in (bus.publish("a"), bus.drain(), bus.trace("x"), bus.dead_letters()):
            with pytest.raises(BusClosed):
                await verb
        with pytest.raises(BusClosed):
            bus.subscribe("a", print)


class Report(BaseModel):
    """A class whose instances are published."""

    pages: int


async def test_an_instance_of_an_unknown_class_cannot_be_published(bus: EventBus) -> None:
    heard: list[Report] = []
    bus.subscribe("a", lambda event: heard.append(event.data))
    with pytest.raises(NotData, match=r"it was published to 'a': make classes known by bus.register"):
        await bus.publish("a", Report(pages=3))
    bus.register(Report)
    await bus.publish("a", Report(pages=3))
    await bus.drain()
    assert heard == [Report(pages=3)]


@pytest.mark.parametrize("field", ["agent_id", "id", "correlation_id", "causation_id"])
async def test_an_id_that_is_not_text_is_refused(bus: EventBus, field: str) -> None:
    with pytest.raises(TypeError, match="give a str"):
        await bus.publish(BusEvent(topic="a", **{field: 7}))


async def test_an_event_and_its_fields_are_not_accepted_together(bus: EventBus) -> None:
    with pytest.raises(TypeError, match="not both"):
        await bus.publish(BusEvent(topic="a"), "data")


async def test_a_bus_in_memory_forgets_the_oldest_events_but_none_that_is_still_to_be_handled(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(bus_log, "REMEMBERED", 20)
    monkeypatch.setattr(bus_log, "_SLACK", 10)
    go_on = asyncio.Event()
    heard: list[int] = []

    async def slow(event: BusEvent) -> None:
        await go_on.wait()
        heard.append(event.data)

    async with EventBus() as bus:
        bus.subscribe("a", slow)
        for number in range(300):
            await bus.publish("b" if number % 50 else "a", number, correlation_id="all")
        assert len(await bus.trace("all")) <= 20 + 10 + 6
        go_on.set()
        await bus.drain()
        assert heard == [0, 50, 100, 150, 200, 250]
        for number in range(100):
            await bus.publish("b", number, correlation_id="all")
        assert len(await bus.trace("all")) <= 30
        assert sum(1 for _ in bus.store.scan(b"")) < 100


def test_a_bus_may_be_set_up_before_an_event_loop_runs() -> None:
    heard: list[int] = []
    bus = EventBus()
    bus.subscribe("a", lambda event: heard.append(event.data))

    async def main() -> None:
        await bus.publish("a", 1)
        await bus.drain()
        await bus.close()

    asyncio.run(main())
    assert heard == [1]


async def test_sync_handlers_that_hang_leave_a_thread_for_every_other_handler(bus: EventBus) -> None:
    let_go = threading.Event()
    heard: list[Any] = []
    for _ in range(40):
        bus.subscribe("slow", lambda event: let_go.wait(60))
    bus.subscribe("fast", lambda event: heard.append(event.data))
    try:
        await bus.publish("slow")
        await turns()
        await bus.publish("fast", 1)
        await until(lambda: heard)
    finally:
        let_go.set()
    await bus.drain()


class Odd(BaseException):
    """An error that `except Exception` does not catch."""


@pytest.mark.parametrize("how", ["raises", "cancels itself"])
async def test_a_handler_that_ends_its_own_task_blocks_no_publisher(
    bus: EventBus, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def ends(event: BusEvent) -> None:
        if how == "raises":
            raise Odd
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    heard: list[Any] = []
    gone = bus.subscribe("t", ends)
    bus.subscribe("t", lambda event: heard.append(event.data))
    async with asyncio.timeout(60):
        for number in range(20):
            await bus.publish("t", number)
        await bus.drain()
    assert heard == list(range(20))
    assert (gone.cancelled, gone.errors, gone.queued) == (True, 1, 0)
    assert "it gets no more events" in caplog.text


async def test_an_event_of_a_cancelled_publisher_is_handled_at_once() -> None:
    heard: list[Any] = []

    async def hear(event: BusEvent) -> None:
        heard.append(event.data)

    async with EventBus() as bus:
        bus.subscribe("t", hear)
        await turns()
        publisher = asyncio.create_task(bus.publish("t", 1))
        await asyncio.sleep(0)
        publisher.cancel()
        with pytest.raises(asyncio.CancelledError):
            await publisher
        await until(lambda: heard == [1])


def test_a_bus_refuses_a_second_event_loop() -> None:
    bus = EventBus()
    asyncio.run(bus.publish("t"))

    async def use(verb: str) -> None:
        if verb == "publish":
            await bus.publish("t")
        elif verb == "subscribe":
            bus.subscribe("t", print)
        else:
            await bus.drain()

    for verb in ("publish", "subscribe", "drain"):
        with pytest.raises(BusError, match="belongs to the event loop"):
            asyncio.run(use(verb))
    asyncio.run(bus.close())


async def test_only_the_publisher_gets_the_error_for_an_invalid_time(bus: EventBus) -> None:
    wrong: Any = object()
    results = await asyncio.gather(
        bus.publish("a", 1), bus.publish(BusEvent(topic="b", at_ms=wrong)), bus.publish("c", 2), return_exceptions=True
    )
    assert [type(found) for found in results] == [BusEvent, TypeError, BusEvent]


async def test_a_cancelled_close_still_closes_the_bus(tmp_path: Path) -> None:
    let_go = asyncio.Event()

    async def slow_to_end(event: BusEvent) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await let_go.wait()

    bus = EventBus(tmp_path)
    subscription = bus.subscribe("t", slow_to_end)
    await bus.publish("t")
    await turns()
    first = asyncio.create_task(bus.close())
    await turns()
    first.cancel()
    second = asyncio.create_task(bus.close())
    await turns()
    assert (first.cancelled(), second.done(), subscription.cancelled) == (True, False, True)
    let_go.set()
    await second
    with pytest.raises(StoreClosed):
        bus.store.get(b"x")
