"""Tools that wait for a person: the results that the model sees after approve, reject and modify."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from agents_checks import assert_valid

from beluga_graph import Agent, BadSignal, Context, Engine, Event, Question, Retry, Run, tool
from beluga_graph.agents.conversation import Outcome, Pending
from beluga_graph.codec import Codec, Registry
from beluga_graph.models.messages import Request
from beluga_graph.models.messages import ToolCall as MessageCall
from beluga_graph.testing import ScriptedModel, ToolCall
from stores import MemoryStore

RUN = "r"


def refunding(model: ScriptedModel, made: list[int], **options: Any) -> Agent:
    @tool(**{"requires_approval": True, **options})
    def refund(amount: int) -> str:
        """Give money back."""
        made.append(amount)
        return f"refunded {amount}"

    return Agent("desk", model=model, tools=[refund])


def last_results(model: ScriptedModel) -> list[tuple[str, str, bool]]:
    """Return the tool results of the last request: call, text, whether it is an error."""
    last: Request = model.requests[-1]
    return [(m.call_id, m.text, m.is_error) for m in last.messages if m.role == "tool"]


async def open_questions(engine: Engine, count: int = 1) -> list[Question]:
    async with asyncio.timeout(60):
        while len(found := await engine.pending()) != count:  # noqa: ASYNC110  # a question is not announced
            await asyncio.sleep(0.001)
    return found


def call(amount: Any, name: str = "refund") -> ToolCall:
    return ToolCall(name, {"amount": amount}, id=f"call-{amount}")


@pytest.mark.parametrize(
    ("decision", "more", "made", "text", "is_error"),
    [
        ("approve", {}, [5], "refunded 5", False),
        ("modify", {"value": {"amount": 2}}, [2], "refunded 2", False),
        ("reject", {"reason": "not today"}, [], "rejected: not today", True),
        ("reject", {}, [], "rejected: no reason was given", True),
    ],
)
async def test_the_model_sees_the_decision_of_a_person_about_its_call(
    decision: str, more: dict[str, Any], made: list[int], text: str, is_error: bool
) -> None:
    done: list[int] = []
    model = ScriptedModel([call(5), "The end."])
    async with Engine() as engine:
        run = await engine.start(refunding(model, done), "refund me", run_id=RUN)
        (question,) = await open_questions(engine)
        assert (question.kind, question.flow, question.node) == ("tool", "desk", "desk.refund")
        assert question.value == {"name": "refund", "arguments": {"amount": 5}}
        assert done == []
        await engine.answer(RUN, question.id, decision, **more)
        assert await run.result(60) == "The end."
        events = [event async for event in run.events()]
    assert done == made
    assert last_results(model) == [("call-5", text, is_error)]
    results = [(e.call_id, e.error if is_error else e.output) for e in events if e.type == "tool_result"]
    assert results == [("call-5", text)]
    assert [e.type for e in events if e.type == "error"] == []
    assert [e.name for e in events if e.type in ("waiting", "signal")] == ["approval", "approval"]


def calls_in(request: Request) -> list[tuple[str, Any]]:
    """Return the calls of a request's conversation: id and arguments."""
    return [(call.id, json.loads(call.arguments)) for message in request.messages for call in message.tool_calls]


async def answer_all(engine: Engine, answers: dict[int, tuple[str, dict[str, Any]]]) -> None:
    for question in await open_questions(engine, len(answers)):
        decision, more = answers[question.value["arguments"]["amount"]]
        await engine.answer(question.run_id, question.id, decision, **more)


async def test_the_model_sees_the_arguments_that_each_call_was_made_with() -> None:
    done: list[int] = []

    def made(ctx: Context, arguments: dict[str, Any]) -> bool:
        return bool(arguments["amount"] != 9)

    @tool(requires_approval=made)
    def refund(amount: int) -> str:
        """Give money back."""
        done.append(amount)
        if amount == 30:
            raise ValueError("too much")
        return f"refunded {amount}"

    model = ScriptedModel([[call(n) for n in (1, 2, 3, 4, 9)], ToolCall("refund", {"amount": 2}, id="call-2"), "Bye."])
    async with Engine() as engine:
        run = await engine.start(Agent("desk", model=model, tools=[refund]), "refund us", run_id=RUN)
        modified = {1: ("modify", {"value": {"amount": 10}}), 3: ("modify", {"value": {"amount": 30}})}
        await answer_all(engine, {**modified, 2: ("modify", {"value": {"amount": 2}}), 4: ("reject", {})})
        await answer_all(engine, {2: ("approve", {})})
        assert await run.result(60) == "Bye."
    used = [("call-1", {"amount": 10}), ("call-2", {"amount": 2}), ("call-3", {"amount": 30})]
    used += [("call-4", {"amount": 4}), ("call-9", {"amount": 9})]
    assert calls_in(model.requests[1]) == used
    assert calls_in(model.requests[2]) == [*used, ("call-2", {"amount": 2})], "a later call of one id is its own"
    for request in model.requests:
        assert_valid(request.messages)
    assert [text for _, text, _ in last_results(model)[:3]] == ["refunded 10", "refunded 2", "ValueError: too much"]
    assert sorted(done) == [2, 2, 9, 10, 30]


