"""Steps that wait for a person: the effects of approve, reject and modify, and that each answer counts once."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Any

import pytest
from pydantic import BaseModel

from beluga_graph import (
    END,
    START,
    BadName,
    BadSignal,
    Context,
    DuplicateNode,
    Engine,
    Event,
    Failure,
    Graph,
    Question,
    Rejected,
    Retry,
    Run,
    RunConflict,
    RunFailed,
    RunStatus,
    Workflow,
    append,
    step,
    wait_signal,
)
from beluga_graph.storage.keys import Keys
from beluga_graph.testing import VirtualClock
from stores import MemoryStore

RUN = "r"


class Order(BaseModel):
    amount: int
    to: str = "ada"


class Counted:
    """A step's body that records its inputs."""

    def __init__(self) -> None:
        self.given: list[Any] = []

    def __call__(self, order: Order) -> str:
        self.given.append(order)
        return f"paid {order.amount} to {order.to}"


def paying(pay: Counted, **options: Any) -> Workflow:
    async def pays(order: Order) -> str:
        return pay(order)

    return Workflow("paying", step("pay", pays, **{"requires_approval": True, **options}))


async def asked(engine: Engine, count: int = 1) -> list[Question]:
    """Return the questions of a store once there are `count` of them."""
    async with asyncio.timeout(60):
        while len(found := await engine.pending()) != count:  # noqa: ASYNC110  # a question is not announced
            await asyncio.sleep(0.001)
    return found


async def only(engine: Engine) -> Question:
    (question,) = await asked(engine)
    return question


# Asking.


async def test_a_step_that_requires_approval_runs_once_a_person_has_approved() -> None:
    pay, clock = Counted(), VirtualClock()
    async with Engine(clock=clock) as engine:
        run = await engine.start(paying(pay), Order(amount=5), run_id=RUN)
        question = await only(engine)
        assert question == Question(
            run_id=RUN,
            id="pay.approval#1",
            flow="paying",
            node="pay",
            kind="step",
            value=Order(amount=5),
            asked_ms=clock.now_ms(),
        )
        assert await run.status() is RunStatus.waiting
        assert pay.given == []
        await engine.answer(RUN, question.id, "approve", reason="fine")
        assert await run.result(60) == "paid 5 to ada"
        assert await engine.pending() == []
        events = [event async for event in run.events()]
    assert pay.given == [Order(amount=5)]
    shown = [(e.type, e.name, e.output) for e in events if e.type in ("waiting", "signal")]
    assert shown == [
        ("waiting", "approval", Order(amount=5)),
        ("signal", "approval", {"decision": "approve", "reason": "fine"}),
    ]


async def test_a_modified_value_is_validated_and_becomes_the_input_of_the_step() -> None:
    pay = Counted()
    async with Engine() as engine:
        run = await engine.start(paying(pay), Order(amount=5), run_id=RUN)
        await engine.answer(RUN, (await only(engine)).id, "modify", {"amount": "3", "to": "bob"})
        assert await run.result(60) == "paid 3 to bob"
    assert pay.given == [Order(amount=3, to="bob")]


async def test_a_rejected_step_fails_with_the_reason_and_is_never_retried() -> None:
    pay = Counted()
    flow = paying(pay, retry=Retry(attempts=5, initial=0))
    around = Workflow("around", step("whole", flow, retry=Retry(attempts=5, initial=0)))
    async with Engine() as engine:
        run = await engine.start(around, Order(amount=5), run_id=RUN)
        await engine.answer(RUN, (await only(engine)).id, "reject", reason="too much")
        with pytest.raises(RunFailed) as caught:
            await run.result(60)
        assert await engine.pending() == []
    assert caught.value.cause == Failure("whole/pay.approval", "Rejected", "too much", 1, Order(amount=5))
    assert isinstance(caught.value.__cause__, Rejected)
    assert pay.given == []


async def test_a_rejection_goes_to_the_error_edge_of_its_step() -> None:
    g = Graph("g")

    @g.node(requires_approval=True)
    async def pay(order: Order) -> str:
        raise AssertionError

    @g.node
    async def told(failure: Failure) -> list[Any]:
        return [failure.type, failure.message, failure.input]

    g.edge(START, pay)
    g.edge(pay, END)
    g.edge(told, END)
    g.on_error(pay, told)
    async with Engine() as engine:
        run = await engine.start(g, Order(amount=5), run_id=RUN)
        await engine.answer(RUN, (await only(engine)).id, "reject")
        assert await run.result(60) == ["Rejected", "no reason was given", Order(amount=5)]


