"""Large runs on a server: their histories stay short, and their state continues in new executions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
from servers import Server
from temporalio.api.enums.v1 import EventType
from temporalio.client import WorkflowHistory
from worker_processes import change_options

from beluga_graph import END, START, Agent, Graph, Limits
from beluga_graph.models.messages import Request
from beluga_graph.plan.plan import Compilable
from beluga_graph.temporal import TemporalEngine
from beluga_graph.temporal.mirror.recording import export_history
from beluga_graph.testing import ScriptedModel, ToolCall

PATIENCE_S = 540
SERVER_BYTES = 50_000_000  # of one history
DRAIN_EVENTS = 4 * 300  # of the activities under way, which end before a run continues as new


@asynccontextmanager
async def serving(server: Server, flow: Compilable, **options: Any) -> AsyncIterator[TemporalEngine]:
    engine = TemporalEngine(server.address, task_queue=token_hex(4), **options)
    async with asyncio.timeout(PATIENCE_S), engine, engine.worker([flow]):
        yield engine


async def histories_of(server: Server, run_id: str, continue_events: int) -> list[WorkflowHistory]:
    """Return the histories of a run's executions, which must be short."""
    found = await export_history(await server.connect(), run_id)
    for history in found:
        assert len(history.events) < 3 * continue_events + DRAIN_EVENTS
        assert bytes_of(history) < SERVER_BYTES
    return found


def bytes_of(history: WorkflowHistory) -> int:
    return sum(event.ByteSize() for event in history.events)


def count_activities(histories: Sequence[WorkflowHistory]) -> int:
    scheduled = EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED
    return sum(event.event_type == scheduled for history in histories for event in history.events)


def squares() -> Graph:
    g = Graph("squares")
    g.node(name="square")(lambda item: item * item)
    g.fan_out("each", to="square", over=range, join="all")
    g.join("all", sum)
    g.edge(START, "each")
    g.edge("all", END)
    return g


@pytest.mark.parametrize(("durability", "width", "continue_events"), [("batch", 10_000, 150), ("commit", 2_000, 2_000)])
async def test_a_wide_fan_out_continues_as_new_in_its_midst(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch, durability: Any, width: int, continue_events: int
) -> None:
    change_options(monkeypatch, continue_events=continue_events)
    flow = squares()
    async with serving(temporal_server, flow, durability=durability) as engine:
        run = await engine.start(flow, width)
        assert await run.result() == sum(item * item for item in range(width))
    histories = await histories_of(temporal_server, run.id, continue_events)
    assert len(histories) > 1
    activities = count_activities(histories)
    print(f"{activities} activities in {len(histories)} executions")
    assert activities == width + 2 if durability == "commit" else activities < width / 4


async def test_a_long_loop_of_short_nodes_takes_few_activities(
    temporal_server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    change_options(monkeypatch, continue_events=200)
    turns = 20_000
    flow = Graph("long_loop")
    flow.node(name="add")(lambda value: value + 1)
    flow.edge(START, "add")
    flow.branch("add", lambda value: value < turns, {True: "add", False: END})
    limits = Limits(max_visits=turns, max_steps=turns + 1)
    async with serving(temporal_server, flow, durability="batch") as engine:
        run = await engine.start(flow, 0, limits=limits)
        assert await run.result() == turns
    histories = await histories_of(temporal_server, run.id, 200)
    assert len(histories) > 1
    assert count_activities(histories) < turns / 10


def talking(turns: int) -> Agent:
    """Return an agent that calls a tool in each turn, and reads an answer of 4 KB."""

    def read(page: int) -> str:
        """Return a page."""
        return f"{page}: ".ljust(4_000, "x")

    def answer(request: Request) -> Any:
        done = sum(message.role == "assistant" for message in request.messages)
        return ToolCall("read", {"page": done}) if done < turns else "read"

    return Agent("reader", model=ScriptedModel(answer), tools=[read], max_turns=turns + 1)


async def test_a_conversation_costs_the_same_in_each_turn(temporal_server: Server, tmp_path: Path) -> None:
    sizes = []
    for turns in (20, 60):
        flow = talking(turns)
        async with serving(temporal_server, flow, claims=tmp_path / "claims") as engine:
            run = await engine.start(flow, "read all")
            assert await run.result() == "read"
        sizes.append(sum(map(bytes_of, await export_history(await temporal_server.connect(), run.id))))
    short, long = sizes
    assert long < 3.5 * short