async def test_a_call_of_the_same_id_in_a_later_turn_keeps_its_own_arguments() -> None:
    again = ToolCall("refund", {"amount": 7}, id="call")
    model = ScriptedModel([ToolCall("refund", {"amount": 5}, id="call"), again, "Bye."])
    async with Engine() as engine:
        run = await engine.start(refunding(model, []), "refund me", run_id=RUN)
        await answer_all(engine, {5: ("modify", {"value": {"amount": 2}})})
        await answer_all(engine, {7: ("approve", {})})
        assert await run.result(60) == "Bye."
    assert calls_in(model.requests[-1]) == [("call", {"amount": 2}), ("call", {"amount": 7})]


async def test_the_arguments_of_a_modified_call_survive_the_process_and_stay_in_the_session() -> None:
    store, done = MemoryStore(), []
    async with Engine(store) as engine:
        await engine.start(refunding(ScriptedModel([call(5)]), done), "refund me", run_id=RUN, session="s")
        await answer_all(engine, {5: ("modify", {"value": {"amount": 2}})})
    model = ScriptedModel(["The end.", "Hello again."])
    async with Engine(store) as engine:
        run = await engine.start(refunding(model, done), "refund me", run_id=RUN, session="s")
        assert await run.result(60) == "The end."
        assert await engine.execute(refunding(model, done), "And?", session="s") == "Hello again."
    for request in model.requests:
        assert calls_in(request) == [("call-5", {"amount": 2})]
        assert_valid(request.messages)
    assert done == [2]


async def test_a_transfer_beside_a_modified_call_shows_the_arguments_that_were_used() -> None:
    target = ScriptedModel(["Done."])
    model = ScriptedModel([[call(5), ToolCall("transfer_to_other", {}, id="go")]])
    agent = refunding(model, [])
    desk = Agent("desk", model=model, tools=agent.tools, handoffs=[Agent("other", model=target)])
    async with Engine() as engine:
        run = await engine.start(desk, "refund me", run_id=RUN)
        await answer_all(engine, {5: ("modify", {"value": {"amount": 2}})})
        assert await run.result(60) == "Done."
    assert calls_in(target.requests[0]) == [("call-5", {"amount": 2}), ("go", {})]
    assert_valid(target.requests[0].messages)


def test_a_turn_that_was_stored_without_its_message_can_be_read() -> None:
    @dataclass(frozen=True, slots=True)
    class Before:
        calls: tuple[MessageCall, ...]
        settled: dict[int, Outcome]
        transfers: tuple[int, ...]

    Before.__module__, Before.__qualname__, Before.__name__ = Pending.__module__, "Pending", "Pending"
    calls = (MessageCall("1", "refund", "{}"),)
    stored = Codec(Registry.of(Before, MessageCall)).encode(Before(calls, {}, (0,)))
    read = Codec(Registry.of(Pending, MessageCall)).decode(stored)
    assert read == Pending(calls, {}, (0,), None)


async def test_the_event_shows_the_question_that_is_pending(tmp_path: Path) -> None:
    def of_question(events: list[Event]) -> list[tuple[str, str, Any]]:
        return [(e.type, e.question, e.output) for e in events if e.question]

    async with Engine(tmp_path / "store") as engine:
        run = await engine.start(refunding(ScriptedModel([call(5), "The end."]), []), "refund me", run_id=RUN)
        live = [event async for event in until_waiting(run)]
        (question,) = await open_questions(engine)
        assert of_question(live) == [("waiting", question.id, question.value)]
        assert question.value == {"name": "refund", "arguments": {"amount": 5}}
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "The end."
        whole = of_question([event async for event in run.events()])
        assert whole[0] == ("waiting", question.id, question.value)
        assert [(kind, name) for kind, name, _ in whole] == [("waiting", question.id), ("signal", question.id)]
    async with Engine(tmp_path / "store") as engine:  # it knows neither the agent nor its classes
        told = [event for step in await engine.history(RUN) for event in step.events]
        assert of_question(told) == whole


async def until_waiting(run: Run) -> AsyncIterator[Event]:
    async for event in run.events():
        yield event
        if event.type == "waiting":
            return


async def test_two_calls_of_a_turn_are_answered_in_reverse_and_a_third_needs_no_answer() -> None:
    done: list[int] = []
    model = ScriptedModel([[call(1), call(200), call(300)], "The end."])

    def large(arguments: dict[str, Any]) -> bool:
        return bool(arguments["amount"] > 100)

    async with Engine() as engine:
        run = await engine.start(refunding(model, done, requires_approval=large), "refund us", run_id=RUN)
        questions = {q.value["arguments"]["amount"]: q for q in await open_questions(engine, 2)}
        await engine.answer(RUN, questions[300].id, "reject", reason="no")
        await engine.answer(RUN, questions[200].id, "approve")
        assert await run.result(60) == "The end."
    assert sorted(done) == [1, 200]
    assert last_results(model) == [
        ("call-1", "refunded 1", False),
        ("call-200", "refunded 200", False),
        ("call-300", "rejected: no", True),
    ]