async def test_the_retries_and_the_timeout_of_a_step_count_from_the_answer() -> None:
    clock, attempts = VirtualClock(), []

    async def flaky(ctx: Context, value: int) -> int:
        attempts.append(ctx.attempt)
        if ctx.attempt == 1:
            raise OSError
        if ctx.attempt == 2:
            await asyncio.Event().wait()
        return value

    policy = Retry(attempts=3, initial=1, factor=1)
    flow = Workflow("w", step("flaky", flaky, retry=policy, timeout=2, requires_approval=True))
    async with Engine(clock=clock) as engine:
        run = await engine.start(flow, 7, run_id=RUN)
        question = await only(engine)
        await clock.advance(3600)
        await engine.answer(RUN, question.id, "approve")
        await clock.advance(10)
        assert await run.result(60) == 7
    assert attempts == [1, 2, 3]


class Log(BaseModel):
    lines: Annotated[list[str], append] = []


async def test_a_step_that_requires_approval_has_the_state_of_its_graph() -> None:
    async def write(ctx: Context, value: str) -> str:
        ctx.update(lines=value)
        return value

    async def read(ctx: Context, value: str) -> list[str]:
        return list(ctx.state.lines)

    flow = Workflow("w", step("write", write, requires_approval=True), read, state=Log)
    async with Engine() as engine:
        run = await engine.start(flow, "x", run_id=RUN)
        await engine.answer(RUN, (await only(engine)).id, "approve")
        assert await run.result(60) == ["x"]


@pytest.mark.parametrize("with_context", [False, True])
async def test_a_function_decides_whether_to_ask_and_is_asked_once(with_context: bool) -> None:
    calls: list[int] = []

    def large(order: Order) -> bool:
        calls.append(order.amount)
        return order.amount > 10

    async def large_for(ctx: Context, order: Order) -> bool:
        assert ctx.run_id
        return large(order)

    pay, store = Counted(), MemoryStore()
    flow = paying(pay, requires_approval=large_for if with_context else large)
    async with Engine(store) as engine:
        assert await engine.execute(flow, Order(amount=10)) == "paid 10 to ada"
        await engine.start(flow, Order(amount=11), run_id=RUN)
        question = await only(engine)
    async with Engine(store) as engine:
        engine.register(flow)
        run = await engine.resume(RUN)
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "paid 11 to ada"
    assert calls == [10, 11]


async def test_a_function_that_does_not_return_a_bool_fails_the_step() -> None:
    async with Engine() as engine:
        with pytest.raises(RunFailed, match="chose the route 'yes', which its branch does not have: False, True"):
            await engine.execute(paying(Counted(), requires_approval=lambda order: "yes"), Order(amount=1))


async def test_a_whole_flow_can_require_approval() -> None:
    inner = Workflow("inner", paying(Counted()).parts[0])
    flow = Workflow("outer", step("whole", inner, requires_approval=True))
    async with Engine() as engine:
        run = await engine.start(flow, Order(amount=5), run_id=RUN)
        question = await only(engine)
        assert (question.node, question.value) == ("whole", Order(amount=5))
        await engine.answer(RUN, question.id, "modify", {"amount": 4})
        async with asyncio.timeout(60):
            while (question := await only(engine)).node == "whole":  # noqa: ASYNC110  # see above
                await asyncio.sleep(0.001)
        assert (question.node, question.value) == ("whole/pay", Order(amount=4))
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "paid 4 to ada"


# Parallel questions.


def paying_all(pay: Counted) -> Graph:
    g = Graph("paying-all")

    async def pays(order: Order) -> str:
        return pay(order)

    g.add(step("pay", pays, requires_approval=True))
    g.join("paid")
    g.fan_out("orders", to="pay", over=lambda amounts: [Order(amount=n) for n in amounts], join="paid")
    g.edge(START, "orders")
    g.edge("paid", END)
    return g


async def test_answers_reach_their_questions_in_any_order() -> None:
    pay = Counted()
    async with Engine() as engine:
        run = await engine.start(paying_all(pay), [1, 2, 3], run_id=RUN)
        questions = await asked(engine, 3)
        assert {q.value.amount: q.id for q in questions} == {n: f"orders#1[{n - 1}]/pay.approval#1" for n in (1, 2, 3)}
        for question in reversed(questions):
            await engine.answer(RUN, question.id, "modify", {"amount": question.value.amount * 10})
        assert await run.result(60) == ["paid 10 to ada", "paid 20 to ada", "paid 30 to ada"]
    assert sorted(order.amount for order in pay.given) == [10, 20, 30]


