"""Handoffs: which agent gets the conversation, when the tool is offered, and which history the next agent sees."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from agents_checks import assert_valid, kinds, offered_tools, request_texts, results

from beluga_graph import (
    Agent,
    BadName,
    Context,
    DuplicateNode,
    Engine,
    Graph,
    HandoffInput,
    Limits,
    RunFailed,
    SequentialAgent,
    handoff_to,
    tool,
)
from beluga_graph.models.messages import Request
from beluga_graph.testing import ScriptedModel, ToolCall


def log_in(ctx: Context) -> str:
    ctx.deps["user"] = "ada"
    return "welcome"


def fail() -> None:
    raise OSError("disk full")


def agent(name: str, *script: Any, **options: Any) -> tuple[Agent, ScriptedModel]:
    model = ScriptedModel(script, name=name)
    return Agent(name, model=model, **options), model


# Several calls in one turn.


async def test_the_first_of_two_transfers_in_one_turn_is_made() -> None:
    one, first = agent("one", "one answers")
    two, second = agent("two")
    calls = [ToolCall("transfer_to_one", {"message": "m"}), ToolCall("transfer_to_two")]
    front, _ = agent("front", calls, handoffs=[two, one])
    events = [event async for event in front.stream("hi")]
    assert events[-1].output == "one answers"
    assert second.requests == []
    assert_valid(first.requests[0].messages)
    assert sorted(results(first.requests[0])) == [
        ("transfer_to_one", "transferred to one: m", False),
        ("transfer_to_two", "not transferred: an earlier transfer of this turn was made", True),
    ]
    (handoff,) = (event for event in events if event.type == "handoff")
    assert (handoff.source, handoff.target, handoff.agent) == ("front", "one", "one")


async def test_after_a_refused_transfer_the_next_one_is_made() -> None:
    one, first = agent("one")
    two, second = agent("two", "two answers")
    calls = [ToolCall("transfer_to_one"), ToolCall("transfer_to_two")]
    front, _ = agent("front", calls, handoffs=[handoff_to(one, is_enabled=lambda: False), two])
    assert await front.invoke("hi") == "two answers"
    assert first.requests == []
    assert ("transfer_to_one", "transfer_to_one is not available now", True) in results(second.requests[0])


async def test_tools_beside_a_transfer_run_first_and_the_target_sees_their_results() -> None:
    one, first = agent("one", "one answers")
    calls = [ToolCall("transfer_to_one"), ToolCall("fail"), ToolCall("log_in"), ToolCall("unknown")]
    front, front_model = agent("front", calls, handoffs=[one], tools=[log_in, fail])
    async with Engine(deps={}) as engine:
        assert await engine.execute(front, "hi") == "one answers"
    assert len(front_model.requests) == 1
    assert_valid(first.requests[0].messages)
    assert sorted(results(first.requests[0])) == [
        ("fail", "OSError: disk full", True),
        ("log_in", "welcome", False),
        ("transfer_to_one", "transferred to one", False),
        ("unknown", "there is no tool 'unknown'; the tools are: log_in, fail, transfer_to_one", True),
    ]


# When a transfer is offered.


Check = Callable[..., Any]


def sync_plain(seen: list[str]) -> Check:
    return lambda: seen.append("asked") or len(seen) < 3  # type: ignore[func-returns-value]  # appends, then returns


def sync_ctx(seen: list[str]) -> Check:
    def check(ctx: Context) -> bool:
        seen.append(ctx.node)
        return len(seen) < 3

    return check


def async_plain(seen: list[str]) -> Check:
    async def check() -> bool:
        seen.append("asked")
        return len(seen) < 3

    return check


def async_ctx(seen: list[str]) -> Check:
    async def check(ctx: Context) -> bool:
        seen.append(ctx.node)
        return len(seen) < 3

    return check


@pytest.mark.parametrize("make", [sync_plain, sync_ctx, async_plain, async_ctx])
async def test_is_enabled_is_called_before_each_model_call_and_again_at_the_transfer(
    make: Callable[[list[str]], Check],
) -> None:
    seen: list[str] = []
    other, _ = agent("other")
    counts: list[int] = []

    def turn(answer: Any) -> Callable[[Request], Any]:
        def told(request: Request) -> Any:
            counts.append(len(seen))
            return answer

        return told

    script = [turn(ToolCall("log_in")), turn(ToolCall("transfer_to_other")), turn("stayed")]
    front, model = agent("front", *script, tools=[log_in], handoffs=[handoff_to(other, is_enabled=make(seen))])
    async with Engine(deps={}) as engine:
        assert await engine.execute(front, "hi") == "stayed"
    assert counts == [1, 2, 4], "once before each model call, and once at the transfer"
    assert [offered_tools(model, n) for n in range(3)] == [
        ["log_in", "transfer_to_other"],
        ["log_in", "transfer_to_other"],
        ["log_in"],
    ]
    assert results(model.requests[2])[-1] == ("transfer_to_other", "transfer_to_other is not available now", True)


async def test_the_effect_of_a_tool_in_the_same_turn_decides_whether_a_transfer_is_made() -> None:
    vault, _ = agent("vault", "inside")
    opened = handoff_to(vault, is_enabled=lambda ctx: "user" in ctx.deps)
    front, model = agent("front", [ToolCall("transfer_to_vault"), ToolCall("log_in")], handoffs=[opened])
    front = Agent("front", model=model, tools=[log_in], handoffs=[opened])
    async with Engine(deps={}) as engine:
        assert await engine.execute(front, "hi") == "inside"
    assert offered_tools(model) == ["log_in"]


async def test_a_check_that_raises_before_the_call_fails_the_run_and_at_the_call_refuses_it() -> None:
    other, _ = agent("other")

    def broken() -> bool:
        raise LookupError("no flag server")

    front, model = agent("front", handoffs=[handoff_to(other, is_enabled=broken)])
    with pytest.raises(RunFailed, match="LookupError: no flag server"):
        await front.invoke("hi")
    assert model.requests == [], "nothing was paid"

    asked: list[int] = []

    def breaks_later() -> bool:
        asked.append(1)
        if len(asked) == 2:
            raise LookupError("no flag server")
        return True

    front, model = agent("front", ToolCall("transfer_to_other"), "stayed", handoffs=[])
    front = Agent("front", model=model, handoffs=[handoff_to(other, is_enabled=breaks_later)])
    assert await front.invoke("hi") == "stayed"
    assert results(model.requests[1])[0][1] == ("transfer_to_other is not available now: LookupError: no flag server")


async def test_a_message_that_is_not_text_is_refused() -> None:
    other, _ = agent("other")
    calls = [ToolCall("transfer_to_other", {"message": 5}), ToolCall("transfer_to_other", "{")]
    front, model = agent("front", calls, "stayed", handoffs=[other])
    assert await front.invoke("hi") == "stayed"
    assert [text for _, text, _ in results(model.requests[1])] == [
        "the message is not text",
        (
            "the arguments of transfer_to_other are not JSON: Expecting property name enclosed in double quotes: "
            "line 1 column 2 (char 1)"
        ),
    ]


# Callbacks.


@pytest.mark.parametrize("is_async", [False, True])
@pytest.mark.parametrize("takes_context", [False, True])
async def test_on_handoff_runs_when_a_transfer_is_made(is_async: bool, takes_context: bool) -> None:
    log: list[str] = []
    calls: dict[tuple[bool, bool], Any] = {}

    async def async_ctx(ctx: Context) -> None:
        log.append(ctx.run_id)

    async def async_plain() -> None:
        log.append("r")

    calls[True, True], calls[True, False] = async_ctx, async_plain
    calls[False, True], calls[False, False] = lambda ctx: log.append(ctx.run_id), lambda: log.append("r")
    other, _ = agent("other", "here")
    made = handoff_to(other, on_handoff=calls[is_async, takes_context])
    front, _ = agent("front", ToolCall("transfer_to_other"), handoffs=[made])
    async with Engine() as engine:
        assert await engine.execute(front, "hi", run_id="r") == "here"
    assert log == ["r"]


async def test_a_callback_that_raises_refuses_the_transfer_and_the_model_sees_the_error() -> None:
    other, _ = agent("other")

    def refuse() -> None:
        raise PermissionError("office hours only")

    front, model = agent(
        "front", ToolCall("transfer_to_other"), "stayed", handoffs=[handoff_to(other, on_handoff=refuse)]
    )
    events = [event async for event in front.stream("hi")]
    assert events[-1].output == "stayed"
    assert "handoff" not in kinds(events)
    told = ("transfer_to_other", "not transferred: PermissionError: office hours only", True)
    assert results(model.requests[1]) == [told]


# Filters.


async def test_a_filter_sees_message_history_and_context() -> None:
    got: list[HandoffInput] = []

    def watch(given: HandoffInput) -> HandoffInput:
        got.append(given)
        return given

    other, other_model = agent("other", "here")
    front, _ = agent(
        "front",
        ["thinking", ToolCall("transfer_to_other", {"message": "be kind"})],
        handoffs=[handoff_to(other, input_filter=watch)],
    )
    async with Engine() as engine:
        await engine.execute(front, "hi", context={"user": "ada"})
    (given,) = got
    assert (given.message, given.context) == ("be kind", {"user": "ada"})
    assert [m.text for m in given.history] == ["hi", "thinking", "transferred to other: be kind"]
    assert given.history == other_model.requests[0].messages, "returned as it was, it changes nothing"


async def test_a_filter_replaces_the_history_for_the_target_and_later_agents() -> None:
    def only_question(given: HandoffInput) -> HandoffInput:
        return replace(given, history=given.history[:1], message="summary: angry customer")

    third, third_model = agent("third", "third answers")
    second, second_model = agent("second", ToolCall("log_in"), ToolCall("transfer_to_third"), tools=[log_in])
    second = Agent("second", model=second_model, tools=[log_in], handoffs=[third])
    front, _ = agent(
        "front",
        ["secret thoughts", ToolCall("transfer_to_second", {"message": "m"})],
        handoffs=[handoff_to(second, input_filter=only_question)],
    )
    async with Engine(deps={}) as engine:
        assert await engine.execute(front, "hi") == "third answers"
    assert request_texts(second_model.requests[0]) == ["hi", "summary: angry customer"]
    assert request_texts(second_model.requests[1]) == ["hi", "summary: angry customer", "", "welcome"]
    assert request_texts(third_model.requests[0])[:2] == ["hi", "summary: angry customer"]
    assert "secret thoughts" not in request_texts(third_model.requests[0])
    assert_valid(third_model.requests[0].messages)


async def test_an_async_filter_may_leave_a_single_message() -> None:
    async def fresh(given: HandoffInput) -> HandoffInput:
        return HandoffInput(given.message, (), {})

    other, model = agent("other", "here")
    made = handoff_to(other, input_filter=fresh)
    front, _ = agent("front", ToolCall("transfer_to_other", {"message": "the whole task"}), handoffs=[made])
    assert await front.invoke("hi") == "here"
    assert request_texts(model.requests[0]) == ["the whole task"]


@pytest.mark.parametrize(
    ("cut", "wrong"),
    [
        (lambda given: replace(given, history=()), "the conversation is empty"),
        (lambda given: replace(given, history=given.history[1:]), "a conversation starts with a user's message"),
        (lambda given: replace(given, history=given.history[:2]), "ends before the results of the calls"),
        (
            lambda given: replace(given, history=(given.history[0], given.history[2])),
            "answers 'call_1_1', which no open call of the turn has as its id",
        ),
        (
            lambda given: replace(given, history=(*given.history[:2], given.history[0])),
            "comes before the results of the calls",
        ),
    ],
)
async def test_a_filtered_history_that_no_model_accepts_is_refused_at_the_handoff(
    cut: Callable[[HandoffInput], HandoffInput], wrong: str
) -> None:
    other, model = agent("other")
    front, _ = agent("front", ToolCall("transfer_to_other"), handoffs=[handoff_to(other, input_filter=cut)])
    message = f"the input_filter of transfer_to_other returned a history that cannot be sent to a model: .*{wrong}"
    with pytest.raises(RunFailed, match=message):
        await front.invoke("hi")
    assert model.requests == []


async def test_a_filter_that_returns_something_else_fails_the_run_and_says_so() -> None:
    other, _ = agent("other")
    made = handoff_to(other, input_filter=lambda given: given.history)  # type: ignore[arg-type,return-value]  # the test
    front, _ = agent("front", ToolCall("transfer_to_other"), handoffs=[made])
    with pytest.raises(RunFailed, match="the input_filter of transfer_to_other returned tuple: return a HandoffInput"):
        await front.invoke("hi")


# Context.


def adds(**context: Any) -> Callable[[HandoffInput], HandoffInput]:
    return lambda given: replace(given, context=context)


async def test_context_of_a_filter_is_seen_by_the_target_its_tools_its_workers_and_later_agents() -> None:
    seen: dict[str, Any] = {}

    def note(ctx: Context) -> str:
        seen["tool"] = ctx.context
        return "noted"

    def instructed(name: str) -> Callable[[Context], str]:
        def instructions(ctx: Context) -> str:
            seen[name] = ctx.context
            return ""

        return instructions

    worker, _ = agent("worker", "worked", instructions=instructed("worker"))
    last, _ = agent("last", "bye", instructions=instructed("last"))
    middle, _ = agent(
        "middle",
        [ToolCall("note"), ToolCall("transfer_to_worker", {"message": "w"})],
        ToolCall("transfer_to_last"),
        instructions=instructed("middle"),
        tools=[note],
        children=[SequentialAgent("worker", [worker])],
        handoffs=[handoff_to(last, input_filter=adds(tone="warm"))],
    )
    made = handoff_to(middle, input_filter=adds(priority="high", user="eve"))
    front, _ = agent("front", ToolCall("transfer_to_middle"), instructions=instructed("front"), handoffs=[made])
    async with Engine() as engine:
        assert await engine.execute(front, "hi", context={"user": "ada", "id": 1}) == "bye"
    handed = {"user": "eve", "id": 1, "priority": "high"}
    assert seen == {
        "front": {"user": "ada", "id": 1},
        "middle": handed,
        "tool": handed,
        "worker": handed,
        "last": {**handed, "tone": "warm"},
    }


async def test_context_of_a_handoff_ends_with_the_agent_call() -> None:
    seen: list[Any] = []

    def instructions(ctx: Context) -> str:
        seen.append(ctx.context)
        return ""

    inner, _ = agent("inner", "done")
    made = handoff_to(inner, input_filter=adds(priority="high"))
    front, _ = agent("front", ToolCall("transfer_to_inner"), handoffs=[made])
    after, _ = agent("after", "end", instructions=instructions)
    await SequentialAgent("row", [front, after]).invoke("hi")
    assert seen == [{}]


# Circles.


def ping_pong(first: list[Any], second: list[Any]) -> tuple[Agent, ScriptedModel, ScriptedModel]:
    a_model, b_model = ScriptedModel(first), ScriptedModel(second)
    a = Agent("a", model=a_model, handoffs=lambda: [b])
    b = Agent("b", model=b_model, handoffs=lambda: [a])
    return a, a_model, b_model


async def test_agents_that_name_each_other_hand_back_and_forth() -> None:
    to_a, to_b = ToolCall("transfer_to_a"), ToolCall("transfer_to_b")
    a, a_model, b_model = ping_pong([to_b, to_b, "a ends it"], [to_a, to_a])
    events = [event async for event in a.stream("hi")]
    assert events[-1].output == "a ends it"
    assert [event.target for event in events if event.type == "handoff"] == ["b", "a", "b", "a"]
    for model in (a_model, b_model):
        for request in model.requests:
            assert_valid(request.messages)
    assert len(a_model.requests[2].messages) == 1 + 4 * 2


async def test_an_endless_circle_ends_at_the_hop_limit_that_the_error_names() -> None:
    a_model = ScriptedModel(lambda _: ToolCall("transfer_to_b"))
    b_model = ScriptedModel(lambda _: ToolCall("transfer_to_a"))
    a = Agent("a", model=a_model, max_turns=99, handoffs=lambda: [b])
    b = Agent("b", model=b_model, max_turns=99, handoffs=lambda: [a])
    with pytest.raises(RunFailed, match="25 handoffs in one agent call: raise max_handoffs, or mend the circle"):
        await a.invoke("hi")
    assert len(a_model.requests) + len(b_model.requests) == 26
    a_model.requests.clear()
    with pytest.raises(RunFailed, match="3 handoffs in one agent call"):
        await a.invoke("hi", limits=Limits(max_handoffs=3))


async def test_turns_are_counted_per_agent_over_all_its_visits() -> None:
    a_model = ScriptedModel(lambda _: ToolCall("transfer_to_b"))
    b_model = ScriptedModel(lambda _: ToolCall("transfer_to_a"))
    a = Agent("a", model=a_model, max_turns=2, handoffs=lambda: [b])
    b = Agent("b", model=b_model, handoffs=lambda: [a])
    with pytest.raises(RunFailed, match="agent 'a' made 2 model turns without an answer"):
        await a.invoke("hi")
    assert (len(a_model.requests), len(b_model.requests)) == (2, 2)


async def test_an_agent_may_be_reached_in_several_ways() -> None:
    last, last_model = agent("last", "end")
    left, _ = agent("left", ToolCall("transfer_to_last"), handoffs=[last])
    right, _ = agent("right", ToolCall("transfer_to_last"), handoffs=[last])
    front, _ = agent("front", ToolCall("transfer_to_right"), handoffs=[left, right, last])
    assert await front.invoke("hi") == "end"
    assert len(last_model.requests) == 1


# Names.


def test_bad_names_and_collisions_are_refused_when_the_agent_is_compiled() -> None:
    model = ScriptedModel()
    other = Agent("other", model=model)

    def refusal(error: type[Exception], front: Agent) -> str:
        with pytest.raises(error) as refused:
            front.plan()
        return str(refused.value)

    spaced = Agent("front", model=model, handoffs=[Agent("tech support", model=model)])
    assert refusal(BadName, spaced) == (
        "graph 'front', agent 'front': 'transfer_to_tech support' is not a tool name: "
        "use 1 to 64 letters, digits, _ or -; rename 'tech support'"
    )
    long = Agent("front", model=model, handoffs=[Agent("x" * 53, model=model)])
    assert "is not a tool name" in refusal(BadName, long)
    clash = Agent("front", model=model, tools=[tool(name="transfer_to_other")(fail)], handoffs=[other])
    assert refusal(DuplicateNode, clash) == (
        "graph 'front', agent 'front': two of its tools and transfers are called 'transfer_to_other'; rename one"
    )
    assert "called 'fail'" in refusal(DuplicateNode, Agent("front", model=model, tools=[fail, fail]))
    twice = Agent("front", model=model, handoffs=[other, other])
    assert "called 'transfer_to_other'" in refusal(DuplicateNode, twice)
    namesake = Agent("front", model=model, handoffs=[Agent("front", model=model)])
    assert "two agents of one conversation are called 'front'" in refusal(DuplicateNode, namesake)
    hidden = Agent("hidden", model=model, handoffs=[Agent("other", model=model)])
    assert "two agents of one conversation are called 'other'" in refusal(
        DuplicateNode, Agent("front", model=model, handoffs=[other, hidden])
    )
    graph = Graph("steps")
    assert refusal(BadName, Agent("front", model=model, handoffs=[handoff_to(graph)])) == (
        "graph 'front', agent 'front': it hands over to 'steps', which is not an agent, so it cannot take a turn; "
        "put it in children=, to delegate to it"
    )
    dotted = Agent("a:calls", model=model, handoffs=[Agent("a", model=model, tools=[fail])])
    assert "two agents have one of this name" in refusal(DuplicateNode, dotted)


async def test_a_handoff_within_a_conversation_is_drawn_as_one() -> None:
    other, _ = agent("other")
    front, _ = agent("front", handoffs=[other])
    assert "front.transfer_to_other" in front.mermaid()
    kinds_of_edges = {kind for node in front.plan().shape.nodes.values() for _, _, kind in node.routes}
    assert "handoff" in kinds_of_edges


async def test_messages_say_which_agent_spoke() -> None:
    other, model = agent("other", "here")
    front, _ = agent("front", ToolCall("transfer_to_other"), handoffs=[other])
    await front.invoke("hi")
    assert [(m.role, m.agent) for m in model.requests[0].messages][1] == ("assistant", "front")
