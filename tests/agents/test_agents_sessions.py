"""Sessions: a conversation that continues from run to run, also in another engine."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from agents_checks import assert_valid, last_text, request_texts

from beluga_graph import (
    Agent,
    Context,
    Engine,
    HandoffInput,
    RunConflict,
    RunFailed,
    RunStatus,
    SequentialAgent,
    handoff_to,
)
from beluga_graph.models.messages import Request
from beluga_graph.testing import ScriptedModel, ToolCall
from stores import MemoryStore


async def test_a_conversation_continues_in_another_engine_on_the_same_path(tmp_path: Path) -> None:
    for number, question in enumerate(["one", "two", "three"]):
        model = ScriptedModel([ToolCall("double", {"n": number}), lambda request: f"re: {request_texts(request)[-3]}"])
        async with Engine(tmp_path / "store") as engine:
            output = await engine.execute(Agent("a", model=model, tools=[double]), question, session="s")
        assert output == f"re: {question}"
        assert_valid(model.requests[1].messages)
    assert request_texts(model.requests[0]) == ["one", "", "0", "re: one", "two", "", "2", "re: two", "three"]


def double(n: int) -> int:
    return 2 * n


async def test_sessions_are_separate_by_id_and_by_flow_and_from_runs_without_a_session() -> None:
    models = {name: ScriptedModel(lambda request: "ok") for name in ("a", "b")}
    flows = {name: Agent(name, model=model) for name, model in models.items()}
    async with Engine() as engine:
        await engine.execute(flows["a"], "a1", session="x")
        await engine.execute(flows["a"], "a2", session="y")
        await engine.execute(flows["b"], "b1", session="x")
        await engine.execute(flows["a"], "a3")
        await engine.execute(flows["a"], "a4", session="x")
    assert request_texts(models["a"].requests[-1]) == ["a1", "ok", "a4"]
    assert request_texts(models["a"].requests[2]) == ["a3"]
    assert request_texts(models["b"].requests[0]) == ["b1"]


def desk(script: list[Any], **options: Any) -> tuple[Agent, dict[str, ScriptedModel]]:
    models = {
        "front": ScriptedModel(script),
        "billing": ScriptedModel(lambda request: f"billing: {last_text(request)}"),
    }
    billing = Agent("billing", model=models["billing"], handoffs=lambda: [front])
    front = Agent("front", model=models["front"], handoffs=[handoff_to(billing, **options)])
    return front, models


async def test_after_a_handoff_the_session_continues_with_the_agent_that_answered() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        front, _ = desk([ToolCall("transfer_to_billing")])
        await engine.execute(front, "my invoice", session="s")
    async with Engine(store) as engine:
        front, models = desk([])
        assert await engine.execute(front, "and the other one", session="s") == "billing: and the other one"
        assert models["front"].requests == []
        assert request_texts(models["billing"].requests[0]) == [
            "my invoice",
            "",
            "transferred to billing",
            "billing: transferred to billing",
            "and the other one",
        ]
        assert_valid(models["billing"].requests[0].messages)


async def test_the_first_agent_continues_the_session_of_a_removed_agent() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        front, _ = desk([ToolCall("transfer_to_billing")])
        await engine.execute(front, "hi", session="s")
    async with Engine(store) as engine:
        alone = Agent("front", model=ScriptedModel(["front again"]))
        assert await engine.execute(alone, "hello?", session="s") == "front again"


async def test_later_turns_and_runs_see_the_filtered_history() -> None:
    def forget(given: HandoffInput) -> HandoffInput:
        return replace(given, history=(), message="a summary")

    store = MemoryStore()
    async with Engine(store) as engine:
        front, _ = desk(["hello", "still here"], input_filter=forget)
        await engine.execute(front, "secret one", session="s")
        await engine.execute(front, "secret two", session="s")
        front, models = desk([ToolCall("transfer_to_billing", {"message": "m"})], input_filter=forget)
        assert await engine.execute(front, "secret three", session="s") == "billing: a summary"
        assert request_texts(models["front"].requests[0]) == [
            "secret one",
            "hello",
            "secret two",
            "still here",
            "secret three",
        ]
    for question in ("four", "five"):
        async with Engine(store) as engine:
            front, models = desk([], input_filter=forget)
            assert await engine.execute(front, question, session="s") == f"billing: {question}"
    assert request_texts(models["billing"].requests[0]) == [
        "a summary",
        "billing: a summary",
        "four",
        "billing: four",
        "five",
    ]


async def test_a_failed_run_does_not_change_the_session_and_holds_it_until_it_is_resumed_or_cancelled() -> None:
    answers: list[Any] = ["first", ValueError("no"), ValueError("no"), "second", "third"]
    model = ScriptedModel(answers)
    agent = Agent("a", model=model)
    async with Engine() as engine:
        await engine.execute(agent, "one", session="s")
        with pytest.raises(RunFailed):
            await engine.execute(agent, "two", session="s", run_id="broken")
        with pytest.raises(RunConflict, match="session 's' belongs to run 'broken' until that ends: resume or cancel"):
            await engine.execute(agent, "three", session="s", run_id="other")
        with pytest.raises(RunFailed):
            await engine.execute(agent, "two", session="s", run_id="broken")
        assert await engine.cancel("broken") == RunStatus.cancelled
        assert await engine.execute(agent, "three", session="s") == "second"
        assert request_texts(model.requests[-1]) == ["one", "first", "three"]


async def test_a_failed_run_that_is_resumed_adds_its_messages_once() -> None:
    model = ScriptedModel([ToolCall("double", {"n": 1}), ValueError("no"), "answer", "next"])
    agent = Agent("a", model=model, tools=[double])
    async with Engine() as engine:
        with pytest.raises(RunFailed):
            await engine.execute(agent, "one", session="s", run_id="r")
        assert await (await engine.resume("r")).result() == "answer"
        assert await engine.execute(agent, "two", session="s") == "next"
    assert request_texts(model.requests[-1]) == ["one", "", "2", "answer", "two"]


async def test_one_run_at_a_time_holds_a_session_even_after_its_engine_has_stopped() -> None:
    store = MemoryStore()
    gate = asyncio.Event()

    async def answer(request: Request) -> str:
        await gate.wait()
        return "ok"

    agent = Agent("a", model=ScriptedModel(answer))
    async with Engine(store) as engine:
        stream = engine.stream(agent, "one", session="s", run_id="first")
        await anext(stream)
        with pytest.raises(RunConflict, match="belongs to run 'first'"):
            await engine.start(agent, "two", session="s")
        await stream.aclose()
    async with Engine(store) as engine:
        engine.register(agent)
        with pytest.raises(RunConflict, match="belongs to run 'first'"):
            await engine.start(agent, "two", session="s")
        gate.set()
        (run,) = await engine.recover()
        assert await run.result() == "ok"
        assert await engine.execute(agent, "two", session="s") == "ok"


async def test_a_known_run_id_gives_its_stored_output_and_adds_nothing() -> None:
    model = ScriptedModel(["once", "next"])
    agent = Agent("a", model=model)
    async with Engine() as engine:
        for _ in range(3):
            assert await engine.execute(agent, "one", session="s", run_id="r") == "once"
        await engine.execute(agent, "two", session="s")
    assert request_texts(model.requests[1]) == ["one", "once", "two"]


async def test_large_messages_of_a_session_outlive_the_run_that_added_them() -> None:
    long = "x" * 100_000
    model = ScriptedModel([long, "short"])
    agent = Agent("a", model=model)
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.execute(agent, long, session="s")
        await engine.execute(agent, "again", session="s")
    assert request_texts(model.requests[1]) == [long, long, "again"]
    assert sum(1 for key, _ in store.scan(b"V")) >= 1


async def test_only_an_agent_accepts_a_session() -> None:
    flow = SequentialAgent("row", [Agent("a", model=ScriptedModel())])
    async with Engine() as engine:
        with pytest.raises(RunConflict, match="flow 'row' is not an agent, so it has no conversation to keep"):
            await engine.execute(flow, "hi", session="s")
        assert await engine.runs() == []


async def test_a_fork_begins_with_the_session_and_does_not_change_it() -> None:
    model = ScriptedModel(["first", "second", "forked", "third"])
    agent = Agent("a", model=model)
    async with Engine() as engine:
        await engine.execute(agent, "one", session="s")
        run = await engine.start(agent, "two", session="s", run_id="r")
        await run.result()
        fork = await engine.fork("r", 1)
        assert await fork.result() == "forked"
        assert request_texts(model.requests[2]) == ["one", "first", "two"]
        await engine.execute(agent, "three", session="s")
    assert request_texts(model.requests[3]) == ["one", "first", "two", "second", "three"]


async def test_instructions_and_context_of_a_run_are_not_part_of_the_session() -> None:
    def instructions(ctx: Context) -> str:
        return str(ctx.context.get("mood", "none"))

    model = ScriptedModel(lambda request: "ok")
    agent = Agent("a", model=model, instructions=instructions)
    async with Engine() as engine:
        await engine.execute(agent, "one", session="s", context={"mood": "merry"})
        await engine.execute(agent, "two", session="s")
    assert [request.system for request in model.requests] == ["merry", "none"]


@pytest.mark.parametrize("session", ["a b", "a/b#c[0]", "ünïcode \ud800 \x00", "x" * 100_000])
async def test_any_visible_text_can_name_a_session(session: str) -> None:
    model = ScriptedModel(lambda request: "ok")
    async with Engine() as engine:
        for _ in range(2):
            await engine.execute(Agent("a", model=model), "hi", session=session)
    assert len(model.requests[1].messages) == 3