async def test_the_conversation_continues_after_a_rejection() -> None:
    done: list[int] = []
    model = ScriptedModel([call(5), call(4), "The end."])
    async with Engine() as engine:
        run = await engine.start(refunding(model, done), "refund me", run_id=RUN)
        (question,) = await open_questions(engine)
        await engine.answer(RUN, question.id, "reject", reason="less")
        (second,) = await open_questions(engine)
        assert second.id != question.id
        await engine.answer(RUN, second.id, "approve")
        assert await run.result(60) == "The end."
    assert done == [4]
    roles = [message.role for message in model.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]
    assert last_results(model) == [("call-5", "rejected: less", True), ("call-4", "refunded 4", False)]


async def test_a_call_with_bad_arguments_never_asks_for_approval() -> None:
    done: list[int] = []
    model = ScriptedModel([call("many"), "The end."])
    async with Engine() as engine:
        assert await engine.execute(refunding(model, done), "refund me") == "The end."
    ((_, text, is_error),) = last_results(model)
    assert (text.partition(":")[0], is_error) == ("ToolError", True)


async def test_a_function_may_require_approval_depending_on_the_context() -> None:
    done: list[int] = []
    model = ScriptedModel([call(5), "The end."])

    async def unless_trusted(ctx: Context, arguments: dict[str, Any]) -> bool:
        return ctx.context["user"] != "ada"

    agent = refunding(model, done, requires_approval=unless_trusted)
    async with Engine() as engine:
        assert await engine.execute(agent, "refund me", context={"user": "ada"}) == "The end."
    assert done == [5]


async def test_the_error_of_an_approval_function_becomes_the_result_of_the_call() -> None:
    model = ScriptedModel([call(5), "The end."])

    def broken(arguments: dict[str, Any]) -> bool:
        raise LookupError("no such rule")

    async with Engine() as engine:
        assert await engine.execute(refunding(model, [], requires_approval=broken), "refund me") == "The end."
    assert last_results(model) == [("call-5", "LookupError: no such rule", True)]


@pytest.mark.parametrize("value", [{"amount": "many"}, {"sum": 5}, 5, {"amount": {1, 2}}])
async def test_an_answer_with_arguments_that_the_tool_does_not_accept_is_refused(value: Any) -> None:
    done: list[int] = []
    async with Engine() as engine:
        run = await engine.start(refunding(ScriptedModel([call(5), "The end."]), done), "refund me", run_id=RUN)
        (question,) = await open_questions(engine)
        with pytest.raises(BadSignal, match=r"run 'r': 'desk\.refund' cannot take that value: "):
            await engine.answer(RUN, question.id, "modify", value)
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "The end."
    assert done == [5]


async def test_a_question_can_be_read_without_the_agent_and_its_model_is_not_asked_again() -> None:
    store, done = MemoryStore(), []
    first = ScriptedModel([call(5)])
    async with Engine(store) as engine:
        await engine.start(refunding(first, done), "refund me", run_id=RUN)
        await open_questions(engine)
    async with Engine(store) as engine:
        (question,) = await engine.pending()
        assert question.value == {"name": "refund", "arguments": {"amount": 5}}
        await engine.answer(RUN, question.id, "approve")
    second = ScriptedModel(["The end."])
    async with Engine(store) as engine:
        engine.register(refunding(second, done))
        (run,) = await engine.recover()
        assert await run.result(60) == "The end."
    assert (len(first.requests), len(second.requests), done) == (1, 1, [5])


async def test_a_tool_is_retried_after_the_approval_without_another_question() -> None:
    attempts: list[int] = []

    @tool(requires_approval=True, retry=Retry(attempts=3, initial=0))
    async def flaky(ctx: Context) -> str:
        """Fail twice."""
        attempts.append(ctx.attempt)
        if ctx.attempt < 3:
            raise OSError
        return "done"

    model = ScriptedModel([ToolCall("flaky", {}), "The end."])
    async with Engine() as engine:
        run = await engine.start(Agent("desk", model=model, tools=[flaky]), "go", run_id=RUN)
        (question,) = await open_questions(engine)
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "The end."
    assert attempts == [1, 2, 3]


def test_an_approval_rule_that_is_neither_true_nor_a_function_is_refused() -> None:
    with pytest.raises(TypeError, match="tool 'refund': requires_approval=1; give True, or a function"):
        refunding(ScriptedModel([]), [], requires_approval=1)


def test_a_question_appears_in_the_drawing() -> None:
    drawn = refunding(ScriptedModel([]), []).mermaid()
    assert "desk.refund.approval" in drawn
    assert "desk.refund.asks" in drawn