async def test_a_dropped_question_is_no_longer_pending() -> None:
    g = Graph("g")

    async def quick(value: int) -> int:
        await asked(engine)
        return value

    g.add(step("quick", quick))
    g.add(step("slow", quick, requires_approval=True))
    g.join("first", wait=1)
    g.fan_out("both", to=["quick", "slow"], join="first")
    g.edge(START, "both")
    g.edge("first", END)
    async with Engine() as engine:
        assert await engine.execute(g, 7) == [7]
        assert await engine.pending() == []


# Answering.


@pytest.mark.parametrize(
    ("answer", "error", "text"),
    [
        (
            lambda engine, question: engine.answer(RUN, question, "perhaps"),
            ValueError,
            "decision 'perhaps': give one of approve, reject, modify",
        ),
        (
            lambda engine, question: engine.answer(RUN, question, "modify"),
            ValueError,
            "decision 'modify' needs the value that replaces the original one: only modify has one",
        ),
        (
            lambda engine, question: engine.answer(RUN, question, "approve", None),
            ValueError,
            "decision 'approve' takes no value: only modify has one",
        ),
        (
            lambda engine, question: engine.answer(RUN, question, "reject", reason=5),
            ValueError,
            "reason 5 is not text",
        ),
        (
            lambda engine, question: engine.answer(RUN, question, "modify", {"amount": "many"}),
            BadSignal,
            "run 'r': 'pay' cannot take that value: 1 validation error for Order",
        ),
        (
            lambda engine, question: engine.answer(RUN, "pay#1", "approve"),
            RunConflict,
            "run 'r': it does not ask 'pay#1'; the questions that are pending: 'pay.approval#1'",
        ),
    ],
)
async def test_an_invalid_answer_is_refused_and_the_question_stays(
    answer: Callable[[Engine, str], Awaitable[None]], error: type[Exception], text: str
) -> None:
    async with Engine() as engine:
        run = await engine.start(paying(Counted()), Order(amount=5), run_id=RUN)
        question = await only(engine)
        with pytest.raises(error) as caught:
            await answer(engine, question.id)
        assert str(caught.value).splitlines()[0] == text
        assert await only(engine) == question
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == "paid 5 to ada"


async def test_a_second_answer_is_refused_even_before_the_first_has_been_read() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        await engine.start(paying(Counted()), Order(amount=5), run_id=RUN)
        question = await only(engine)
    async with Engine(store) as engine:
        engine.register(paying(Counted()))
        await engine.answer(RUN, question.id, "approve")
        assert await engine.pending() == []
        with pytest.raises(RunConflict, match=r"run 'r': question 'pay\.approval#1' has been answered already"):
            await engine.answer(RUN, question.id, "reject")
        run = await engine.resume(RUN)
        assert await run.result(60) == "paid 5 to ada"
        with pytest.raises(RunConflict, match="it is completed: a run that has ended asks nothing"):
            await engine.answer(RUN, question.id, "reject")


async def test_one_of_two_concurrent_answers_counts() -> None:
    async with Engine() as engine:
        run = await engine.start(paying(Counted()), Order(amount=5), run_id=RUN)
        question = await only(engine)
        answers = [engine.answer(RUN, question.id, "modify", {"amount": n}) for n in range(9)]
        outcomes = await asyncio.gather(*answers, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes if outcome is not None] == [RunConflict] * 8
        assert await run.result(60) == f"paid {outcomes.index(None)} to ada"


async def test_another_engine_answers_without_knowing_the_flow() -> None:
    store, pay = MemoryStore(), Counted()
    async with Engine(store) as owner, Engine(store) as other:
        run = await owner.start(paying(pay), Order(amount=5), run_id=RUN)
        question = await only(other)
        assert (question.node, question.kind) == ("pay", "step")
        assert question.value.fields == {"amount": 5, "to": "ada"}
        await other.answer(RUN, question.id, "modify", {"amount": 6})
        assert await run.result(60) == "paid 6 to ada"


async def test_after_an_answer_that_does_not_fit_the_person_is_asked_again() -> None:
    store, pay = MemoryStore(), Counted()
    async with Engine(store) as owner, Engine(store) as other:
        run = await owner.start(paying(pay), Order(amount=5), run_id=RUN)
        await other.answer(RUN, (await only(other)).id, "modify", {"amount": "many"})
        question = await only(owner)
        (told,) = [event async for event in _until_asked_twice(run) if event.type == "retry"]
        assert "Input should be a valid integer" in told.error
        assert (question.id, question.value) == ("pay.approval#1", Order(amount=5))
        await owner.answer(RUN, question.id, "approve")
        assert await run.result(60) == "paid 5 to ada"


