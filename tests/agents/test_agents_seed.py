"""Every example of the seed document, in Python, with its promises."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Any

import pytest
from agents_checks import last_text, offered_tools, request_texts, results, texts_by_agent

from beluga_graph import (
    Agent,
    Context,
    Engine,
    Graph,
    HandoffInput,
    LoopAgent,
    ParallelAgent,
    Persona,
    SequentialAgent,
    handoff_to,
    tool,
)
from beluga_graph.models.messages import Request
from beluga_graph.plan.declared import END, START
from beluga_graph.testing import ScriptedModel, ToolCall

# Sequential.


@tool
def search(query: str) -> str:
    """Search the web."""
    return f"found: {query}"


async def test_a_sequence_gives_each_agent_only_the_previous_output() -> None:
    models = [
        ScriptedModel([ToolCall("search", {"query": "generics"}), "the facts"]),
        ScriptedModel(["the draft"]),
        ScriptedModel(["the post"]),
    ]
    researcher = Agent("researcher", model=models[0], persona=Persona(role="research analyst"), tools=[search])
    writer = Agent("writer", model=models[1], persona=Persona(role="technical writer"))
    reviewer = Agent("reviewer", model=models[2], persona=Persona(role="editor"))
    pipeline = SequentialAgent("content-pipeline", [researcher, writer, reviewer])

    assert await pipeline.invoke("Write a blog post about generics") == "the post"

    assert request_texts(models[0].requests[0]) == ["Write a blog post about generics"]
    assert results(models[0].requests[1]) == [("search", "found: generics", False)]
    assert [request_texts(request) for request in models[1].requests] == [["the facts"]]
    assert [request_texts(request) for request in models[2].requests] == [["the draft"]]
    assert [model.requests[0].system for model in models] == [
        "You are a research analyst.",
        "You are a technical writer.",
        "You are an editor.",
    ]


async def test_a_sequence_ends_with_the_first_failure() -> None:
    last = ScriptedModel(["never asked"])
    row = SequentialAgent("row", [Agent("first", model=ScriptedModel([ValueError("no")])), Agent("last", model=last)])
    async with Engine() as engine:
        outcome = await (await engine.start(row, "go")).outcome()
    assert outcome.failure is not None
    assert outcome.failure.node == "first/first"
    assert last.requests == []


# Parallel.


async def test_parallel_agents_get_the_same_input_and_give_a_dict_in_the_order_of_declaration() -> None:
    started: list[str] = []
    everyone = asyncio.Event()
    models = {}

    def model_of(name: str) -> ScriptedModel:
        async def answer(request: Request) -> str:
            started.append(name)
            if len(started) == 3:
                everyone.set()
            await everyone.wait()  # none answers before all were asked
            return f"{name} of: {last_text(request)}"

        models[name] = ScriptedModel(answer, name=name)
        return models[name]

    agents = [Agent(name, model=model_of(name)) for name in ("sentiment", "topics", "entities")]
    output = await ParallelAgent("text-analysis", agents).invoke("Great, but late.")
    assert list(output.items()) == [
        ("sentiment", "sentiment of: Great, but late."),
        ("topics", "topics of: Great, but late."),
        ("entities", "entities of: Great, but late."),
    ]
    assert sorted(started) == ["entities", "sentiment", "topics"]


async def test_a_parallel_dict_reaches_the_next_agent_as_labelled_sections() -> None:
    last = ScriptedModel(["the sum"])
    agents = [Agent(name, model=ScriptedModel([f"about {name}"])) for name in ("pros", "cons")]
    flow = SequentialAgent("weigh", [ParallelAgent("sides", agents), Agent("judge", model=last)])
    assert await flow.invoke("tea?") == "the sum"
    assert request_texts(last.requests[0]) == ["## pros\nabout pros\n\n## cons\nabout cons"]


# Loop.


@pytest.mark.parametrize(
    ("answers", "output", "reason"),
    [
        (["v1", "v2 APPROVED", "v3"], "v2 APPROVED", "condition"),
        (["v1", "v2", "v3"], "v3", "limit"),
        (["v1", "v2", "v3 APPROVED"], "v3 APPROVED", "condition"),
    ],
)
async def test_a_loop_ends_by_its_condition_or_its_limit_and_reports_which(
    answers: list[str], output: str, reason: str
) -> None:
    model = ScriptedModel(answers)
    improver = Agent(
        "improver",
        model=model,
        persona=Persona(role="code reviewer and improver", goal="iteratively improve code quality"),
    )
    loop = LoopAgent("refinement-loop", improver, max_iterations=3, until=lambda result: "APPROVED" in result)
    async with Engine() as engine:
        outcome = await (await engine.start(loop, "the code")).outcome()
    assert (outcome.output, outcome.reason) == (output, reason)
    passes = answers.index(output) + 1
    assert [request_texts(request) for request in model.requests] == [
        [text] for text in ["the code", *answers][:passes]
    ]


# Handoffs.


def support(script: list[Any]) -> tuple[Agent, dict[str, ScriptedModel]]:
    models = {
        "billing": ScriptedModel(["refunded"]),
        "tech-support": ScriptedModel(["restarted"]),
        "triage": ScriptedModel(script),
    }
    billing = Agent("billing", model=models["billing"], persona=Persona(role="billing specialist"))
    tech = Agent("tech-support", model=models["tech-support"], persona=Persona(role="technical support engineer"))
    triage = Agent(
        "triage",
        model=models["triage"],
        persona=Persona(role="customer service triage", goal="route customers to the right specialist"),
        handoffs=[
            handoff_to(billing, "Transfer billing questions to the billing specialist"),
            handoff_to(tech, "Transfer technical issues to tech support"),
        ],
    )
    return triage, models


async def test_a_handoff_is_a_tool_with_the_agents_name_and_its_description() -> None:
    triage, models = support(["no transfer needed"])
    assert await triage.invoke("thanks!") == "no transfer needed"
    assert [(tool.name, tool.description) for tool in models["triage"].requests[0].tools] == [
        ("transfer_to_billing", "Transfer billing questions to the billing specialist"),
        ("transfer_to_tech-support", "Transfer technical issues to tech support"),
    ]


@pytest.mark.parametrize(("target", "answer"), [("billing", "refunded"), ("tech-support", "restarted")])
async def test_the_specialist_sees_the_conversation_and_answers_itself(target: str, answer: str) -> None:
    triage, models = support([ToolCall(f"transfer_to_{target}", {"message": "a customer"})])
    assert await triage.invoke("I was charged twice on my last invoice") == answer
    (request,) = models[target].requests
    assert request_texts(request)[0] == "I was charged twice on my last invoice"
    assert results(request) == [(f"transfer_to_{target}", f"transferred to {target}: a customer", False)]
    assert len(models["triage"].requests) == 1, "the first agent is not asked again"


# Conditional handoffs.


@dataclass
class User:
    tier: str


async def test_a_conditional_handoff_follows_the_users_tier_and_adds_context_for_the_target() -> None:
    log: list[str] = []
    premium_model = ScriptedModel(lambda request: f"at your service, {request.system}")

    def urgency(ctx: Context) -> str:
        return f"priority {ctx.context['priority']} for {ctx.context['user']}"

    premium = Agent("premium", model=premium_model, instructions=urgency)

    def add_context(given: HandoffInput) -> HandoffInput:
        return replace(given, context={"priority": "high"})

    def is_premium(ctx: Context) -> bool:
        return bool(ctx.deps[ctx.context["user"]].tier == "premium")

    def agent(script: list[Any]) -> tuple[Agent, ScriptedModel]:
        model = ScriptedModel(script)
        made = handoff_to(
            premium,
            "Transfer to premium support",
            is_enabled=is_premium,
            on_handoff=lambda: log.append("Transferring to premium support"),
            input_filter=add_context,
        )
        return Agent("front", model=model, handoffs=[made]), model

    users = {"ada": User("premium"), "bob": User("free")}
    async with Engine(deps=users) as engine:
        front, model = agent([ToolCall("transfer_to_premium")])
        output = await engine.execute(front, "help", context={"user": "ada"})
        assert output == "at your service, priority high for ada"
        assert offered_tools(model) == ["transfer_to_premium"]
        assert log == ["Transferring to premium support"]

        front, model = agent([ToolCall("transfer_to_premium"), "the free desk helps"])
        assert await engine.execute(front, "help", context={"user": "bob"}) == "the free desk helps"
        assert offered_tools(model) == []
        assert results(model.requests[1]) == [("transfer_to_premium", "transfer_to_premium is not available now", True)]
        assert log == ["Transferring to premium support"], "no transfer, no callback"


# Supervisor.


async def test_a_supervisor_delegates_in_sequence_and_in_parallel_and_synthesises() -> None:
    def collected(request: Request) -> str:
        return f"data for {last_text(request)}"

    def analysed(request: Request) -> str:
        return f"analysis of {last_text(request)}"

    collector_model, analyzer_model = ScriptedModel(collected), ScriptedModel(analysed)
    worker1 = Agent("data-collector", model=collector_model)
    worker2 = Agent("analyzer", model=analyzer_model)
    model = ScriptedModel(
        [
            [
                ToolCall("transfer_to_data-collector", {"message": "sales"}),
                ToolCall("transfer_to_data-collector", {"message": "costs"}),
            ],
            ToolCall("transfer_to_analyzer", {"message": "sales against costs"}),
            "profits are up",
        ]
    )
    supervisor = Agent(
        "supervisor",
        model=model,
        persona=Persona(role="project supervisor", goal="coordinate workers to complete complex tasks"),
        children=[worker1, worker2],
        handoffs=[
            handoff_to(worker1, "Delegate data collection tasks"),
            handoff_to(worker2, "Delegate analysis tasks"),
        ],
    )
    assert await supervisor.invoke("how is business?") == "profits are up"
    assert [(tool.name, tool.description) for tool in model.requests[0].tools] == [
        ("transfer_to_data-collector", "Delegate data collection tasks"),
        ("transfer_to_analyzer", "Delegate analysis tasks"),
    ]
    assert sorted(request_texts(request)[0] for request in collector_model.requests) == ["costs", "sales"]
    assert results(model.requests[2]) == [
        ("transfer_to_data-collector", "data for sales", False),
        ("transfer_to_data-collector", "data for costs", False),
        ("transfer_to_analyzer", "analysis of sales against costs", False),
    ]
    assert request_texts(analyzer_model.requests[0]) == ["sales against costs"], "a worker gets its task and no history"


# Durable workflows, as a graph; streaming.


async def test_a_graph_of_plain_steps_runs_to_its_end() -> None:
    flow = Graph("document-processing")

    @flow.node
    def ingest(text: str) -> str:
        return f"{text}, loaded"

    @flow.node
    def process(text: str) -> str:
        return f"{text}, processed"

    @flow.node
    def publish(text: str) -> str:
        return f"{text}, published"

    flow.edge(START, ingest)
    flow.edge(ingest, process)
    flow.edge(process, publish)
    flow.edge(publish, END)
    assert await flow.invoke("documents") == "documents, loaded, processed, published"


async def test_a_stream_shows_which_agent_speaks_which_takes_over_and_which_tool_runs() -> None:
    script: list[Any] = [["Let me look. ", ToolCall("search", {"query": "invoice"})], "Money is back."]
    billing = Agent("billing", model=ScriptedModel(script), tools=[search])
    triage = Agent("triage", model=ScriptedModel([ToolCall("transfer_to_billing")]), handoffs=[billing])
    report = SequentialAgent("report", [triage, Agent("editor", model=ScriptedModel(["A fine report."]))])
    printed: list[str] = []
    events = []
    async for event in report.stream("Charged twice"):
        events.append(event)
        match event.type:
            case "text":
                printed.append(event.text)
            case "handoff":
                printed.append(f"\n[Handed off to: {event.agent}]\n")
            case "tool_call":
                printed.append(f"\n[Tool: {event.name}]\n")
    assert "".join(printed) == (
        "\n[Tool: transfer_to_billing]\n\n[Handed off to: billing]\nLet me look. \n[Tool: search]\nMoney is back."
        "A fine report."
    )
    assert texts_by_agent(events) == {"billing": "Let me look. Money is back.", "editor": "A fine report."}
    assert [event.agent for event in events if event.type == "tool_call"] == ["triage", "billing"]
    assert (events[-1].type, events[-1].output) == ("done", "A fine report.")
