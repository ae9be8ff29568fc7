"""Tools that wait for a person: what the model sees of approve, reject and modify."""

import asyncio
from typing import Any

import pytest

from beluga_graph import Agent, BadSignal, Context, Engine, Question, Retry, tool
from beluga_graph.models.messages import Request
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


def seen_by(model: ScriptedModel) -> list[tuple[str, str, bool]]:
    """Return the tool results of the last request: call, text, whether it is an error."""
    last: Request = model.requests[-1]
    return [(m.call_id, m.text, m.is_error) for m in last.messages if m.role == "tool"]


async def asked(engine: Engine, count: int = 1) -> list[Question]:
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
async def test_the_model_sees_what_a_person_made_of_its_call(
    decision: str, more: dict[str, Any], made: list[int], text: str, is_error: bool
) -> None:
    done: list[int] = []
    model = ScriptedModel([call(5), "The end."])
    async with Engine() as engine:
        run = await engine.start(refunding(model, done), "refund me", run_id=RUN)
        (question,) = await asked(engine)
        assert (question.kind, question.flow, question.node) == ("tool", "desk", "desk.refund")
        assert question.value == {"name": "refund", "arguments": {"amount": 5}}
        assert done == []
        await engine.answer(RUN, question.id, decision, **more)
        assert await run.result(60) == "The end."
        events = [event async for event in run.events()]
    assert done == made
    assert seen_by(model) == [("call-5", text, is_error)]
    results = [(e.call_id, e.error if is_error else e.output) for e in events if e.type == "tool_result"]
    assert results == [("call-5", text)]
    assert [e.type for e in events if e.type == "error"] == []
    assert [e.name for e in events if e.type in ("waiting", "signal")] == ["approval", "approval"]


async def test_two_calls_of_a_turn_are_answered_in_reverse_and_a_third_needs_nobody() -> None:
    done: list[int] = []
    model = ScriptedModel([[call(1), call(200), call(300)], "The end."])

    def large(arguments: dict[str, Any]) -> bool:
        return bool(arguments["amount"] > 100)

    async with Engine() as engine:
        run = await engine.start(refunding(model, done, requires_approval=large), "refund us", run_id=RUN)
        questions = {q.value["arguments"]["amount"]: q for q in await asked(engine, 2)}
        await engine.answer(RUN, questions[300].id, "reject", reason="no")
        await engine.answer(RUN, questions[200].id, "approve")
        assert await run.result(60) == "The end."
    assert sorted(done) == [1, 200]
    assert seen_by(model) == [
        ("call-1", "refunded 1", False),
        ("call-200", "refunded 200", False),
        ("call-300", "rejected: no", True),
    ]


async def test_the_conversation_goes_on_after_a_rejection() -> None:
    done: list[int] = []
    model = ScriptedModel([call(5), call(4), "The end."])
    async with Engine() as engine:
        run = await engine.start(refunding(model, done), "refund me", run_id=RUN)
        (question,) = await asked(engine)
        await engine.answer(RUN, question.id, "reject", reason="less")
        (second,) = await asked(engine)
        assert second.id != question.id
        await engine.answer(RUN, second.id, "approve")
        assert await run.result(60) == "The end."
    assert done == [4]
    roles = [message.role for message in model.requests[-1].messages]
    assert roles == ["user", "assistant", "tool", "assistant", "tool"]
    assert seen_by(model) == [("call-5", "rejected: less", True), ("call-4", "refunded 4", False)]


async def test_a_call_with_bad_arguments_is_never_asked_about() -> None:
    done: list[int] = []
    model = ScriptedModel([call("many"), "The end."])
    async with Engine() as engine:
        assert await engine.execute(refunding(model, done), "refund me") == "The end."
    ((_, text, is_error),) = seen_by(model)
    assert (text.partition(":")[0], is_error) == ("ToolError", True)


async def test_a_function_may_decide_by_the_context() -> None:
    done: list[int] = []
    model = ScriptedModel([call(5), "The end."])

    async def unless_trusted(ctx: Context, arguments: dict[str, Any]) -> bool:
        return ctx.context["user"] != "ada"

    agent = refunding(model, done, requires_approval=unless_trusted)
    async with Engine() as engine:
        assert await engine.execute(agent, "refund me", context={"user": "ada"}) == "The end."
    assert done == [5]


async def test_a_function_that_raises_is_told_to_the_model_as_the_result() -> None:
    model = ScriptedModel([call(5), "The end."])

    def broken(arguments: dict[str, Any]) -> bool:
        raise LookupError("no such rule")

    async with Engine() as engine:
        assert await engine.execute(refunding(model, [], requires_approval=broken), "refund me") == "The end."
    assert seen_by(model) == [("call-5", "LookupError: no such rule", True)]


@pytest.mark.parametrize("value", [{"amount": "many"}, {"sum": 5}, 5, {"amount": {1, 2}}])
async def test_arguments_that_the_tool_would_not_take_are_refused_at_the_door(value: Any) -> None:
    done: list[int] = []
    async with Engine() as engine:
        run = await engine.start(refunding(ScriptedModel([call(5), "The end."]), done), "refund me", run_id=RUN)
        (question,) = await asked(engine)
        with pytest.raises(BadSignal, match=r"run 'r': 'desk\.refund' cannot take that value: "):
            await engine.answer(RUN, question.id, "modify", value)
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "The end."
    assert done == [5]


async def test_a_question_is_told_without_the_agent_and_its_model_is_not_asked_again() -> None:
    store, done = MemoryStore(), []
    first = ScriptedModel([call(5)])
    async with Engine(store) as engine:
        await engine.start(refunding(first, done), "refund me", run_id=RUN)
        await asked(engine)
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


async def test_the_retries_of_a_tool_come_after_the_answer() -> None:
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
        (question,) = await asked(engine)
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "The end."
    assert attempts == [1, 2, 3]


def test_what_cannot_decide_is_refused() -> None:
    with pytest.raises(TypeError, match="tool 'refund': requires_approval=1; give True, or a function"):
        refunding(ScriptedModel([]), [], requires_approval=1)


def test_a_question_shows_in_the_drawing() -> None:
    drawn = refunding(ScriptedModel([]), []).mermaid()
    assert "desk.refund.approval" in drawn
    assert "desk.refund.asks" in drawn