async def _until_asked_twice(run: Run) -> AsyncIterator[Event]:
    asked = 0
    async for event in run.events():
        yield event
        asked += event.type == "waiting"
        if asked == 2:
            return


async def test_a_signal_that_is_not_an_answer_is_harmless() -> None:
    async with Engine() as engine:
        run = await engine.start(paying(Counted()), Order(amount=5), run_id=RUN)
        question = await only(engine)
        head, name = engine._host.runs.head(RUN), f"approval:{question.id}"
        with pytest.raises(BadSignal, match="is the name of an answer"):
            await engine.signal(RUN, name, {"decision": "approve"})
        await engine._host.scheduler.inbox.send(head, engine._host.flows.plan_of(head), name, ["approve"], known=True)
        engine._host.wakeups.on_signal(RUN, name)
        events = [event async for event in _until_asked_twice(run)]
        assert [event.error for event in events if event.type == "retry"] == [
            "the payload ['approve'] is not an answer: give a decision, and optionally a value and a reason"
        ]
        await engine.answer(RUN, (await only(engine)).id, "approve")
        assert await run.result(60) == "paid 5 to ada"


async def test_an_answer_cannot_be_sent_before_the_question_is_asked() -> None:
    done = Counted()
    async with Engine() as engine:
        flow = paying(done)
        run = await engine.start(flow, Order(amount=5), run_id=RUN)
        question = await only(engine)
        for name in (f"approval:{question.id}", "approval:another#1"):
            with pytest.raises(BadSignal, match=r"give it by engine\.answer"):
                await run.signal(name, {"decision": "approve"})
        with pytest.raises(BadSignal, match="5 cannot name a signal"):
            await run.signal(5, 1)  # type: ignore[arg-type]
        assert await run.status() == "waiting"
        assert [found.id for found in await engine.pending()] == [question.id]


# The index.


async def test_pending_returns_the_questions_of_all_runs_oldest_first() -> None:
    clock, store = VirtualClock(), MemoryStore()
    async with Engine(store, clock=clock) as engine:
        for name in ("b", "c", "a"):
            await engine.start(paying(Counted()), Order(amount=5), run_id=name)
            await asked(engine, ["b", "c", "a"].index(name) + 1)
            await clock.advance(1)
        assert [question.run_id for question in await engine.pending()] == ["b", "c", "a"]
        await engine.cancel("c")
        assert [question.run_id for question in await engine.pending()] == ["b", "a"]
    async with Engine(store) as engine:
        assert [question.run_id for question in await engine.pending()] == ["b", "a"]


async def test_a_failed_run_keeps_its_questions_and_applies_an_answer_after_its_resume() -> None:
    g, fails = Graph("g"), [True]

    async def pays(order: Order) -> str:
        return f"paid {order.amount}"

    async def breaks(order: Order) -> str:
        await asked(engine)
        if fails:
            fails.clear()
            raise OSError
        return "mended"

    g.add(step("pay", pays, requires_approval=True))
    g.add(step("break", breaks))
    g.join("all")
    g.fan_out("both", to=["pay", "break"], join="all")
    g.edge(START, "both")
    g.edge("all", END)
    async with Engine() as engine:
        run = await engine.start(g, Order(amount=5), run_id=RUN)
        with pytest.raises(RunFailed, match="OSError"):
            await run.result(60)
        question = await only(engine)
        run = await engine.resume(RUN)
        assert await only(engine) == question
        async with asyncio.timeout(60):
            while await run.status() is not RunStatus.waiting:  # noqa: ASYNC110  # a status is not announced
                await asyncio.sleep(0.001)
        await engine.answer(RUN, question.id, "approve")
        assert await run.result(60) == ["paid 5", "mended"]
        assert await engine.pending() == []


async def parked(store: MemoryStore, pay: Counted) -> Question:
    async with Engine(store) as engine:
        await engine.start(paying(pay), Order(amount=5), run_id=RUN)
        return await only(engine)


async def fork_of(engine: Engine, seq: int) -> Run:
    return await engine.fork(RUN, seq, run_id_new="fork")


