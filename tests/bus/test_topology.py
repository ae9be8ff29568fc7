"""The observed topology: complete, stable, bounded, and drawn safely for any label."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from beluga_graph import EventBus
from beluga_graph.bus import topology
from beluga_graph.codec import DamagedRecord
from stores.base import Put


async def test_the_drawing_shows_publishers_topics_and_subscriptions() -> None:
    async with EventBus() as bus:

        async def writer(event: object) -> None:
            await bus.publish("draft.done", agent_id="writer")

        bus.subscribe("task.*", writer)
        bus.subscribe("**", print, name="audit")
        await bus.publish("task.complete", agent_id="researcher")
        await bus.publish("task.complete", agent_id="researcher")
        await bus.drain()
        assert bus.observed() == [
            ("researcher", "task.complete", "audit"),
            ("researcher", "task.complete", "writer"),
            ("writer", "draft.done", "audit"),
        ]
        assert (
            bus.mermaid()
            == """\
flowchart LR
    p0["researcher"]
    p1["writer"]
    t0(["task.complete"])
    t1(["draft.done"])
    s0["audit"]
    s1["writer"]
    p0 --> t0
    t0 --> s0
    t0 --> s1
    p1 --> t1
    t1 --> s0
"""
        )


async def test_a_topic_without_subscription_is_drawn_without_one() -> None:
    async with EventBus() as bus:
        await bus.publish("lost")
        assert bus.observed() == [("", "lost", "")]
        assert bus.mermaid() == 'flowchart LR\n    p0["(no name)"]\n    t0(["lost"])\n    p0 --> t0\n'


HOSTILE = [
    '"]; click p0 "javascript:alert(1)"',
    "<script>",
    "end",
    "a\nb --> c",
    "%%{init}%%",
    "#quot;",
    "\ud800",
    "é" * 500,
]

LABEL = r'"[\w .,:?!()#;-]*"'
HARMLESS = re.compile(
    rf"flowchart LR| {{4}}([pts]\d+ --> [pts]\d+|[ps]\d+\[{LABEL}\]|t\d+\(\[{LABEL}\]\))",
    re.ASCII,
)


@pytest.mark.parametrize("label", HOSTILE, ids=ascii)
async def test_a_hostile_label_stays_a_label(label: str) -> None:
    async with EventBus() as bus:
        await bus.publish("x", agent_id=label)
        if label.isprintable() and len(label) <= 200:
            bus.subscribe("**", print, name=label)
            await bus.publish(label.replace("*", ""))
            await bus.drain()
        for line in bus.mermaid().splitlines():
            assert HARMLESS.fullmatch(line)


async def test_the_number_of_edges_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "EDGES_MAX", 10)
    async with EventBus() as bus:
        for number in range(30):
            await bus.publish(f"topic.{number}")
        assert len(bus.observed()) == 10


async def test_the_number_of_edges_is_bounded_across_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(topology, "EDGES_MAX", 10)
    for process in range(3):
        async with EventBus(tmp_path) as bus:
            for number in range(8):
                await bus.publish(f"topic.{process}.{number}")
            assert len(bus.observed()) == min(10, 8 * (process + 1))
    async with EventBus(tmp_path) as bus:
        assert sum(1 for _ in bus.store.scan(b"o")) == 10


async def test_a_damaged_edge_blocks_no_event(tmp_path: Path) -> None:
    async with EventBus(tmp_path) as bus:
        await bus.publish("a")
        await bus.drain()
    async with EventBus(tmp_path) as bus:
        [key] = [key for key, _ in bus.store.scan(b"o")]
        bus.store.commit(Put(key, b"damage"))
        heard: list[str] = []
        bus.subscribe("b", lambda event: heard.append(event.topic))
        await bus.publish("b")
        await bus.drain()
        assert heard == ["b"]
        with pytest.raises(DamagedRecord):
            bus.observed()
