"""The log reports a handler that gets `Unregistered` in place of an instance, and names the remedy."""

from __future__ import annotations

import logging
from dataclasses import dataclass

import pytest
from pydantic import BaseModel

from beluga_graph import BusEvent, EventBus
from beluga_graph.bus import unregistered
from beluga_graph.codec import Unregistered
from stores import MemoryStore


@dataclass(frozen=True)
class Order:
    """An order of a customer."""

    n: int


class Invoice(BaseModel):
    """The price of an order."""

    order: Order


async def published(*topics: str) -> MemoryStore:
    """Return a store with events whose classes are known to their publisher."""
    store = MemoryStore()
    async with EventBus(store) as bus:
        bus.register(Order, Invoice)
        for topic in topics:
            await bus.publish(topic, {"order": Order(1), "more": [Order(2), Order(3)]})
            await bus.publish(topic, Invoice(order=Order(4)))
    return store


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "beluga_graph.bus"]


async def test_a_class_that_is_not_registered_here_is_logged_once_for_each_topic(
    caplog: pytest.LogCaptureFixture,
) -> None:
    heard: list[BusEvent] = []
    async with EventBus(await published("orders", "orders", "other")) as bus:
        bus.subscribe("**", heard.append, name="hears", from_start=True)
        bus.subscribe("**", heard.append, name="hears too", from_start=True)
        with caplog.at_level(logging.WARNING):
            await bus.drain()
    assert len(heard) == 12
    assert heard[0].data == {"order": Unregistered(f"{__name__}:Order", {"n": 1}), "more": heard[0].data["more"]}
    told = warnings(caplog)
    assert len(told) == 4
    for name in ("Order", "Invoice"):
        for topic in ("orders", "other"):
            (line,) = [line for line in told if f"on {topic!r} holds a '{__name__}:{name}'" in line]
            assert "its handler is handed an Unregistered instead" in line
            assert line.endswith(f"call bus.register({name}) in this process before it subscribes")


async def test_a_class_that_is_registered_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[BusEvent] = []
    async with EventBus(await published("orders")) as bus:
        bus.register(Order, Invoice)
        bus.subscribe("**", heard.append, from_start=True)
        with caplog.at_level(logging.WARNING):
            await bus.drain()
    assert heard[1].data == Invoice(order=Order(4))
    assert warnings(caplog) == []


async def test_a_class_that_no_longer_fits_is_logged_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    store = await published("orders")
    changed = dataclass(frozen=True)(type("Order", (), {"__annotations__": {"number": int}, "__module__": __name__}))
    async with EventBus(store) as bus:
        bus.register(changed)
        bus.subscribe("**", lambda event: None, from_start=True)
        with caplog.at_level(logging.WARNING):
            await bus.drain()
    (line,) = [line for line in warnings(caplog) if f"holds a '{__name__}:Order'" in line]
    assert "does not fit the current class: it has no field 'n'" in line


async def test_reading_events_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    async with EventBus(store := await published("orders")) as bus:
        with caplog.at_level(logging.WARNING):
            found = [event for _, record in bus._log.after(0, 9) for event in await bus.trace(record.correlation_id)]
    assert [type(event.data) for event in found] == [dict, Unregistered]
    assert warnings(caplog) == []
    store.close()


def test_logged_classes_are_remembered_for_a_bounded_number_of_topics(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unregistered, "_LOGGED_MAX", 3)
    found = unregistered.UnknownClasses()
    with caplog.at_level(logging.WARNING):
        for number in range(9):
            found.report({"m:A": ""}, f"run.{number}", "s")
    assert len(warnings(caplog)) == 3