@pytest.mark.parametrize("when", ["pending", "answered", "completed"])
async def test_a_fork_of_a_parked_run_asks_again(when: str) -> None:
    store, pay = MemoryStore(), Counted()
    question = await parked(store, pay)
    async with Engine(store) as engine:
        engine.register(paying(pay))
        if when != "pending":
            await engine.answer(RUN, question.id, "modify", {"amount": 1})
        if when == "completed":
            assert await (await engine.resume(RUN)).result(60) == "paid 1 to ada"
        fork = await fork_of(engine, 1)
        pending = {q.run_id: q for q in await engine.pending()}
        assert set(pending) == {"fork"} | ({RUN} if when == "pending" else set())
        assert (pending["fork"].id, pending["fork"].value) == (question.id, Order(amount=5))
        await engine.answer("fork", question.id, "modify", {"amount": 2})
        assert await fork.result(60) == "paid 2 to ada"
        assert [q.run_id for q in await engine.pending()] == ([RUN] if when == "pending" else [])


async def test_a_fork_accepts_the_answer_to_a_question_asked_again_in_its_source() -> None:
    store, pay = MemoryStore(), Counted()
    async with Engine(store) as owner, Engine(store) as other:
        run = await owner.start(paying(pay), Order(amount=5), run_id=RUN)
        question = await only(other)
        await other.answer(RUN, question.id, "modify", {"amount": "many"})
        asked_twice = [event.seq async for event in _until_asked_twice(run)][-1]
        fork = await fork_of(owner, asked_twice)
        await owner.answer("fork", question.id, "approve")
        assert await fork.result(60) == "paid 5 to ada"


async def test_a_question_contains_a_large_value_in_full() -> None:
    async def same(value: str) -> str:
        return value

    async with Engine() as engine:
        run = await engine.start(Workflow("w", step("same", same, requires_approval=True)), "x" * 100_000, run_id=RUN)
        question = await only(engine)
        assert question.value == "x" * 100_000
        await engine.answer(RUN, question.id, "modify", "y" * 100_000)
        assert await run.result(60) == "y" * 100_000


async def test_no_index_entry_is_left_behind() -> None:
    store = MemoryStore()
    async with Engine(store) as engine:
        run = await engine.start(paying(Counted()), Order(amount=5), run_id=RUN)
        question = await only(engine)
        assert store.get(Keys(RUN).question(question.id)) is not None
        await engine.answer(RUN, question.id, "approve")
        await run.result(60)
    assert list(store.scan(b"B")) == []
    assert list(store.scan(b"U")) == []


# Building.


@dataclass
class Case:
    make: Callable[[], Any]
    error: type[Exception]
    text: str


async def pays(order: Order) -> str:
    return ""


def named_like_the_question() -> None:
    Workflow("w", step("pay", pays, requires_approval=True), step("pay.approval", pays)).plan()


@pytest.mark.parametrize(
    "case",
    [
        Case(
            lambda: step("pay", pays, requires_approval="yes"),
            TypeError,
            "step 'pay': requires_approval='yes'; give True, or a function that returns a bool",
        ),
        Case(
            named_like_the_question,
            DuplicateNode,
            "graph 'w', node 'pay.approval': 'pay' requires approval, and the node that asks for it has this name; "
            "choose another name",
        ),
        Case(
            lambda: Graph("g").wait("w", "approval:x"),
            BadName,
            "graph 'g', node 'w': it waits for 'approval:x', a name that is reserved for a person's answer; "
            "choose another signal",
        ),
        Case(
            lambda: Workflow("w", wait_signal("approval:x")).plan(),
            BadName,
            "graph 'w', node 'approval:x': it waits for 'approval:x', a name that is reserved for a person's "
            "answer; choose another signal",
        ),
    ],
    ids=lambda case: case.error.__name__,
)
def test_an_invalid_approval_is_refused_when_it_is_built(case: Case) -> None:
    with pytest.raises(case.error) as caught:
        case.make()
    assert str(caught.value) == case.text


def test_types_are_checked_across_a_question() -> None:
    async def number(value: int) -> int:
        return value

    with pytest.raises(Exception, match=r"'number' gives int and 'pay\.approval' takes Order"):
        Workflow("w", number, step("pay", pays, requires_approval=True)).plan()


def test_a_question_is_drawn() -> None:
    assert Workflow("w", step("pay", pays, requires_approval=lambda order: True)).ascii() == (
        "  ● START\n"
        "  ↓\n"
        "  pay.asks      choice\n"
        "  ├ ? False ─────────────────────────┐\n"
        "  ↓ ? True                           │\n"
        "  pay.approval  wait, asks a person  │\n"
        "  ↓                                  │\n"
        "  pay           function ◂───────────┘\n"
        "  ↓\n"
        "  ◉ END\n"
        "\n"
        "? conditional\n"
    )


def test_the_fingerprint_of_a_flow_without_questions_is_unchanged() -> None:
    plain = Workflow("w", step("pay", pays)).plan().shape.to_plain()
    assert all("asks" not in node for node in plain["nodes"])
