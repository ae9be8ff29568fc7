"""The store poller: one loop of looks that runs only while a part of the engine needs it."""

from __future__ import annotations

import asyncio

import pytest
from wrapped_store import until

import beluga_graph.engine.store_poller
from beluga_graph.engine.store_poller import StorePoller


class Part:
    """A part of an engine that records its looks."""

    def __init__(self, name: str, log: list[str], *, needed_looks: int = 1) -> None:
        self._name, self._log, self._left = name, log, needed_looks
        self.error: Exception | None = None
        self.seen: list[Exception] = []

    @property
    def is_needed(self) -> bool:
        return self._left > 0

    def look(self) -> None:
        self._left -= 1
        self._log.append(self._name)
        if self.error is not None:
            raise self.error

    def on_look_failed(self, error: Exception) -> None:
        self.seen.append(error)


@pytest.fixture(autouse=True)
def _quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(beluga_graph.engine.store_poller, "INTERVAL_S", 0.001)


async def test_parts_look_in_the_order_of_their_registration_until_none_needs_a_look() -> None:
    poller, log = StorePoller(), []
    for name, looks in (("first", 1), ("second", 3)):
        poller.register(Part(name, log, needed_looks=looks))
    poller.start()
    await until(lambda: len(log) == 6)
    assert poller._timer is None
    assert log == ["first", "second"] * 3


async def test_a_poller_that_was_not_started_reads_nothing() -> None:
    poller, log = StorePoller(), []
    poller.register(Part("part", log))
    assert poller._timer is None
    assert log == []


async def test_an_error_reaches_every_part_and_stops_the_loop() -> None:
    poller, log = StorePoller(), []
    broken, other = Part("broken", log, needed_looks=9), Part("other", log, needed_looks=9)
    broken.error = OSError("the store is gone")
    poller.register(broken)
    poller.register(other)
    poller.start()
    await until(lambda: bool(other.seen))
    assert poller._timer is None
    assert (log, broken.seen, other.seen) == (["broken"], [broken.error], [broken.error])


async def test_a_caller_that_waits_makes_the_poller_look_once() -> None:
    poller, log = StorePoller(), []
    poller.register(Part("part", log, needed_looks=0))
    await poller.wait_next()
    assert poller._timer is None
    assert log == ["part"]


async def test_a_failed_look_and_a_close_release_the_callers_that_wait() -> None:
    poller, log = StorePoller(), []
    part = Part("part", log)
    part.error = OSError("the store is gone")
    poller.register(part)
    await asyncio.wait_for(poller.wait_next(), 60)
    waiting = asyncio.create_task(poller.wait_next())
    await asyncio.sleep(0)
    poller.close()
    await asyncio.wait_for(waiting, 60)
    await asyncio.wait_for(poller.wait_next(), 60)
    poller.start()
    assert poller._timer is None
    assert log == ["part"]
