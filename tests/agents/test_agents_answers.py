"""An agent's own turn: the request to the model, the checks of its answer, and the limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from agents_checks import kinds, last_text, request_texts, texts_by_agent
from pydantic import BaseModel, Field

from beluga_graph import (
    Agent,
    BadName,
    Context,
    Engine,
    Event,
    Graph,
    Limits,
    LoopAgent,
    ModelError,
    ParallelAgent,
    Persona,
    RunFailed,
    SequentialAgent,
    run_sync,
)
from beluga_graph.models.messages import Message, Reply, Request, Usage
from beluga_graph.plan.declared import END, START
from beluga_graph.testing import ScriptedModel, ToolCall, VirtualClock


def nothing() -> str:
    return "nothing"


# The request to the model.


async def test_the_system_prompt_is_persona_then_instructions() -> None:
    persona = Persona(role="editor", goal="find mistakes", backstory="You worked for a newspaper.")
    model = ScriptedModel(["ok"])
    await Agent("a", model=model, persona=persona, instructions="Be brief.").invoke("text")
    assert model.requests[0].system == (
        "You are an editor.\nYour goal is to find mistakes.\nYou worked for a newspaper.\n\nBe brief."
    )


@pytest.mark.parametrize("role", ["a cook", "an owl", "the boss"])
def test_a_role_with_an_article_keeps_it(role: str) -> None:
    assert Persona(role=role).prompt() == f"You are {role}."


async def test_instructions_may_be_a_sync_or_async_function_with_or_without_the_context() -> None:
    def of_context(ctx: Context) -> str:
        return f"run for {ctx.context['user']}, {ctx.deps}"

    async def of_nothing() -> str:
        return "be kind"

    language = "French"
    for instructions, system in (
        (of_context, "run for ada, live"),
        (of_nothing, "be kind"),
        (lambda language=language: f"speak {language}", "speak French"),  # the default comes from the function
        (lambda ctx: None, ""),
    ):
        model = ScriptedModel(["ok"])
        async with Engine(deps="live") as engine:
            agent = Agent("a", model=model, instructions=instructions)
            await engine.execute(agent, "hi", context={"user": "ada"})
        assert model.requests[0].system == system


async def test_settings_are_passed_to_the_model_unchanged() -> None:
    model = ScriptedModel([ToolCall("nothing"), "ok"])
    await Agent("a", model=model, tools=[nothing], settings={"temperature": 0, "max_tokens": 9}).invoke("hi")
    assert [request.settings for request in model.requests] == [{"temperature": 0, "max_tokens": 9}] * 2


@dataclass
class Question:
    text: str
    urgent: bool


@pytest.mark.parametrize(
    ("value", "told"),
    [
        ("plain", "plain"),
        ({"pros": "many", "cons": ["few", "none"]}, '## pros\nmany\n\n## cons\n["few", "none"]'),
        ([1, {"a": None}], '[1, {"a": null}]'),
        (None, "null"),
    ],
)
async def test_input_is_sent_as_text_as_sections_or_as_json(value: Any, told: str) -> None:
    model = ScriptedModel(["ok"])
    await Agent("a", model=model).invoke(value)
    assert request_texts(model.requests[0]) == [told]


# Output types.


class Verdict(BaseModel):
    score: int = Field(ge=0, le=10)
    why: str


class Tree(BaseModel):
    name: str
    children: list[Tree] = []


async def test_an_output_type_is_shown_to_the_model_and_the_output_is_of_that_type() -> None:
    model = ScriptedModel(['```json\n{"score": 7, "why": "fine"}\n```'])
    assert await Agent("a", model=model, output_type=Verdict).invoke("judge") == Verdict(score=7, why="fine")
    schema = model.requests[0].output_schema
    assert schema is not None
    assert (schema["type"], schema["required"]) == ("object", ["score", "why"])


@pytest.mark.parametrize(
    ("output_type", "answer", "output"),
    [
        (list[int], '{"answer": [1, 2]}', [1, 2]),
        (list[int], "[1, 2]", [1, 2]),
        (int | None, '{"answer": null}', None),
        (dict[str, int], '{"answer": 3}', {"answer": 3}),
        (Tree, '{"name": "root", "children": [{"name": "leaf"}]}', Tree(name="root", children=[Tree(name="leaf")])),
        (Question, '{"text": "why?", "urgent": true}', Question("why?", urgent=True)),
        (str, '{"not": "parsed"}', '{"not": "parsed"}'),
    ],
)
async def test_an_output_type_of_any_form_is_requested_as_an_object(output_type: Any, answer: str, output: Any) -> None:
    model = ScriptedModel([answer])
    assert await Agent("a", model=model, output_type=output_type).invoke("go") == output
    schema = model.requests[0].output_schema
    if output_type is str:
        assert schema is None
    else:
        assert schema is not None
        assert schema.get("type") == "object" or "$ref" in schema


async def test_an_answer_that_does_not_fit_its_type_is_requested_again_with_the_reason() -> None:
    model = ScriptedModel(["not JSON", '{"score": 11, "why": "!"}', '{"score": 9, "why": "!"}'])
    assert (await Agent("a", model=model, output_type=Verdict).invoke("judge")).score == 9
    assert request_texts(model.requests[2]) == [
        "judge",
        "not JSON",
        (
            "Your answer does not fit: the whole: Invalid JSON: expected ident at line 1 column 2\n"
            "Give the corrected answer, all of it."
        ),
        '{"score": 11, "why": "!"}',
        (
            "Your answer does not fit: score: Input should be less than or equal to 10\n"
            "Give the corrected answer, all of it."
        ),
    ]


async def test_after_three_corrections_in_a_row_the_run_fails_and_says_why() -> None:
    model = ScriptedModel(lambda _: "never JSON")
    with pytest.raises(RunFailed) as failed:
        await Agent("a", model=model, output_type=Verdict).invoke("judge")
    cause = failed.value.cause
    assert str(cause).startswith("ModelError: agent 'a' gave no valid output in 4 tries: the whole: Invalid JSON")
    assert len(model.requests) == 4


async def test_a_tool_call_resets_the_count_of_bad_answers() -> None:
    bad: list[Any] = ["bad", "bad", "bad"]
    model = ScriptedModel([*bad, ToolCall("nothing"), *bad, '{"score": 1, "why": "x"}'])
    agent = Agent("a", model=model, output_type=Verdict, tools=[nothing])
    assert (await agent.invoke("judge")).score == 1


# Limits and usage.


@pytest.mark.parametrize(
    ("max_turns", "limits", "turns"),
    [(3, None, 3), (None, None, 10), (None, Limits(max_turns=4), 4), (12, Limits(max_turns=4), 12)],
)
async def test_turns_without_an_answer_end_at_a_limit_that_the_error_names(
    max_turns: int | None, limits: Limits | None, turns: int
) -> None:
    model = ScriptedModel(lambda _: ToolCall("nothing"))
    options: dict[str, Any] = {} if max_turns is None else {"max_turns": max_turns}
    agent = Agent("a", model=model, tools=[nothing], **options)
    with pytest.raises(RunFailed, match=f"agent 'a' made {turns} model turns without an answer: raise max_turns"):
        await agent.invoke("go", limits=limits)
    assert len(model.requests) == turns


@pytest.mark.parametrize("name", ["", "a/b", "a#1", "x[0]", "START", "a\n"])
def test_a_name_that_no_node_can_have_is_refused_at_construction(name: str) -> None:
    model = ScriptedModel()
    for make in (
        lambda: Agent(name, model=model),
        lambda: SequentialAgent(name, [Agent("a", model=model)]),
        lambda: ParallelAgent(name, [Agent("a", model=model)]),
        lambda: LoopAgent(name, Agent("a", model=model)),
    ):
        with pytest.raises(BadName):
            make()


async def test_usage_is_summed_over_all_agents_of_a_run() -> None:
    def model(amount: int) -> ScriptedModel:
        usage = Usage(input_tokens=10 * amount, output_tokens=amount, cached_tokens=1 if amount == 2 else 0)
        return ScriptedModel([Reply(message=Message(role="assistant", content="x"), usage=usage)])

    agents = [Agent(f"a{n}", model=model(n)) for n in (1, 2, 3)]
    flow = SequentialAgent("row", [agents[0], ParallelAgent("both", agents[1:])])
    async with Engine() as engine:
        outcome = await (await engine.start(flow, "go")).outcome()
    assert outcome.usage == {"model_calls": 3, "input_tokens": 60, "output_tokens": 6, "cached_tokens": 1}


# Models that fail.


async def test_a_model_error_is_retried_and_the_text_shown_before_it_is_retracted() -> None:
    clock = VirtualClock()
    model = ScriptedModel([["Half an ans", ModelError("cut off", retryable=True)], "the whole answer"])
    async with Engine(clock=clock) as engine:

        async def watch() -> list[Event]:
            return [event async for event in engine.stream(Agent("a", model=model), "go")]

        watching = asyncio.ensure_future(watch())
        while not watching.done():
            await clock.advance(0.1)
        events = await watching
    assert [e for e in kinds(events) if e not in ("run_started", "node_started")] == [
        *["text"] * 3,
        "retracted",
        "retry",
        *["text"] * 3,
        "node_finished",
        "done",
    ]
    retracted = next(event for event in events if event.type == "retracted")
    assert (retracted.agent, retracted.attempt) == ("a", 1)
    kept = [e for e in events if e.type == "text" and e.attempt == 2]
    assert "".join(event.text for event in kept) == events[-1].output == "the whole answer"
    assert request_texts(model.requests[1]) == ["go"], "nothing of the failed attempt is sent"


async def test_a_model_error_that_is_not_retryable_fails_the_run_at_once() -> None:
    model = ScriptedModel([ModelError("bad key")])
    with pytest.raises(RunFailed, match="ModelError: bad key"):
        await Agent("a", model=model).invoke("go")
    assert len(model.requests) == 1


async def test_a_stream_without_a_reply_is_an_error() -> None:
    class Broken:
        name = "broken"

        async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
            yield "half"

    with pytest.raises(RunFailed, match="model 'broken' ended its stream without a Reply"):
        await Agent("a", model=Broken()).invoke("go")


async def test_an_answer_that_paused_continues() -> None:
    half = Reply(message=Message(role="assistant", content="I am still searching"), stop_reason="pause")
    model = ScriptedModel([half, "found it"])
    assert await Agent("a", model=model).invoke("go") == "found it"
    assert request_texts(model.requests[1]) == ["go", "I am still searching"]


# Inside other flows.


def nested() -> tuple[SequentialAgent, list[str]]:
    """Return a graph of nested patterns, and its output."""

    def upper(text: str) -> str:
        return text.upper()

    def model(name: str) -> ScriptedModel:
        return ScriptedModel(lambda request: f"{name}({last_text(request)})")

    graph = Graph("shout")
    graph.add(Agent("inner", model=model("inner")), name="first")
    graph.node(upper)
    graph.edge(START, "first")
    graph.edge("first", "upper")
    graph.edge("upper", END)
    loop = LoopAgent("twice", SequentialAgent("pass", [graph]), max_iterations=2)
    both = ParallelAgent("both", [loop, Agent("side", model=model("side"))], aggregate=lambda got: list(got.values()))
    flow = SequentialAgent("all", [Agent("opener", model=model("opener")), both])
    return flow, ["INNER(INNER(OPENER(HI)))", "side(opener(hi))"]


async def test_patterns_nest_in_any_way_and_stream_every_agent_token_by_token() -> None:
    flow, expected = nested()
    assert await flow.invoke("hi") == expected
    events = [event async for event in flow.stream("hi")]
    assert events[-1].output == expected
    assert texts_by_agent(events) == {
        "opener": "opener(hi)",
        "inner": "inner(opener(hi))inner(INNER(OPENER(HI)))",
        "side": "side(opener(hi))",
    }
    assert {e.node for e in events if e.type == "text"} == {
        "opener/opener",
        "both/twice/pass/shout/first/inner",
        "both/side/side",
    }


def test_run_sync_works_from_plain_code() -> None:
    flow, expected = nested()
    assert run_sync(flow, "hi") == expected


async def test_text_arrives_in_pieces_before_the_model_has_finished() -> None:
    go_on = asyncio.Event()

    class Slow:
        name = "slow"

        async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
            yield "first "
            await go_on.wait()
            yield "second"
            yield Reply(message=Message(role="assistant", content="first second"))

    pieces = []
    async for event in SequentialAgent("row", [Agent("a", model=Slow())]).stream("go"):
        if event.type == "text":
            pieces.append(event.text)
            go_on.set()  # a stream that waited for the whole answer would never reach this line
    assert pieces == ["first ", "second"]


async def test_closing_a_stream_early_ends_the_models_stream_and_leaves_the_run_to_be_resumed() -> None:
    closed = asyncio.Event()
    patient = [True]

    class Watched:
        name = "watched"

        async def stream(self, request: Request) -> AsyncIterator[str | Reply]:
            try:
                yield "one"
                if patient[0]:
                    await asyncio.Event().wait()
                yield Reply(message=Message(role="assistant", content="one"))
            finally:
                closed.set()

    agent = Agent("a", model=Watched())
    async with Engine() as engine:
        events = engine.stream(agent, "go", run_id="r")
        async for event in events:
            if event.type == "text":
                break
        await events.aclose()
        assert closed.is_set()
        assert len(asyncio.all_tasks()) == 1, "nothing leaks"
        patient[0] = False
        assert await engine.execute(agent, "go", run_id="r") == "one"


async def test_one_agent_may_serve_many_runs_at_once() -> None:
    agent = Agent("a", model=ScriptedModel(lambda request: f"to {last_text(request)}"))
    async with Engine() as engine:
        outputs = await asyncio.gather(*(engine.execute(agent, f"n{n}") for n in range(20)))
    assert outputs == [f"to n{n}" for n in range(20)]


async def test_a_tool_of_an_agent_in_a_graph_sees_deps_and_the_runs_context() -> None:
    def who(ctx: Context) -> str:
        return f"{ctx.context['user']}@{ctx.deps}"

    graph = Graph("g")
    graph.add(Agent("a", model=ScriptedModel([ToolCall("who"), last_text]), tools=[who]))
    graph.edge(START, "a")
    graph.edge("a", END)
    async with Engine(deps="host") as engine:
        assert await engine.execute(graph, "go", context={"user": "ada"}) == "ada@host"
