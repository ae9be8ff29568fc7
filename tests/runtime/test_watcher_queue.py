"""The queue of a watcher: it is bounded, and a gap counts the live events that were lost."""

import asyncio

import pytest

from beluga_graph.events import Event, make_event
from beluga_graph.runtime import watcher as watcher_module
from beluga_graph.runtime.watcher import Gap, Watcher


def live(text: str) -> Event:
    return make_event(type="text", run_id="r", text=text)


def stored(seq: int) -> Event:
    return make_event(type="node_finished", run_id="r", seq=seq)


async def drain(watcher: Watcher) -> list[Event | Gap]:
    watcher.close()
    found = []
    while (item := await watcher.get()) is not None:
        found.append(item)
    return found


async def test_a_watcher_returns_events_in_order_and_then_the_end() -> None:
    watcher, events = Watcher(), [live("a"), stored(1), live("b")]
    for event in events:
        watcher.put(event)
    assert await drain(watcher) == events
    assert await watcher.get() is None


async def test_live_events_without_room_are_counted_in_one_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "EVENTS_MOST", 2)
    watcher = Watcher()
    for text in "abcde":
        watcher.put(live(text))
    first, second, gap = await drain(watcher)
    assert isinstance(gap, Gap)
    assert (first, second) == (live("a"), live("b"))
    assert (gap.lost, gap.until) == (3, 0)


async def test_stored_events_without_room_leave_a_gap_up_to_the_last_of_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "STORED_MOST", 2)
    watcher = Watcher()
    for seq in range(1, 6):
        watcher.put(stored(seq))
    *kept, gap = await drain(watcher)
    assert isinstance(gap, Gap)
    assert kept == [stored(1), stored(2)]
    assert (gap.lost, gap.until) == (0, 5)


async def test_a_stored_event_that_was_read_makes_room_for_another(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watcher_module, "STORED_MOST", 1)
    watcher = Watcher()
    for seq in (1, 2):
        watcher.put(stored(seq))
        assert await watcher.get() == stored(seq)
    assert await drain(watcher) == []


async def test_skip_leaves_a_gap_for_later_steps_only() -> None:
    watcher = Watcher()
    watcher.since = 3
    watcher.skip(3)
    watcher.skip(7)
    (gap,) = await drain(watcher)
    assert isinstance(gap, Gap)
    assert (watcher.since, gap.until) == (7, 7)


@pytest.mark.parametrize("wake", ["put", "close"])
async def test_a_reader_waits_for_the_next_event_or_the_end(wake: str) -> None:
    watcher = Watcher()
    reader = asyncio.ensure_future(watcher.get())
    await asyncio.sleep(0)
    assert not reader.done()
    if wake == "put":
        watcher.put(live("a"))
    else:
        watcher.close()
    assert await reader == (live("a") if wake == "put" else None)


async def test_an_opened_watcher_expects_events_again() -> None:
    watcher = Watcher()
    watcher.close()
    watcher.open()
    watcher.put(stored(1))
    assert await drain(watcher) == [stored(1)]
