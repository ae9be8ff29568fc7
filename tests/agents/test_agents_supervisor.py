"""Supervisors: children get a task, work outside of the conversation, and return a result."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from agents_checks import assert_valid, kinds, last_text, offered_tools, request_texts, results, texts_by_agent

from beluga_graph import (
    Agent,
    Context,
    DelegationCycle,
    DuplicateNode,
    Engine,
    Flow,
    Graph,
    HandoffInput,
    LoopAgent,
    ParallelAgent,
    SequentialAgent,
    handoff_to,
)
from beluga_graph.models.messages import Request
from beluga_graph.plan.declared import END, START
from beluga_graph.testing import ScriptedModel, ToolCall


def delegate(worker: str, task: str) -> ToolCall:
    return ToolCall(f"transfer_to_{worker}", {"message": task})


def worker(name: str, answer: Any = None) -> Agent:
    return Agent(name, model=ScriptedModel(answer or (lambda request: f"{name}: {last_text(request)}")))


async def test_delegations_of_one_turn_run_at_once_and_their_results_are_in_call_order() -> None:
    both = asyncio.Barrier(2)
    second_done = asyncio.Event()

    async def answer(request: Request) -> str:
        await both.wait()  # passes only when both work at the same time
        if last_text(request) == "one":
            await second_done.wait()
        else:
            second_done.set()
        return f"done {last_text(request)}"

    model = ScriptedModel([[delegate("w", "one"), delegate("w", "two")], "all done"])
    supervisor = Agent("s", model=model, children=[worker("w", answer)])
    assert await supervisor.invoke("go") == "all done"
    assert [text for _, text, _ in results(model.requests[1])] == ["done one", "done two"]


async def test_a_child_without_a_handoff_gets_one_that_requires_a_message() -> None:
    model = ScriptedModel(["ok"])
    described = worker("described")
    supervisor = Agent(
        "s", model=model, children=[worker("plain"), described], handoffs=[handoff_to(described, "For hard cases")]
    )
    await supervisor.invoke("go")
    tools = {tool.name: tool for tool in model.requests[0].tools}
    assert tools["transfer_to_described"].description == "For hard cases"
    assert tools["transfer_to_plain"].description == "Delegate a task to plain and get its result."
    assert tools["transfer_to_plain"].parameters["required"] == ["message"]


async def test_a_failed_worker_is_reported_and_the_supervisor_goes_on() -> None:
    def broken(_: Request) -> str:
        raise RuntimeError("no data")

    model = ScriptedModel([[delegate("good", "a"), delegate("bad", "b")], delegate("good", "again"), "made the best"])
    supervisor = Agent("s", model=model, children=[worker("good"), worker("bad", broken)])
    async with Engine() as engine:
        outcome = await (await engine.start(supervisor, "go")).outcome()
    assert outcome.output == "made the best"
    assert results(model.requests[1]) == [
        ("transfer_to_good", "good: a", False),
        ("transfer_to_bad", "RuntimeError: no data", True),
    ]
    assert_valid(model.requests[2].messages)


async def test_a_delegation_without_a_task_is_refused() -> None:
    calls = [ToolCall("transfer_to_w"), ToolCall("transfer_to_w", {"message": " "}), ToolCall("transfer_to_w", "[]")]
    model = ScriptedModel([calls, "ok"])
    assert await Agent("s", model=model, children=[worker("w")]).invoke("go") == "ok"
    assert results(model.requests[1]) == [
        ("transfer_to_w", "transfer_to_w needs a message: the task as text", True),
        ("transfer_to_w", "transfer_to_w needs a message: the task as text", True),
        ("transfer_to_w", "the arguments of transfer_to_w are not a JSON object but list", True),
    ]


def counting() -> Graph:
    graph = Graph("count")

    @graph.node
    def words(text: str) -> dict[str, int]:
        return {"words": len(text.split())}

    graph.edge(START, words)
    graph.edge(words, END)
    return graph


def failing() -> Graph:
    graph = Graph("fails")

    @graph.node
    def broken(text: str) -> str:
        raise ValueError(f"cannot {text}")

    graph.edge(START, broken)
    graph.edge(broken, END)
    return graph


async def test_workers_may_be_any_flow() -> None:
    flows: list[Flow] = [
        counting(),
        failing(),
        SequentialAgent("row", [worker("first"), worker("second")]),
        ParallelAgent("both", [worker("left"), worker("right")]),
        LoopAgent("loop", worker("again"), max_iterations=2),
    ]
    tasks = [delegate(flow.name, "a b c") for flow in flows]
    model = ScriptedModel([tasks, "done"])
    assert await Agent("s", model=model, children=flows).invoke("go") == "done"
    assert results(model.requests[1]) == [
        ("transfer_to_count", "## words\n3", False),
        ("transfer_to_fails", "ValueError: cannot a b c", True),
        ("transfer_to_row", "second: first: a b c", False),
        ("transfer_to_both", "## left\nleft: a b c\n\n## right\nright: a b c", False),
        ("transfer_to_loop", "again: again: a b c", False),
    ]


async def test_supervisors_nest_and_stream_every_level() -> None:
    lead = Agent("lead", model=ScriptedModel([delegate("expert", "deep"), "lead sums up"]), children=[worker("expert")])
    top = Agent("top", model=ScriptedModel([delegate("lead", "big"), "top sums up"]), children=[lead])
    events = [event async for event in top.stream("go")]
    assert events[-1].output == "top sums up"
    assert texts_by_agent(events) == {"expert": "expert: deep", "lead": "lead sums up", "top": "top sums up"}
    assert "handoff" not in kinds(events), "the conversation stays with the supervisor"
    assert [(e.agent, e.name) for e in events if e.type == "tool_call"] == [
        ("top", "transfer_to_lead"),
        ("lead", "transfer_to_expert"),
    ]


async def test_tools_delegations_and_a_transfer_may_occur_in_one_turn() -> None:
    def note() -> str:
        return "noted"

    closer_model = ScriptedModel(["closed"])
    closer = Agent("closer", model=closer_model)
    calls = [ToolCall("transfer_to_closer"), delegate("w", "t"), ToolCall("note")]
    supervisor = Agent("s", model=ScriptedModel([calls]), tools=[note], children=[worker("w")], handoffs=[closer])
    assert await supervisor.invoke("go") == "closed"
    assert sorted(results(closer_model.requests[0])) == [
        ("note", "noted", False),
        ("transfer_to_closer", "transferred to closer", False),
        ("transfer_to_w", "w: t", False),
    ]
    assert_valid(closer_model.requests[0].messages)


async def test_is_enabled_decides_about_delegations_too() -> None:
    child = worker("w")
    model = ScriptedModel([delegate("w", "t"), "done without"])
    handoffs = [handoff_to(child, is_enabled=lambda: False)]
    assert await Agent("s", model=model, children=[child], handoffs=handoffs).invoke("go") == "done without"
    assert offered_tools(model) == []
    assert results(model.requests[1]) == [("transfer_to_w", "transfer_to_w is not available now", True)]


async def test_callbacks_of_a_delegation_see_the_task_and_only_the_worker_gets_their_context() -> None:
    seen: list[tuple[str, Any]] = []

    def instructed(name: str) -> Callable[[Context], str]:
        def instructions(ctx: Context) -> str:
            seen.append((name, ctx.context))
            return ""

        return instructions

    def urgent(given: HandoffInput) -> HandoffInput:
        assert given.history == ()
        return replace(given, message=f"URGENT: {given.message}", context={"task": given.message})

    handed: list[str] = []
    model = ScriptedModel(lambda request: f"did {last_text(request)}")
    child = Agent("w", model=model, instructions=instructed("w"))
    top_model = ScriptedModel([[delegate("w", "one"), delegate("w", "two")], "done"])
    made = handoff_to(child, on_handoff=lambda ctx: handed.append(ctx.run_id), input_filter=urgent)
    top = Agent("s", model=top_model, children=[child], handoffs=[made], instructions=instructed("s"))
    async with Engine() as engine:
        await engine.execute(top, "go", run_id="r", context={"user": "ada"})
    assert handed == ["r", "r"]
    assert sorted(request_texts(request)[0] for request in model.requests) == ["URGENT: one", "URGENT: two"]
    assert [text for _, text, _ in results(top_model.requests[1])] == ["did URGENT: one", "did URGENT: two"]
    assert sorted(context["task"] for name, context in seen if name == "w") == ["one", "two"]
    assert [context for name, context in seen if name == "s"] == [{"user": "ada"}, {"user": "ada"}]


async def test_a_callback_that_raises_refuses_the_delegation() -> None:
    def refuse() -> None:
        raise PermissionError("not today")

    child = worker("w")
    model = ScriptedModel([delegate("w", "t"), "done"])
    agent = Agent("s", model=model, children=[child], handoffs=[handoff_to(child, on_handoff=refuse)])
    assert await agent.invoke("go") == "done"
    assert results(model.requests[1]) == [
        ("transfer_to_w", "ToolError: not transferred: PermissionError: not today", True)
    ]


async def test_a_result_that_cannot_be_shown_as_text_is_an_error_result() -> None:
    graph = Graph("odd")

    @graph.node
    def pair() -> Any:
        return {(1, 2): "x"}

    graph.edge(START, pair)
    graph.edge(pair, END)
    model = ScriptedModel([delegate("odd", "t"), "done"])
    assert await Agent("s", model=model, children=[graph]).invoke("go") == "done"
    ((_, text, is_error),) = results(model.requests[1])
    assert is_error
    assert text.startswith("the result of transfer_to_odd cannot be shown as text: keys must be str")


# Cycles.


def test_a_child_that_reaches_its_delegator_is_refused_when_the_agent_is_compiled() -> None:
    model = ScriptedModel()

    def refusal(agent: Agent) -> str:
        with pytest.raises(DelegationCycle) as refused:
            agent.plan()
        return str(refused.value)

    own = Agent("own", model=model)
    own.children = (own,)
    assert refusal(own) == "graph 'own', agent 'own': it delegates to itself: own -> own; drop one child"

    top = Agent("top", model=model)
    low = Agent("low", model=model, children=[top])
    top.children = (low,)
    assert "it delegates to itself: top -> low -> top" in refusal(top)

    top.children = (SequentialAgent("row", [low]),)
    assert "it delegates to itself: top -> low -> top" in refusal(top)

    back = Agent("back", model=model, handoffs=lambda: [top])
    top.children = (back,)
    assert "it delegates to itself: back -> back" in refusal(top)

    partner = Agent("partner", model=model, children=[top])
    top.children = ()
    top = Agent("top", model=model, handoffs=lambda: [partner])
    partner.children = (top,)
    assert "it delegates to itself" in refusal(top)


def test_a_graph_that_would_contain_its_own_delegator_is_refused_when_it_is_built() -> None:
    graph = Graph("work")
    supervisor = Agent("s", model=ScriptedModel(), children=[graph])
    with pytest.raises(DelegationCycle) as refused:
        graph.add(SequentialAgent("row", [supervisor]))
    assert str(refused.value) == (
        "graph 'work', node 'row': this graph is a part of it, as a sub-flow or as an agent's child; "
        "add a flow that does not contain it"
    )
    with pytest.raises(DelegationCycle):
        graph.add(graph, name="itself")


def test_two_children_with_one_name_are_refused() -> None:
    supervisor = Agent("s", model=ScriptedModel(), children=[worker("w"), worker("w")])
    with pytest.raises(DuplicateNode, match="two of its tools and transfers are called 'transfer_to_w'"):
        supervisor.plan()


async def test_a_child_may_be_used_by_several_supervisors() -> None:
    shared = worker("shared")
    left = Agent("left", model=ScriptedModel([delegate("shared", "l"), last_text]), children=[shared])
    right = Agent("right", model=ScriptedModel([delegate("shared", "r"), last_text]), children=[shared])
    output = await ParallelAgent("both", [left, right]).invoke("go")
    assert output == {"left": "shared: l", "right": "shared: r"}
